"""Half a request is given up, and costs others nothing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.admin import request_timeouts
from tests.integration.api.conftest import TOKEN, Api
from tests.servers.postgres import PostgresServer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_timeouts, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(request_timeouts, "BODY_SECONDS", 0.5)


def connected(api: Api) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=30)


@pytest.mark.promise("T1")
@pytest.mark.parametrize("begun", [b"", b"GET /login HT", b"GET /login HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(api: Api, begun: bytes) -> None:
    with connected(api) as half:
        half.sendall(begun)
        assert half.recv(100) == b""


def test_a_second_request_on_a_connection_is_no_different(api: Api) -> None:
    with connected(api) as half:
        half.sendall(b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert half.recv(10_000).startswith(b"HTTP/1.1 200")
        half.sendall(b"GET /logi")
        rest = b""
        while chunk := half.recv(10_000):
            rest += chunk
        assert not rest.startswith(b"HTTP/1.1 200")


@pytest.mark.promise("T1")
def test_a_body_that_does_not_come_is_answered(api: Api) -> None:
    with connected(api) as half:
        half.sendall(
            b"POST /api/v1/connections HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\n\r\n{" % TOKEN.encode()
        )
        assert half.recv(100).startswith(b"HTTP/1.1 408")


@pytest.fixture
def small(
    postgres: PostgresServer,
    schema_template: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Api]:
    """A service that has room for few connections, and waits for long."""
    monkeypatch.setattr(request_timeouts, "HEAD_SECONDS", 600.0)
    monkeypatch.setattr(request_timeouts, "BODY_SECONDS", 600.0)
    monkeypatch.setattr(request_timeouts, "CONNECTIONS", 20)
    url = postgres.create_database(schema_template)
    with Api(url, tmp_path) as running:
        yield running
    postgres.drop_database(url)


@pytest.mark.promise("T1")
@pytest.mark.parametrize(
    "begun",
    [
        b"GET /login HT",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\na",
    ],
    ids=["head", "body"],
)
def test_many_connections_that_wait_keep_nobody_out(small: Api, begun: bytes) -> None:
    """Whoever has let us wait longest makes room, and who is at work does not."""
    with contextlib.ExitStack() as opened:
        for _ in range(request_timeouts.CONNECTIONS - 1):
            half = opened.enter_context(connected(small))
            half.sendall(begun)
        assert httpx.get(f"{small.url}/login", timeout=30).status_code == 200


@pytest.mark.promise("T1")
def test_a_body_of_nobody_is_small(api: Api) -> None:
    """Five hundred at a time hold little memory."""
    with connected(api) as nobody:
        nobody.sendall(
            b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20000\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        )
        assert nobody.recv(100).startswith(b"HTTP/1.1 400")


def test_an_answer_that_takes_long_is_not_cut(api: Api, on_dovecot: dict[str, object]) -> None:
    """The time is for what the caller has to send, not for what we do about it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        body = on_dovecot | {"port": silent.getsockname()[1], "timeout_ms": 2000}
        report = api.http.post("connections/test", json=body)
    assert report.status_code == 200
    assert report.json()["ok"] is False
