"""What IMAP and POP3 say alike while logging in (SASL, RFC 4422), and what a refusal means."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from shared.connections import Connection
from shared.mailbox.base import Login, Refused, SessionLost, Unreachable

TEMPORARY_CODES = {"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"}
_TEMPORARY_WORDS = re.compile(
    r"temporar|try again|too many|unavailable|internal (server )?error|timed? ?out|overload", re.I
)


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


def login_error(
    code: str, text: str, protocol: str = "IMAP"
) -> Unreachable | Refused | SessionLost:
    """What a refused login means: the wrong password, or a server that cannot look at it now."""
    word = code.partition(" ")[0].upper()
    if word in TEMPORARY_CODES or (
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
