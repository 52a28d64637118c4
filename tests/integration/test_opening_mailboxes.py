"""Opening a mailbox: each failure says its step, its code and what to do."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.connections import Mode, TransportSecurity
from shared.errors import NeedsPerson, TryAgain
from shared.mailbox.failures import StepFailed
from shared.mailbox.net import connect
from tests.integration.mail_sessions import connection_to, failure, opened
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.scripted import Conversation, Script, ScriptedServer, imap, pop3

TLS, STARTTLS, NONE = TransportSecurity.TLS, TransportSecurity.STARTTLS, TransportSecurity.NONE
BOTH = pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])


def port_of(server: Dovecot, mode: Mode, security: TransportSecurity) -> int:
    if security is TLS:
        return server.imaps_port if mode is Mode.IMAP else server.pop3s_port
    return server.imap_port if mode is Mode.IMAP else server.pop3_port


# ---- dns and tcp


@pytest.mark.promise("M14")
@BOTH
def test_an_unknown_host(mode: Mode) -> None:
    error = failure(993, mode, host="mail.does-not-exist.invalid")
    assert (error.step, error.code) == ("dns", "unknown-host")
    assert "mail.does-not-exist.invalid" in str(error)
    assert error.hint


@pytest.mark.promise("M8")
def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(3))
    began = time.monotonic()
    error = failure(993, host="slow.example.org", timeout_ms=200)
    assert (error.step, error.code) == ("dns", "dns-timeout")
    assert time.monotonic() - began < 2.5


@pytest.mark.promise("M14")
def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    error = failure(port)
    assert (error.step, error.code) == ("tcp", "connection-refused")
    assert isinstance(error, TryAgain)
    assert any("127.0.0.1" in line for line in error.transcript)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A listener that accepts nobody: further connections get no answer at all."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        held = [socket.socket() for _ in range(4)]
        for sock in held:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for sock in held:
                sock.close()


@pytest.mark.promise("M8")
def test_a_host_that_does_not_answer() -> None:
    with full_backlog() as port:
        error = failure(port, timeout_ms=300)
    assert (error.step, error.code) == ("tcp", "connect-timeout")
    assert "0.3 s" in str(error)


@pytest.mark.promise("M14")
def test_forbidden_addresses_are_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def allow(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        asked.append(str(address))
        return not address.is_loopback

    resolved: list[str] = []

    def look_up(host: str, *_: object) -> list[Any]:
        resolved.append(host)
        return [ipaddress.ip_address("127.0.0.1")]

    monkeypatch.setattr(connect, "_look_up", look_up)
    with ScriptedServer(imap()) as server:
        for host in ("127.0.0.1", "rebinding.example.org"):
            with (
                pytest.raises(StepFailed) as caught,
                opened(connection_to(server.port, host=host), allow_host=allow),
            ):
                pass
            assert (caught.value.step, caught.value.code) == ("dns", "host-forbidden")
        assert server.connections == 0
        with opened(connection_to(server.port, host="name.example.org"), allow_host=lambda _: True):
            pass
    assert asked == ["127.0.0.1", "127.0.0.1"]
    assert resolved.count("name.example.org") == 1  # checked and connected to, not looked up twice


# ---- tls


@pytest.mark.promise("M3")
@BOTH
@pytest.mark.parametrize("security", [TLS, STARTTLS])
def test_a_private_ca_is_trusted_where_it_is_given(
    dovecot: Dovecot, authority: Authority, mail_user: str, mode: Mode, security: TransportSecurity
) -> None:
    port = port_of(dovecot, mode, security)
    usual: dict[str, Any] = {"security": security, "username": mail_user, "host": "localhost"}
    error = failure(port, mode, **usual)
    assert (error.step, error.code) == ("tls", "certificate-untrusted")
    assert isinstance(error, NeedsPerson)
    assert "private CA" in error.hint
    with opened(connection_to(port, mode, ca_certificate=authority.pem, **usual)) as mailbox:
        assert mailbox.open("").total == 0
    with opened(connection_to(port, mode, verify_certificate=False, **usual)) as mailbox:
        assert mailbox.open("").total == 0


@pytest.mark.promise("M3")
@BOTH
@pytest.mark.parametrize(
    ("names", "expired", "code", "verdict"),
    [
        (("localhost",), True, "certificate-expired", TryAgain),
        (("mail.example.org",), False, "certificate-wrong-host", NeedsPerson),
    ],
)
def test_certificates_that_are_not_good(
    authority: Authority,
    mode: Mode,
    names: tuple[str, ...],
    expired: bool,
    code: str,
    verdict: type[Exception],
) -> None:
    script = imap() if mode is Mode.IMAP else pop3()
    with ScriptedServer(script, tls=authority.issue(*names, expired=expired)) as server:
        usual: dict[str, Any] = {"security": TLS, "host": "localhost"}
        error = failure(server.port, mode, ca_certificate=authority.pem, **usual)
        assert (error.step, error.code) == ("tls", code)
        assert isinstance(error, verdict)
        assert not server.heard
        with opened(connection_to(server.port, mode, verify_certificate=False, **usual)):
            pass


@pytest.mark.promise("M3")
def test_a_private_ca_that_is_none() -> None:
    with ScriptedServer(imap()) as server:
        error = failure(
            server.port,
            security=TLS,
            ca_certificate="-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
        )
    assert (error.step, error.code) == ("tls", "ca-unreadable")


@pytest.mark.promise("M3")
@pytest.mark.parametrize(
    ("mode", "script"),
    [
        (Mode.IMAP, imap()),
        (Mode.IMAP, imap({"STARTTLS": lambda t, tag, _: t.send(tag + b" NO not today\r\n")},
                         capability=b"IMAP4rev1 STARTTLS")),
        (Mode.IMAP, imap(greeting=b"* PREAUTH welcome back\r\n")),
        (Mode.POP3, pop3({"STLS": b"-ERR unknown command\r\n"})),
    ],
)  # fmt: skip
def test_starttls_refused_is_an_error_and_no_password_is_sent(mode: Mode, script: Script) -> None:
    with ScriptedServer(script) as server:
        error = failure(server.port, mode, security=STARTTLS)
        heard = b"\n".join(server.heard)
    assert error.code in ("starttls-refused", "preauth")
    assert isinstance(error, NeedsPerson)
    assert b"secret" not in heard
    assert b"LOGIN" not in heard
    assert b"PASS" not in heard


@BOTH
@pytest.mark.promise("M3")
def test_plain_text_behind_the_agreement_to_starttls_is_refused(
    mode: Mode, authority: Authority
) -> None:
    """Octets put in before the handshake would count as said under encryption."""

    def inject(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if mode is Mode.IMAP:
            talk.send(tag + b" OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")
        else:
            talk.send(b"+OK begin\r\n+OK\r\nSASL PLAIN\r\n.\r\n")
        talk.start_tls(authority.issue("localhost"))

    script = (
        imap({"STARTTLS": inject}, capability=b"IMAP4rev1 STARTTLS")
        if mode is Mode.IMAP
        else pop3({"STLS": inject}, capabilities=b"UIDL\r\nSTLS\r\n")
    )
    with ScriptedServer(script) as server:
        error = failure(server.port, mode, security=STARTTLS, host="localhost")
    assert error.code == "protocol-error"


def test_tls_to_a_port_that_speaks_plainly_and_the_reverse(
    dovecot: Dovecot, authority: Authority
) -> None:
    error = failure(dovecot.imap_port, security=TLS)
    assert (error.step, error.code) == ("tls", "tls-failed")
    assert "STARTTLS" in error.hint
    error = failure(dovecot.imaps_port, security=NONE, timeout_ms=500)
    assert (error.step, error.code) == ("greeting", "greeting-timeout")
    assert "TLS" in error.hint


# ---- greeting


@BOTH
@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        (b"220 smtp.example.org ESMTP\r\n", "not-{mode}"),
        (b"\x16\x03\x01\0\0\0\r\n", "not-{mode}"),
        (b"A" * 2_000_000, "protocol-error"),
    ],
)
def test_a_greeting_of_something_else(mode: Mode, greeting: bytes, code: str) -> None:
    with ScriptedServer(lambda talk: (talk.send(greeting), talk.say_nothing())[0]) as server:
        error = failure(server.port, mode, timeout_ms=2000)
    assert (error.step, error.code) == ("greeting", code.format(mode=mode.value))


def test_one_protocol_where_the_other_is_expected(dovecot: Dovecot) -> None:
    assert "POP3" in str(failure(dovecot.pop3_port, Mode.IMAP))
    assert "IMAP" in str(failure(dovecot.imap_port, Mode.POP3))


@pytest.mark.parametrize(
    ("mode", "greeting"),
    [
        (Mode.IMAP, b"* BYE too many connections\r\n"),
        (Mode.POP3, b"-ERR too many connections\r\n"),
    ],
)
def test_a_server_that_has_no_room(mode: Mode, greeting: bytes) -> None:
    with ScriptedServer(lambda talk: talk.send(greeting)) as server:
        error = failure(server.port, mode)
    assert (error.step, error.code) == ("greeting", "too-many-connections")
    assert isinstance(error, TryAgain)
    assert "too many connections" in str(error)
    assert "tried again by itself" in error.hint


@pytest.mark.promise("M8")
@BOTH
@pytest.mark.parametrize("octets", [b"", b"* OK trickling " * 3])
def test_a_silent_or_trickling_greeting_is_bounded_by_the_timeout(
    mode: Mode, octets: bytes
) -> None:
    def script(talk: Conversation) -> None:
        for position in range(len(octets)):
            talk.send(octets[position : position + 1])
            time.sleep(0.05)
        talk.say_nothing()

    with ScriptedServer(script) as server:
        error = failure(server.port, mode, timeout_ms=400)
    assert (error.step, error.code) == ("greeting", "greeting-timeout")
