"""Servers of the tests listen on ports that no other one of them gets."""

from __future__ import annotations

import itertools
import socket

import pytest

from tests.servers import processes
from tests.servers.processes import free_port, ports_of


def test_test_processes_side_by_side_have_ports_of_their_own() -> None:
    parts = [{*itertools.islice(ports_of(f"gw{number}"), 5000)} for number in range(8)]
    assert all(len(ports) > 2000 for ports in parts)
    assert len(set[int]().union(*parts)) == sum(map(len, parts))
    assert {*itertools.islice(ports_of("gw8"), 5000)} == parts[0]


def test_no_port_comes_again_soon() -> None:
    for worker in ("", "gw1"):
        ports = [*itertools.islice(ports_of(worker), 2000)]
        assert len({*ports}) == len(ports)


def test_a_port_on_which_somebody_listens_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        monkeypatch.setattr(processes, "_OWN_PORTS", itertools.chain([taken], ports_of("")))
        assert free_port() != taken
