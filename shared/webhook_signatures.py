"""Signatures of what is posted to others, as Standard Webhooks 1.0 describes them."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets

from shared.errors import InvalidInput

_PREFIX = "whsec_"


def sign(secret: str, identifier: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.

    A secret that begins with `whsec_` is the base64 of the key, any other is the key itself.
    """
    signed = f"{identifier}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()


def check_secret(secret: str) -> None:
    """Raises InvalidInput where a `whsec_` secret is not base64."""
    _key(secret)


def check_standard_secret(secret: str) -> None:
    """Raises InvalidInput unless it is of the one form that every verifier takes: `whsec_` and the
    base64 of 24 to 64 octets."""
    if not secret.startswith(_PREFIX) or not 24 <= len(_key(secret)) <= 64:
        raise InvalidInput(
            "A signing secret is whsec_ and the base64 of 24 to 64 octets.",
            field="secret",
            hint="Leave it out: then Posthouse makes one and shows it once.",
        )


def new_secret() -> str:
    """A fresh secret."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise InvalidInput(
            "A signing secret that begins with whsec_ goes on with base64.", field="secret"
        ) from error
