"""Greeting, STARTTLS and login of an IMAP session."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable
from typing import Any

from shared.connections import Connection
from shared.mailbox.base import Login
from shared.mailbox.errors import server_answers
from shared.mailbox.errors.refused_logins import TEMPORARY_CODES, login_error, starttls_refused
from shared.mailbox.failures import OAuthRefused, Refused, Unreachable
from shared.mailbox.imap.session import ImapSession, Literal, Reply, string
from shared.mailbox.net.sasl import (
    bearer_message,
    challenge_octets,
    decode_challenge,
    login_name,
    no_external,
)
from shared.mailbox.net.scram import MECHANISM, Scram, unproved


def read_greeting(session: ImapSession) -> None:
    """RFC 3501 section 7.1: `* OK`, else nothing goes on."""
    line = session.stream.line()
    session.stream.transcript.received(line)
    shown = session.stream.transcript.clean(line[:200])
    match = re.match(rb"\* +(OK|PREAUTH|BYE|NO)\b *(?:\[CAPABILITY ([^\]]*)\])? *(.*)", line, re.I)
    if match is None:
        other = " It looks like POP3." if line.startswith(b"+OK") else ""
        raise Unreachable(
            f"This is no IMAP server: it greets with {shown!r}.{other}",
            step="greeting",
            code="not-imap",
            hint="Check the port and the mode of the connection.",
        )
    word = match[1].upper()
    session.greeting = session.stream.transcript.clean(match[3])
    if word in (b"BYE", b"NO"):
        raise server_answers.of_greeting(session.greeting)
    if word == b"PREAUTH":
        # Before STARTTLS this is how an attacker keeps a session in plain text.
        raise Refused(
            "The mail server takes us for somebody without asking for a login.",
            step="greeting",
            code="preauth",
            hint="Use a port where the server asks for username and password.",
        )
    if match[2]:
        session.learn(match[2])


def start_tls(session: ImapSession, host: str) -> None:
    """STARTTLS up to the server's OK; the caller does the handshake. Never falls back."""
    if not session.capabilities:
        read_capabilities(session)
    if "STARTTLS" not in session.capabilities:
        raise starttls_refused(host, "", 993)
    reply = session.command(b"STARTTLS")
    if not reply.ok:
        code = f"[{reply.code}] " if reply.code else ""
        raise starttls_refused(host, code + (reply.text or reply.status), 993)
    session.stream.expect_tls()
    session.capabilities = frozenset()


def read_capabilities(session: ImapSession) -> None:
    session.command(b"CAPABILITY")
    if not session.capabilities:
        session.capabilities = frozenset({"IMAP4REV1"})


def log_in(session: ImapSession, connection: Connection, login: Login, *, renew: bool) -> None:
    """Logs in with a password or a token. Raises OAuthRefused, Refused or Unreachable."""
    if not session.capabilities:
        read_capabilities(session)
    before = session.capabilities
    if login.access_token is not None:
        reply = _bearer(session, connection, login.access_token(renew))
    elif login.client_certificate is not None and not login.password:
        reply = _external(session, login_name(connection, login))
    else:
        reply = _password(
            session, login_name(connection, login), login.password or "", login.mechanism
        )
    if not reply.ok:
        # The code goes with the words: it says more certainly than they do what is meant.
        code = f"[{reply.code}] " if reply.code else ""
        raise login_error(reply.code, code + (reply.text or reply.status))
    # What is offered changes with the login (RFC 3501 section 6.2.3); many servers say it at once.
    if reply.code.upper().startswith("CAPABILITY "):
        session.learn(reply.code[11:].encode())
    elif session.capabilities == before:
        read_capabilities(session)
    identify(session)


def _password(session: ImapSession, username: str, password: str, chosen: str) -> Reply:
    """LOGIN wherever it is allowed: what else is announced often works for no account."""
    hidden = session.stream.transcript
    hidden.hide(password)
    session.login_ways = tuple(mechanisms(session, username + password))
    mechanism = chosen or session.login_ways[0]
    if mechanism == "LOGIN command":
        name, secret = string(username), string(password)
        if isinstance(secret, Literal):
            secret = Literal(secret.octets, secret=True)
        return session.command(
            b"LOGIN ", name, b" ", secret, shown=b"LOGIN " + username.encode() + b" ***"
        )
    if mechanism == "PLAIN":
        message = f"\0{username}\0{password}"
        hidden.hide(message)
        return _authenticate(session, b"PLAIN", message.encode(), lambda _: b"*")
    if mechanism == "LOGIN":
        # Never standardised: the server asks for the name, then for the password.
        answers = iter([username.encode(), password.encode()])
        return _authenticate(session, b"LOGIN", None, _coded(lambda _: next(answers, b"*")))
    scram = Scram(username, password)
    reply = _authenticate(session, MECHANISM.encode(), scram.first(), _coded(scram.respond))
    if reply.ok and not scram.verified:
        raise unproved()
    return reply


def mechanisms(session: ImapSession, credentials: str) -> list[str]:
    """How a password may be given to a server that offers what it offers, the best way first.

    Raises Refused where there is no way. In plain text nothing is in it that shows the password
    while another way does not.
    """
    offered = session.capabilities
    encrypted = isinstance(session.stream.socket, ssl.SSLSocket)
    order = ["PLAIN", MECHANISM, "LOGIN"] if encrypted else [MECHANISM, "PLAIN", "LOGIN"]
    found = [name for name in order if f"AUTH={name}" in offered]
    if "LOGINDISABLED" not in offered:
        if not credentials.isascii() and "PLAIN" in found:
            found.remove("PLAIN")
            return ["PLAIN", "LOGIN command", *found]
        return ["LOGIN command", *found]
    if not found:
        raise Refused(
            "The mail server takes no passwords over this connection.",
            step="login",
            code="plaintext-login-refused",
            hint="Choose TLS or STARTTLS; or the server wants OAuth2.",
        )
    return found[:1] if found[0] == MECHANISM and not encrypted else found


def _external(session: ImapSession, username: str) -> Reply:
    """Logs in as whom the client certificate is for (EXTERNAL, RFC 4422 appendix A)."""
    if "AUTH=EXTERNAL" not in session.capabilities:
        raise no_external()
    session.login_ways = ("EXTERNAL",)
    return _authenticate(session, b"EXTERNAL", username.encode(), lambda _: b"*")


def _coded(respond: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Challenge and answer in base64, as they are on the stream; nonsense is an empty challenge."""

    def answer(challenge: bytes) -> bytes:
        found = respond(challenge_octets(challenge))
        return found if found == b"*" else base64.b64encode(found)

    return answer


def identify(session: ImapSession) -> None:
    """ID (RFC 2971): some servers open no folder to a client that did not say who it is (NetEase:
    "SELECT Unsafe Login"). What the server says of itself is for people."""
    if "ID" not in session.capabilities:
        return
    reply = session.command(b'ID ("name" "Posthouse" "vendor" "Posthouse" "support-url" NIL)')
    for line in reply.of(b"ID"):
        match line.values():
            case (tuple() as pairs, *_):
                fields = {
                    bytes(key).lower(): value.decode("utf-8", "replace")
                    for key, value in zip(pairs[::2], pairs[1::2], strict=False)
                    if isinstance(key, bytes) and isinstance(value, bytes)
                }
                named = [fields[key] for key in (b"name", b"version") if fields.get(key)]
                if named:
                    session.greeting = session.stream.transcript.clean(" ".join(named).encode())


def _bearer(session: ImapSession, connection: Connection, token: str) -> Reply:
    details: dict[str, Any] = {}

    def explain(challenge: bytes) -> bytes:
        details.update(decode_challenge(challenge))
        return b"AQ==" if mechanism == b"OAUTHBEARER" else b""

    mechanism = b"XOAUTH2"
    if "AUTH=XOAUTH2" not in session.capabilities and "AUTH=OAUTHBEARER" in session.capabilities:
        mechanism = b"OAUTHBEARER"
    session.stream.transcript.hide(token)
    message = bearer_message(mechanism, connection, token)
    session.stream.transcript.hide(message.decode())
    reply = _authenticate(session, mechanism, message, explain)
    temporary = reply.code.partition(" ")[0].upper() in TEMPORARY_CODES
    if reply.ok or (temporary and not details):
        return reply
    raise OAuthRefused(
        f"The mail server refused the access token for {connection.mailbox}: "
        f"{reply.text or reply.status}",
        details=details,
        server_text=reply.text,
    )


def _authenticate(
    session: ImapSession,
    mechanism: bytes,
    message: bytes | None,
    on_challenge: Callable[[bytes], bytes],
) -> Reply:
    """AUTHENTICATE, with the initial response in the command where offered (RFC 4959).

    `message` None: the server speaks first.
    """
    encoded = base64.b64encode(message or b"")
    at_once = message is not None and "SASL-IR" in session.capabilities
    command = b"AUTHENTICATE " + mechanism
    shown = command + b" ***"
    session.stream.start_clock()
    tag = session.send(command + b" " + encoded, shown=shown) if at_once else session.send(command)
    sent = at_once or message is None
    for _ in range(5):
        line = session.stream.line()
        while line.startswith(b"*"):
            session.stream.transcript.received(line)
            session.note(session.parse(line))
            line = session.stream.line()
        session.stream.transcript.received(line)
        if not line.startswith(b"+"):
            return session.tagged(line, tag)
        if sent:
            session.stream.send(on_challenge(line[1:]) + b"\r\n")
            session.stream.transcript.sent(b"***")
        else:
            session.stream.send(encoded + b"\r\n")
            session.stream.transcript.sent(b"***")
            sent = True
    raise session.stream.nonsense("one challenge after the other")
