"""Logging in to POP3 servers that do not take USER and PASS, and what their refusals mean."""

from __future__ import annotations

import base64
import hashlib

import pytest

from shared.connections import Mode
from tests.integration.mail_sessions import connection_to, failure, opened
from tests.servers.scripted import MAILS, Answer, Conversation, ScriptedServer, pop3

NO_USER: dict[str, Answer] = {"USER": b"-ERR unknown command\r\n", "PASS": b"-ERR no\r\n"}


def plain(talk: Conversation, tag: bytes, rest: bytes) -> None:
    assert rest == b"PLAIN"
    talk.send(b"+ \r\n")
    right = base64.b64decode(talk.line()) == b"\0alice\0secret"
    talk.send(b"+OK welcome\r\n" if right else b"-ERR [AUTH] no\r\n")


def in_two_steps(talk: Conversation, tag: bytes, rest: bytes) -> None:
    assert rest == b"LOGIN"
    talk.send(b"+ VXNlcm5hbWU6\r\n")
    name = base64.b64decode(talk.line())
    talk.send(b"+ UGFzc3dvcmQ6\r\n")
    right = (name, base64.b64decode(talk.line())) == (b"alice", b"secret")
    talk.send(b"+OK welcome\r\n" if right else b"-ERR [AUTH] no\r\n")


@pytest.mark.parametrize(("mechanism", "answer"), [("PLAIN", plain), ("LOGIN", in_two_steps)])
def test_a_server_that_takes_a_password_by_sasl_only(mechanism: str, answer: Answer) -> None:
    capabilities = f"SASL {mechanism} CRAM-MD5\r\nUIDL\r\nTOP\r\n".encode()
    with ScriptedServer(pop3({**NO_USER, "AUTH": answer}, capabilities=capabilities)) as server:
        with opened(connection_to(server.port, Mode.POP3)) as mailbox:
            assert mailbox.open("").total == len(MAILS)
            shown = "\n".join(mailbox.transcript)
        assert b"PASS secret" not in server.heard
    assert "secret" not in shown
    assert base64.b64encode(b"\0alice\0secret").decode() not in shown
    with ScriptedServer(pop3({**NO_USER, "AUTH": answer}, capabilities=capabilities)) as server:
        assert failure(server.port, Mode.POP3, password="wrong").code == "login-refused"


@pytest.mark.parametrize("capa", [b"+OK\r\nUIDL\r\n.\r\n", b"-ERR what?\r\n"])
def test_a_server_that_takes_apop_only(capa: bytes) -> None:
    stamp = b"<1896.697170952@dbc.mtview.ca.us>"
    digest = hashlib.md5(stamp + b"secret", usedforsecurity=False).hexdigest().encode()

    def apop(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"+OK\r\n" if rest == b"alice " + digest else b"-ERR permission denied\r\n")

    script = pop3({**NO_USER, "APOP": apop, "CAPA": capa}, greeting=b"+OK POP3 " + stamp + b"\r\n")
    with ScriptedServer(script) as server:
        with opened(connection_to(server.port, Mode.POP3)) as mailbox:
            assert mailbox.open("").total == len(MAILS)
            assert digest.decode() not in "\n".join(mailbox.transcript)
        assert failure(server.port, Mode.POP3, password="wrong").code == "login-refused"


def test_a_server_that_takes_no_password_that_we_can_give() -> None:
    script = pop3(NO_USER, capabilities=b"SASL GSSAPI\r\nUIDL\r\n")
    with ScriptedServer(script) as server:
        error = failure(server.port, Mode.POP3)
    assert error.code == "login-method-missing"
    assert "GSSAPI" in str(error)
    assert "OAuth2" in error.hint


def test_the_password_is_not_sent_where_the_name_was_refused() -> None:
    with ScriptedServer(
        pop3({"USER": b"-ERR [SYS/PERM] no USER here\r\n"}, capabilities=b"PIPELINING\r\nUIDL\r\n")
    ) as server:
        assert failure(server.port, Mode.POP3).code == "login-refused"
        assert not any(line.startswith(b"PASS") for line in server.heard)


@pytest.mark.promise("M27")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (b"[LOGIN-DELAY] minimum time between mail checks violation", "login-delay"),
        (b"login allowed only every 15 minutes", "login-delay"),
        (b"Logins must be at least 5 minutes apart", "login-delay"),
        (b"[IN-USE] Unable to lock maildrop", "mailbox-in-use"),
        (b"another session is already open", "mailbox-in-use"),
        (b"maildrop already locked", "mailbox-in-use"),
        (b"[SYS/TEMP] Temporary system problem. Please try again later.", "login-unavailable"),
        (b"/usr/mail/.a.pop lock busy! Is another session active? (11)", "mailbox-in-use"),
        ("\u767b\u5f55\u592a\u9891\u7e41".encode("gb2312"), "login-unavailable"),
        (b"[AUTH] Invalid login: account locked or password wrong", "login-refused"),
        (b"authentication failed", "login-refused"),
    ],
)
def test_what_a_refusal_means(words: bytes, code: str) -> None:
    with ScriptedServer(pop3({"PASS": b"-ERR " + words + b"\r\n"})) as server:
        assert failure(server.port, Mode.POP3).code == code
