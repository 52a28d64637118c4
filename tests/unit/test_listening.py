"""`::` listens for both families, as pods have them: IPv4, IPv6, or both."""

from __future__ import annotations

import json
import socket
import urllib.request

import pytest

from shared.telemetry.health import HealthServer
from shared.telemetry.listening_sockets import listening_socket


@pytest.mark.parametrize("host", ["::", ""])
def test_every_address_means_both_families(host: str) -> None:
    with listening_socket(host, 0) as listening:
        port = listening.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), timeout=5).close()


def test_one_address_is_that_address() -> None:
    with listening_socket("127.0.0.1", 0) as listening, pytest.raises(OSError):
        socket.create_connection(("::1", listening.getsockname()[1]), timeout=5)


def test_where_the_machine_has_no_ipv6_it_is_every_address_of_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening_socket("::", 0) as listening:
        socket.create_connection(("127.0.0.1", listening.getsockname()[1]), timeout=5).close()


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_health_is_told_to_probes_of_either_family(address: str) -> None:
    with (
        HealthServer("::", 0) as server,
        urllib.request.urlopen(f"http://{address}:{server.port}/healthz", timeout=5) as answer,
    ):
        assert json.load(answer)["status"] == "ok"
