"""Random tokens: how they are made, and what is kept of them.

They are kept as SHA-256 digests: with 256 bits of randomness a slow hash adds nothing.
"""

from __future__ import annotations

import hashlib
import secrets


def new_token() -> str:
    """A fresh API or handler token; the prefix lets secret scanners know it."""
    return f"posthouse_{secrets.token_urlsafe(32)}"


def new_link_token() -> str:
    """What a link that authorises a mailbox is known by; part of an address."""
    return secrets.token_urlsafe(32)


def new_signing_key() -> str:
    """A fresh key for the signatures of a handler's events."""
    return f"posthouse_signing_{secrets.token_urlsafe(32)}"


def digest_of(token: str) -> bytes:
    """What is stored of a random token."""
    return hashlib.sha256(token.encode()).digest()
