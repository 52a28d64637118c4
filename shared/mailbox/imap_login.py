"""Greeting, STARTTLS and login of an IMAP session."""

from __future__ import annotations

import base64
import binascii
import json
import re
import ssl
from collections.abc import Callable
from typing import Any

from shared.connections import Connection
from shared.mailbox import diagnosis
from shared.mailbox.base import Login, OAuthRefused, Refused, SessionLost, Unreachable
from shared.mailbox.imap_session import ImapSession, Literal, Reply, string
from shared.mailbox.scram import MECHANISM, Scram, unproved

_TEMPORARY_CODES = {"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"}
_TEMPORARY_WORDS = re.compile(
    r"temporar|try again|too many|unavailable|internal (server )?error|timed? ?out|overload", re.I
)


def read_greeting(session: ImapSession) -> None:
    """RFC 3501 section 7.1: `* OK`, else nothing goes on."""
    line = session.wire.line()
    session.wire.transcript.received(line)
    shown = session.wire.transcript.clean(line[:200])
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
    session.greeting = session.wire.transcript.clean(match[3])
    if word in (b"BYE", b"NO"):
        raise diagnosis.of_greeting(session.greeting)
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
        ask_capabilities(session)
    reply = session.command(b"STARTTLS") if "STARTTLS" in session.capabilities else None
    if reply is None or not reply.ok:
        raise Refused(
            f"{host} does not offer STARTTLS"
            + (f": {reply.text}." if reply is not None else " on this port."),
            step="tls",
            code="starttls-refused",
            hint="Use TLS on its own port (993). Posthouse never falls back to plain text.",
        )
    if session.wire.pos < session.wire.end:
        # What came before the handshake may be an attacker's (CVE-2011-0411 and its kin).
        raise session.wire.nonsense("plain text behind its agreement to STARTTLS")
    session.capabilities = frozenset()


def ask_capabilities(session: ImapSession) -> None:
    session.command(b"CAPABILITY")
    if not session.capabilities:
        session.capabilities = frozenset({"IMAP4REV1"})


def log_in(session: ImapSession, connection: Connection, login: Login, *, renew: bool) -> None:
    """Logs in with a password or a token. Raises OAuthRefused, Refused or Unreachable."""
    if not session.capabilities:
        ask_capabilities(session)
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
        ask_capabilities(session)
    identify(session)


def login_name(connection: Connection, login: Login) -> str:
    r"""The name to log in with by password, a shared mailbox included (row M11).

    Exchange takes `DOMAIN\user\alias`, `DOMAIN/user/alias` and `user@example.org/alias`: the
    shared mailbox is joined with the separator that the username has already, else with `/`. A
    username that names the shared mailbox already goes out as it is, as does every username
    without a shared mailbox.
    """
    name, shared = login.username, connection.shared_mailbox
    if not shared or name.endswith(("\\" + shared, "/" + shared)):
        return name
    return name + ("\\" if "\\" in name else "/") + shared


def _password(session: ImapSession, username: str, password: str, chosen: str) -> Reply:
    """LOGIN wherever it is allowed: what else is announced often works for no account."""
    hidden = session.wire.transcript
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
    encrypted = isinstance(session.wire.socket, ssl.SSLSocket)
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


def no_external() -> Refused:
    """The server takes no login by certificate."""
    return Refused(
        "The mail server offers no login with the client certificate alone (EXTERNAL).",
        step="login",
        code="login-method-missing",
        hint="Give the password as well: then the certificate is shown and the password logs in.",
    )


def _coded(respond: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Challenge and answer in base64, as they are on the wire; nonsense is an empty challenge."""

    def answer(challenge: bytes) -> bytes:
        try:
            decoded = base64.b64decode(challenge.strip())
        except binascii.Error:
            decoded = b""
        found = respond(decoded)
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
            case (tuple() as told, *_):
                fields = {
                    bytes(key).lower(): value.decode("utf-8", "replace")
                    for key, value in zip(told[::2], told[1::2], strict=False)
                    if isinstance(key, bytes) and isinstance(value, bytes)
                }
                named = [fields[key] for key in (b"name", b"version") if fields.get(key)]
                if named:
                    session.greeting = session.wire.transcript.clean(" ".join(named).encode())


def _bearer(session: ImapSession, connection: Connection, token: str) -> Reply:
    details: dict[str, Any] = {}

    def explain(challenge: bytes) -> bytes:
        details.update(decode_challenge(challenge))
        return b"AQ==" if mechanism == b"OAUTHBEARER" else b""

    mechanism = b"XOAUTH2"
    if "AUTH=XOAUTH2" not in session.capabilities and "AUTH=OAUTHBEARER" in session.capabilities:
        mechanism = b"OAUTHBEARER"
    session.wire.transcript.hide(token)
    message = bearer_message(mechanism, connection, token)
    session.wire.transcript.hide(message.decode())
    reply = _authenticate(session, mechanism, message, explain)
    temporary = reply.code.partition(" ")[0].upper() in _TEMPORARY_CODES
    if reply.ok or (temporary and not details):
        return reply
    raise OAuthRefused(
        f"The mail server refused the access token for {connection.mailbox}: "
        f"{reply.text or reply.status}",
        details=details,
        server_text=reply.text,
    )


def bearer_message(mechanism: bytes, connection: Connection, token: str) -> bytes:
    """The client's message: XOAUTH2 as Google and Microsoft document it, or RFC 7628."""
    user = connection.mailbox
    if mechanism == b"XOAUTH2":
        return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
    host, port = connection.endpoint
    escaped = user.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={escaped},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01".encode()


def decode_challenge(challenge: bytes) -> dict[str, Any]:
    """The JSON object that a server explains its refusal with; empty where it is none."""
    try:
        found = json.loads(base64.b64decode(challenge.strip(), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


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
    session.wire.start_clock()
    tag = session.send(command + b" " + encoded, shown=shown) if at_once else session.send(command)
    sent = at_once or message is None
    for _ in range(5):
        line = session.wire.line()
        while line.startswith(b"*"):
            session.wire.transcript.received(line)
            session.note(session.parse(line))
            line = session.wire.line()
        session.wire.transcript.received(line)
        if not line.startswith(b"+"):
            return session.tagged(line, tag)
        if sent:
            session.wire.send(on_challenge(line[1:]) + b"\r\n")
            session.wire.transcript.sent(b"***")
        else:
            session.wire.send(encoded + b"\r\n")
            session.wire.transcript.sent(b"***")
            sent = True
    raise session.wire.nonsense("one challenge after the other")


def login_error(
    code: str, text: str, protocol: str = "IMAP"
) -> Unreachable | Refused | SessionLost:
    """What a refused login means: the wrong password, or a server that cannot look at it now."""
    word = code.partition(" ")[0].upper()
    if word in _TEMPORARY_CODES or (
        word not in ("AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED")
        and _TEMPORARY_WORDS.search(text)
    ):
        return Unreachable(
            f"The mail server cannot log us in at the moment: {text}",
            step="login",
            code="login-unavailable",
            hint="Nothing needs to be done here, unless it stays so. It is tried again by itself.",
        )
    return Refused(
        f"The mail server refused the login: {text}",
        step="login",
        code="login-refused",
        hint="Check username and password; some servers want an app password or have "
        f"{protocol} switched off for the account.",
    )
