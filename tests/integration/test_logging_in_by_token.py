"""Logging in with OAuth2 tokens: renewed once, and what a refusal means."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from shared.connections import Mode
from shared.errors import NeedsPerson
from shared.mailbox.base import Login
from shared.mailbox.failures import OAuthRefused, StepFailed
from shared.mailbox.open import open_mailbox
from tests.integration.mail_sessions import connection_to
from tests.servers.certificates import Authority
from tests.servers.scripted import Conversation, Script, ScriptedServer, imap, pop3

BOTH = pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])


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
    mode: Mode, capability: bytes, expected: bytes, authority: Authority
) -> None:
    seen: list[bytes] = []
    access_token, asked = tokens("good")
    script = bearer_server(mode, "good", capability, seen)
    with ScriptedServer(script, tls=authority.issue("127.0.0.1")) as server:
        connection = connection_to(
            server.port, mode, username="alice@x.org", shared_mailbox="shared@x.org"
        )
        login = Login("alice@x.org", access_token=access_token, ca_certificate=authority.pem)
        mailbox = open_mailbox(connection, login)
        log = "\n".join(mailbox.transcript)
        mailbox.close()
    assert len(seen) == 1
    assert seen[0].startswith(expected)
    assert asked == [False]
    assert "good" not in log
    assert base64.b64encode(seen[0].partition(b" ")[2]).decode() not in log


@pytest.mark.promise("A4")
@BOTH
def test_a_refused_token_is_renewed_once(mode: Mode, authority: Authority) -> None:
    capability = b"XOAUTH2" if mode is Mode.POP3 else b"AUTH=XOAUTH2 SASL-IR"
    access_token, asked = tokens("stale", "fresh")
    script = bearer_server(mode, "fresh", capability, [])
    with ScriptedServer(script, tls=authority.issue("127.0.0.1")) as server:
        login = Login("alice", access_token=access_token, ca_certificate=authority.pem)
        open_mailbox(connection_to(server.port, mode), login).close()
    assert asked == [False, True]


@pytest.mark.promise("A5")
@BOTH
def test_the_providers_refusal_is_decoded(mode: Mode, authority: Authority) -> None:
    capability = b"XOAUTH2" if mode is Mode.POP3 else b"AUTH=XOAUTH2 SASL-IR"
    seen: list[bytes] = []
    access_token, asked = tokens("revoked-token")
    login = Login("alice", access_token=access_token, ca_certificate=authority.pem)
    script = bearer_server(mode, "another", capability, seen)
    with (
        ScriptedServer(script, tls=authority.issue("127.0.0.1")) as server,
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
