"""A mail server of several addresses: one that does not answer, or fails, holds up nothing.

For an administrator: while one of them serves, nothing fails; the protocol log names the others.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from shared.connections import TransportSecurity
from shared.mailbox.net import connect
from tests.integration.mail_sessions import connection_to, failure, opened
from tests.servers.certificates import Authority
from tests.servers.scripted import ScriptedServer, imap

TLS = TransportSecurity.TLS


def test_the_next_address_is_tried_and_the_time_is_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """IPv6 first, where nobody listens; a second address that is silent; then the right one."""
    with ScriptedServer(imap()) as server:
        monkeypatch.setattr(
            connect,
            "_look_up",
            lambda *_: [ipaddress.ip_address(a) for a in ("::1", "127.0.0.2", "127.0.0.1")],
        )
        with opened(connection_to(server.port, host="mail.example.org")) as mailbox:
            assert mailbox.is_alive()
            log = "\n".join(mailbox.transcript)
    assert "::1" in log
    assert f"connected to 127.0.0.1 port {server.port}" in log


def test_a_silent_address_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8305: the next address is tried beside it, and nobody waits for it to fail."""
    with ScriptedServer(imap()) as server, socket.socket() as silent:
        silent.bind(("127.0.0.2", server.port))
        silent.listen(0)
        held = [socket.socket() for _ in range(4)]
        for sock in held:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.2", server.port))
        found = [ipaddress.ip_address(text) for text in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(connect, "_look_up", lambda *_: found)
        with opened(connection_to(server.port, host="mail.example.org")) as mailbox:
            log = "\n".join(mailbox.transcript)
        for sock in held:
            sock.close()
    assert f"connected to 127.0.0.1 port {server.port}" in log
    assert "127.0.0.2" not in log, "it neither failed nor ran out of time"


@contextmanager
def ending(address: str, port: int, *, reset: threading.Event | None = None) -> Iterator[list[int]]:
    """A machine behind the name that takes connections and ends them before TLS is begun, or resets
    them from then on; the list has one element for each."""
    taken: list[int] = []
    with socket.create_server((address, port)) as listener:

        def end_all() -> None:
            with suppress(OSError):
                while True:
                    sock = listener.accept()[0]
                    taken.append(len(taken))
                    if reset is not None and reset.wait(10):
                        at_once = struct.pack("ii", 1, 0)  # SO_LINGER of no second: RST, not FIN
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                    sock.close()

        thread = threading.Thread(target=end_all, daemon=True)
        thread.start()
        try:
            yield taken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.promise("M8", "M14")
def test_where_tls_fails_at_one_address_another_one_is_tried(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are resolved in the same order each time: nothing would ever come."""
    name = "mail.example.org"
    tls: dict[str, Any] = {"host": name, "security": TLS, "ca_certificate": authority.pem}

    def found(*addresses: str) -> None:
        numbers = [ipaddress.ip_address(one) for one in addresses]
        monkeypatch.setattr(connect, "_look_up", lambda *_: numbers)

    with ScriptedServer(imap(), tls=authority.issue(name)) as server:
        with ending("127.0.0.2", server.port):
            found("127.0.0.2", "127.0.0.1")
            with opened(connection_to(server.port, **tls)) as mailbox:
                assert mailbox.is_alive()
                log = "\n".join(mailbox.transcript)
            assert f"connected to 127.0.0.2 port {server.port}" in log
            assert "no TLS at 127.0.0.2" in log
            found("127.0.0.2", "127.0.0.3")  # nobody listens at the second one
            error = failure(server.port, **tls)
            assert (error.step, error.code) == ("tls", "tls-failed")
        found("127.0.0.1", "127.0.0.1")
        error = failure(server.port, **{**tls, "ca_certificate": None})
        assert (error.step, error.code) == ("tls", "certificate-untrusted")


@pytest.mark.promise("M8", "M14")
def test_an_address_that_resets_connections_is_left_for_the_next_one(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again: such a socket does not even say any more where it was connected to."""
    name, connected = "mail.example.org", threading.Event()
    tls: dict[str, Any] = {"host": name, "security": TLS, "ca_certificate": authority.pem}
    found = [ipaddress.ip_address(text) for text in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(connect, "_look_up", lambda *_: found)
    keep_alive = connect._keep_alive

    def wait_for_reset(sock: socket.socket) -> None:
        keep_alive(sock)
        if not connected.is_set():
            connected.set()
            ended = select.poll()
            ended.register(sock, 0)
            assert ended.poll(10_000), "its RST came"

    monkeypatch.setattr(connect, "_keep_alive", wait_for_reset)
    with (
        ScriptedServer(imap(), tls=authority.issue(name)) as server,
        ending("127.0.0.2", server.port, reset=connected) as taken,
        opened(connection_to(server.port, **tls)) as mailbox,
    ):
        assert mailbox.is_alive()
    assert len(taken) == 1
