"""Logging in, with a password or a token: each refusal says what it means and what to do."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from shared.connections import Mode, TransportSecurity
from shared.errors import NeedsPerson, TryAgain
from shared.mailbox.failures import Unreachable
from shared.mailbox.net.scram import Scram
from tests.integration.mail_sessions import connection_to, failure, opened
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot
from tests.servers.scripted import Answer, Conversation, ScriptedServer, imap, pop3

BOTH = pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])


@pytest.mark.promise("M14")
@BOTH
def test_a_wrong_password(dovecot: Dovecot, mode: Mode) -> None:
    port = dovecot.imap_port if mode is Mode.IMAP else dovecot.pop3_port
    error = failure(port, mode, password="wrong-and-secret")
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
        (Mode.POP3, b"-ERR [LOGIN-DELAY] minimum time between checks", "login-delay"),
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


@pytest.fixture(scope="module")
def scram_dovecot() -> Iterator[Dovecot]:
    """On 127.0.0.2 it takes no password in plain text, as the client's address is another one."""
    extra = "disable_plaintext_auth = yes\nlisten = 127.0.0.1, 127.0.0.2\n"
    with Dovecot(mechanisms=("plain", "login", "scram-sha-256"), extra=extra) as server:
        yield server


@pytest.mark.promise("M2")
@BOTH
def test_scram_where_a_password_may_not_go_over_the_wire(
    scram_dovecot: Dovecot, mode: Mode
) -> None:
    server = scram_dovecot
    port = server.imap_port if mode is Mode.IMAP else server.pop3_port
    with opened(connection_to(port, mode, host="127.0.0.2")) as mailbox:
        mailbox.open("")
        assert not any("secret" in line for line in mailbox.transcript)
        assert any("SCRAM-SHA-256" in line for line in mailbox.transcript)
    error = failure(port, mode, host="127.0.0.2", password="wrong")
    assert (error.step, error.code) == ("login", "login-refused")


def test_the_example_of_rfc_7677() -> None:
    scram = Scram("user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    final = scram.respond(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert final == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert not scram.verified
    assert scram.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    assert scram.verified


@pytest.mark.parametrize(
    ("challenges", "code"),
    [
        ([], "scram-failed"),  # OK at once: whoever answers need not know the password
        ([b"r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"], "scram-failed"),
        ([b"nonsense"], "scram-failed"),
        ([b"r=%s1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=900000000"], "scram-failed"),
        ([b"r=%s1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", b"v=AAAA"], "scram-failed"),
        ([b"r=%s1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"], "scram-failed"),
    ],
)
def test_a_server_that_does_not_prove_that_it_knows_the_password(
    challenges: list[bytes], code: str
) -> None:
    def authenticate(talk: Conversation, tag: bytes, rest: bytes) -> None:
        nonce = b"".join(base64.b64decode(rest.split()[1]).rpartition(b"r=")[2:])
        for challenge in challenges:
            words = challenge.replace(b"%s", nonce)
            talk.send(b"+ " + base64.b64encode(words) + b"\r\n")
            talk.line()
        talk.ok(tag)

    script = imap(
        {"AUTHENTICATE": authenticate},
        capability=b"IMAP4rev1 LOGINDISABLED SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=SCRAM-SHA-256",
    )
    with ScriptedServer(script) as server:
        error = failure(server.port)
    assert (error.step, error.code) == ("login", code)


@BOTH
@pytest.mark.parametrize("challenge", [b"A", b"no base64!", b"\xff\xfe"])
def test_a_challenge_that_is_no_base64(mode: Mode, challenge: bytes) -> None:
    def imap_says(talk: Conversation, tag: bytes, _: bytes) -> None:
        talk.send(b"+ " + challenge + b"\r\n")
        talk.line()
        talk.ok(tag)

    def pop3_says(talk: Conversation, _: bytes, rest: bytes) -> None:
        for one in (b"", challenge):
            talk.send(b"+ " + one + b"\r\n")
            talk.line()
        talk.send(b"+OK\r\n")

    scripts = {
        Mode.IMAP: lambda: imap(
            {"AUTHENTICATE": imap_says},
            capability=b"IMAP4rev1 LOGINDISABLED SASL-IR AUTH=SCRAM-SHA-256",
        ),
        Mode.POP3: lambda: pop3(
            {"AUTH": pop3_says}, capabilities=b"UIDL\r\nSASL SCRAM-SHA-256\r\n"
        ),
    }
    with ScriptedServer(scripts[mode]()) as server:
        error = failure(server.port, mode)
    assert (error.step, error.code) == ("login", "scram-failed")


def test_a_server_that_offers_only_the_old_login_mechanism() -> None:
    said: list[bytes] = []

    def authenticate(talk: Conversation, tag: bytes, rest: bytes) -> None:
        said.append(rest)
        for prompt in (b"Username:", b"Password:"):
            talk.send(b"+ " + base64.b64encode(prompt) + b"\r\n")
            said.append(base64.b64decode(talk.line()))
        talk.ok(tag)

    script = imap(
        {"AUTHENTICATE": authenticate}, capability=b"IMAP4rev1 LOGINDISABLED SASL-IR AUTH=LOGIN"
    )
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        assert not any("c2VjcmV0" in line for line in mailbox.transcript)
    assert said == [b"LOGIN", b"alice", b"secret"]


@pytest.mark.promise("M26")
def test_a_server_that_opens_no_folder_to_a_client_without_a_name() -> None:
    """NetEase (163.com, 126.com, yeah.net, 188.com)."""
    identified: list[bytes] = []

    def identify(talk: Conversation, tag: bytes, rest: bytes) -> None:
        identified.append(rest)
        talk.send(b'* ID ("name" "Coremail Imap" "vendor" "Mailtech" "version" "2.1")\r\n')
        talk.ok(tag)

    def examine(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if identified:
            talk.send(b"* 0 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n")
            talk.ok(tag)
        else:
            talk.send(tag + b" NO SELECT Unsafe Login. Please contact kefu@188.com for help\r\n")

    script = imap({"ID": identify, "EXAMINE": examine}, capability=b"IMAP4rev1 ID UIDPLUS")
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        assert mailbox.server == "Coremail Imap 2.1"
    assert b"Posthouse" in identified[0]


@pytest.mark.rooted
@pytest.mark.promise("M26")
def test_cyrus_takes_our_name_and_tells_its_own(cyrus: Cyrus) -> None:
    cyrus.add_user("named")
    with opened(connection_to(cyrus.imap_port, username="named")) as mailbox:
        assert mailbox.server.startswith("Cyrus IMAPD 3.")


@BOTH
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "then"])
def test_starttls_that_fails_after_the_server_agreed(mode: Mode, at_once: bool) -> None:
    def agree(talk: Conversation, tag: bytes, rest: bytes) -> None:
        agreed = tag + b" OK begin\r\n" if tag else b"+OK begin\r\n"
        refused = b"454 no certificate here\r\n"
        for text in (agreed + refused,) if at_once else (agreed, refused):
            talk.send(text)
        talk.line()

    script = (
        imap({"STARTTLS": agree}, capability=b"IMAP4rev1 STARTTLS")
        if mode is Mode.IMAP
        else pop3({"STLS": agree}, capabilities=b"STLS\r\nUSER\r\n")
    )
    with ScriptedServer(script) as server:
        error = failure(server.port, mode, security=TransportSecurity.STARTTLS)
    assert error.step == "tls"
    assert "STARTTLS" in str(error) + error.hint
    assert "try STARTTLS" not in error.hint


@BOTH
@pytest.mark.parametrize("words", ["[UNAVAILABLE] TLS initialization failed", "Server busy"])
def test_starttls_that_is_refused_for_the_moment_is_tried_again(mode: Mode, words: str) -> None:
    if mode is Mode.POP3:
        words = words.replace("UNAVAILABLE", "SYS/TEMP")
    answers: dict[str, Answer] = {
        "STARTTLS": lambda talk, tag, _: talk.send(tag + f" NO {words}\r\n".encode()),
        "STLS": lambda talk, *_: talk.send(f"-ERR {words}\r\n".encode()),
    }
    script = (
        imap(answers, capability=b"IMAP4rev1 STARTTLS")
        if mode is Mode.IMAP
        else pop3(answers, capabilities=b"STLS\r\nUSER\r\n")
    )
    with ScriptedServer(script) as server:
        error = failure(server.port, mode, security=TransportSecurity.STARTTLS)
        assert b"secret" not in b"".join(server.heard)
    assert isinstance(error, Unreachable)
    assert (error.step, error.code) == ("tls", "starttls-unavailable")
    assert words.partition("] ")[2] in str(error)


def test_a_farewell_in_place_of_tls_is_told() -> None:
    """As Dovecot says it where it cannot begin TLS."""

    def leave(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* BYE [UNAVAILABLE] TLS initialization failed.\r\n")
        talk.hang_up()

    with ScriptedServer(imap({"STARTTLS": leave}, capability=b"IMAP4rev1 STARTTLS")) as server:
        error = failure(server.port, Mode.IMAP, security=TransportSecurity.STARTTLS)
    assert isinstance(error, Unreachable)
    assert error.step == "tls"
    assert "TLS initialization failed" in str(error)


@BOTH
def test_hints_speak_of_the_protocol_in_use(dovecot: Dovecot, mode: Mode) -> None:
    port = dovecot.imap_port if mode is Mode.IMAP else dovecot.pop3_port
    hint = failure(port, mode, password="wrong").hint
    assert f"{mode.value.upper()} switched off" in hint
