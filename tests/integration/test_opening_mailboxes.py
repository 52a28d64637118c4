"""Opening a mailbox: each failure says its step, its code and what to do."""

from __future__ import annotations

import base64
import ipaddress
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.connections import Mode, TransportSecurity
from shared.errors import NeedsPerson, TryAgain
from shared.mailbox import connect
from shared.mailbox.base import Login, OAuthRefused, StepFailed
from shared.mailbox.open import open_mailbox
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.scripted import Conversation, Script, ScriptedServer, imap, pop3

TLS, STARTTLS, NONE = TransportSecurity.TLS, TransportSecurity.STARTTLS, TransportSecurity.NONE
BOTH = pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])


def failure(port: int, mode: Mode = Mode.IMAP, *, password: str = "secret", **changes: Any) -> Any:
    """How opening fails; a StepFailed with everything that a person needs."""
    with (
        pytest.raises(StepFailed) as caught,
        opened(connection_to(port, mode, **changes), password=password),
    ):
        pass
    error: Any = caught.value
    assert str(error)
    return error


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


@pytest.mark.promise("M3")
def test_plain_text_behind_the_agreement_to_starttls_is_refused(authority: Authority) -> None:
    """Octets put in before the handshake would count as said under encryption."""

    def inject(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")
        talk.start_tls(authority.issue("localhost"))

    script = imap({"STARTTLS": inject}, capability=b"IMAP4rev1 STARTTLS")
    with ScriptedServer(script) as server:
        error = failure(server.port, security=STARTTLS, host="localhost")
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
    assert (error.step, error.code) == ("greeting", "server-refused")
    assert isinstance(error, TryAgain)
    assert "too many connections" in str(error)


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


# ---- login


@pytest.mark.promise("M14")
@BOTH
def test_a_wrong_password(dovecot: Dovecot, mode: Mode) -> None:
    error = failure(port_of(dovecot, mode, NONE), mode, password="wrong-and-secret")
    assert (error.step, error.code) == ("login", "login-refused")
    assert isinstance(error, NeedsPerson)
    assert error.hint
    log = "\n".join(error.transcript)
    assert "alice" in log
    assert "wrong-and-secret" not in log + str(error)


@pytest.mark.parametrize(
    ("mode", "answer", "code"),
    [
        (Mode.IMAP, b"NO [UNAVAILABLE] Temporary authentication failure.", "login-unavailable"),
        (Mode.IMAP, b"NO [ALERT] Too many simultaneous connections.", "too-many-connections"),
        (Mode.IMAP, b"NO [AUTHENTICATIONFAILED] Invalid, try again.", "login-refused"),
        (Mode.IMAP, b"NO LOGIN failed.", "login-refused"),
        (Mode.IMAP, b"BAD syntax", "login-refused"),
        (Mode.POP3, b"-ERR [AUTH] Authentication failed.", "login-refused"),
        (Mode.POP3, b"-ERR [SYS/TEMP] Temporary failure.", "login-unavailable"),
        (Mode.POP3, b"-ERR [LOGIN-DELAY] minimum time between checks", "login-unavailable"),
        (Mode.POP3, b"-ERR [IN-USE] Do you have another POP session running?", "mailbox-in-use"),
        (Mode.POP3, b"-ERR Unable to lock maildrop", "mailbox-in-use"),
        (Mode.POP3, b"-ERR invalid user or password", "login-refused"),
    ],
)
def test_what_a_refused_login_means(mode: Mode, answer: bytes, code: str) -> None:
    def refuse(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send((tag + b" " if tag else b"") + answer + b"\r\n")

    script = imap({"LOGIN": refuse}) if mode is Mode.IMAP else pop3({"PASS": refuse})
    with ScriptedServer(script) as server:
        error = failure(server.port, mode)
    assert error.code == code
    assert error.step in ("login", "authorisation")
    assert isinstance(error, NeedsPerson if code == "login-refused" else TryAgain)


def test_a_server_that_echoes_the_password_does_not_get_it_into_our_words() -> None:
    def echo(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* OK you said " + rest + b"\r\n" + tag + b" NO bad: " + rest + b"\r\n")

    with ScriptedServer(imap({"LOGIN": echo})) as server:
        error = failure(server.port, password='pa"ss\\w0rd')
    assert 'pa"ss' not in str(error) + "\n".join(error.transcript)
    assert 'pa\\"ss' not in str(error) + "\n".join(error.transcript)


@pytest.mark.parametrize("password", ["simple", 'quote " back \\ slash', "ümläut", "日本", "100%"])
def test_passwords_go_out_verbatim(password: str) -> None:
    for capability in (b"IMAP4rev1", b"IMAP4rev1 LITERAL+", b"IMAP4rev1 SASL-IR AUTH=PLAIN"):
        got: list[bytes] = []

        def login(talk: Conversation, tag: bytes, rest: bytes, got: list[bytes] = got) -> None:
            if rest.endswith(b"}"):
                if not rest.endswith(b"+}"):
                    talk.send(b"+ go on\r\n")
                rest = rest.partition(b" ")[0] + b" " + talk.line()
            got.append(rest)
            talk.ok(tag)

        script = imap({"LOGIN": login, "AUTHENTICATE": login}, capability=capability)
        with (
            ScriptedServer(script) as server,
            opened(connection_to(server.port, username="alice"), password=password),
        ):
            pass
        said = got[0]
        if said.startswith(b"PLAIN "):
            assert base64.b64decode(said[6:]) == f"\0alice\0{password}".encode()
        elif password.isascii():
            quoted = password.replace("\\", "\\\\").replace('"', '\\"')
            assert said == f'"alice" "{quoted}"'.encode()
        else:
            assert said == b'"alice" ' + password.encode()


def test_no_password_goes_where_the_server_wants_none() -> None:
    script = imap(capability=b"IMAP4rev1 LOGINDISABLED STARTTLS")
    with ScriptedServer(script) as server:
        error = failure(server.port)
        assert (error.step, error.code) == ("login", "plaintext-login-refused")
        assert not any(b"secret" in line for line in server.heard)


@pytest.mark.promise("M11")
@BOTH
@pytest.mark.parametrize(
    ("username", "shared", "expected"),
    [
        ("CORP\\alice", "support", "CORP\\alice\\support"),
        ("CORP/alice", "support", "CORP/alice/support"),
        ("alice@example.org", "support", "alice@example.org/support"),
        ("alice@example.org", "support@example.org", "alice@example.org/support@example.org"),
        ("CORP\\alice\\support", "support", "CORP\\alice\\support"),
        ("CORP\\alice\\support", None, "CORP\\alice\\support"),
        ("alice", None, "alice"),
    ],
)
def test_names_for_a_shared_mailbox(
    mode: Mode, username: str, shared: str | None, expected: str
) -> None:
    script = imap() if mode is Mode.IMAP else pop3()
    with ScriptedServer(script) as server:
        connection = connection_to(server.port, mode, username=username, shared_mailbox=shared)
        with opened(connection):
            pass
        heard = b"\n".join(server.heard).decode()
    if mode is Mode.IMAP:
        quoted = expected.replace("\\", "\\\\")
        assert f'LOGIN "{quoted}" "secret"' in heard
    else:
        assert f"USER {expected}\n" in heard


@pytest.mark.promise("M11")
@pytest.mark.parametrize("separator", ["\\", "/"])
def test_a_shared_mailbox_with_a_password_on_a_real_server(
    dovecot: Dovecot, mail_user: str, separator: str
) -> None:
    """The server knows the mailbox by the whole form, octet for octet, and by no other name."""
    person = f"CORP{separator}{mail_user}"
    dovecot.deliver(f"{person}{separator}support", [b"Subject: shared\r\n\r\n"])
    typed = {"username": person, "shared_mailbox": "support"}
    with opened(connection_to(dovecot.imap_port, Mode.IMAP, **typed)) as mailbox:
        assert mailbox.open("").total == 1
    with opened(connection_to(dovecot.imap_port, Mode.IMAP, username=person)) as mailbox:
        assert mailbox.open("").total == 0


# ---- OAuth2


def bearer_server(mode: Mode, valid: str, capability: bytes, seen: list[bytes]) -> Script:
    """A server that takes one token and explains the refusal of any other."""
    refusal = base64.b64encode(json.dumps({"status": "401", "schemes": "bearer"}).encode())

    def authenticate(talk: Conversation, tag: bytes, rest: bytes) -> None:
        mechanism, _, message = rest.partition(b" ")
        if not message:
            talk.send(b"+ \r\n")
            message = talk.line()
        seen.append(mechanism + b" " + base64.b64decode(message))
        prefix = tag + b" " if tag else b""
        if f"Bearer {valid}\x01".encode() in seen[-1]:
            talk.send(prefix + (b"OK in\r\n" if tag else b"+OK in\r\n"))
            return
        talk.send(b"+ " + refusal + b"\r\n")
        seen.append(talk.line())
        talk.send(prefix + (b"NO SASL failed\r\n" if tag else b"-ERR [AUTH] SASL failed\r\n"))

    if mode is Mode.POP3:
        return pop3(
            {"AUTH": authenticate}, capabilities=b"UIDL\r\nTOP\r\nSASL " + capability + b"\r\n"
        )
    return imap({"AUTHENTICATE": authenticate}, capability=b"IMAP4rev1 UIDPLUS " + capability)


def tokens(*given: str) -> tuple[Callable[[bool], str], list[bool]]:
    asked: list[bool] = []

    def access_token(renew: bool) -> str:
        asked.append(renew)
        return given[min(len(asked), len(given)) - 1]

    return access_token, asked


@pytest.mark.promise("M11")
@pytest.mark.parametrize(
    ("mode", "capability", "expected"),
    [
        (
            Mode.IMAP,
            b"AUTH=XOAUTH2 SASL-IR",
            b"XOAUTH2 user=shared@x.org\x01auth=Bearer good\x01\x01",
        ),
        (Mode.IMAP, b"AUTH=XOAUTH2", b"XOAUTH2 user=shared@x.org\x01auth=Bearer good\x01\x01"),
        (Mode.IMAP, b"AUTH=OAUTHBEARER SASL-IR", b"OAUTHBEARER n,a=shared@x.org,\x01host="),
        (Mode.POP3, b"XOAUTH2", b"XOAUTH2 user=shared@x.org\x01auth=Bearer good\x01\x01"),
    ],
)
def test_a_bearer_token_opens_the_shared_mailbox(
    mode: Mode, capability: bytes, expected: bytes
) -> None:
    seen: list[bytes] = []
    access_token, asked = tokens("good")
    with ScriptedServer(bearer_server(mode, "good", capability, seen)) as server:
        connection = connection_to(
            server.port, mode, username="alice@x.org", shared_mailbox="shared@x.org"
        )
        mailbox = open_mailbox(connection, Login("alice@x.org", access_token=access_token))
        log = "\n".join(mailbox.transcript)
        mailbox.close()
    assert len(seen) == 1
    assert seen[0].startswith(expected)
    assert asked == [False]
    assert "good" not in log
    assert base64.b64encode(seen[0].partition(b" ")[2]).decode() not in log


@pytest.mark.promise("A4")
@BOTH
def test_a_refused_token_is_renewed_once(mode: Mode) -> None:
    capability = b"XOAUTH2" if mode is Mode.POP3 else b"AUTH=XOAUTH2 SASL-IR"
    access_token, asked = tokens("stale", "fresh")
    with ScriptedServer(bearer_server(mode, "fresh", capability, [])) as server:
        login = Login("alice", access_token=access_token)
        open_mailbox(connection_to(server.port, mode), login).close()
    assert asked == [False, True]


@pytest.mark.promise("A5")
@BOTH
def test_the_providers_refusal_is_decoded(mode: Mode) -> None:
    capability = b"XOAUTH2" if mode is Mode.POP3 else b"AUTH=XOAUTH2 SASL-IR"
    seen: list[bytes] = []
    access_token, asked = tokens("revoked-token")
    login = Login("alice", access_token=access_token)
    with (
        ScriptedServer(bearer_server(mode, "another", capability, seen)) as server,
        pytest.raises(StepFailed) as caught,
    ):
        open_mailbox(connection_to(server.port, mode), login)
    error = caught.value
    assert error.step == "authorisation"
    assert isinstance(error, NeedsPerson)
    answer = error.__cause__
    assert isinstance(answer, OAuthRefused)
    assert answer.details == {"status": "401", "schemes": "bearer"}
    assert "SASL failed" in answer.server_text
    assert asked == [False, True]
    assert seen[1] == b""  # the empty answer that the refusal asks for
    assert "revoked-token" not in str(error) + "\n".join(error.transcript)
