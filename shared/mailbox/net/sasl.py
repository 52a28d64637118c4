"""What IMAP and POP3 say alike while logging in (SASL, RFC 4422)."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from shared.connections import Connection
from shared.mailbox.base import Login
from shared.mailbox.failures import Refused


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


def bearer_message(mechanism: bytes, connection: Connection, token: str) -> bytes:
    """The client's message: XOAUTH2 as Google and Microsoft document it, or RFC 7628."""
    user = connection.mailbox
    if mechanism == b"XOAUTH2":
        return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
    host, port = connection.endpoint
    escaped = user.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={escaped},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01".encode()


def challenge_octets(challenge: bytes) -> bytes:
    """What a server's challenge in base64 says; nothing where it is not in base64."""
    try:
        return base64.b64decode(challenge.strip())
    except binascii.Error:
        return b""


def decode_challenge(challenge: bytes) -> dict[str, Any]:
    """The JSON object that a server explains its refusal with; empty where it is none."""
    try:
        found = json.loads(base64.b64decode(challenge.strip(), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def no_external() -> Refused:
    """The server takes no login by certificate."""
    return Refused(
        "The mail server offers no login with the client certificate alone (EXTERNAL).",
        step="login",
        code="login-method-missing",
        hint="Give the password as well: then the certificate is shown and the password logs in.",
    )
