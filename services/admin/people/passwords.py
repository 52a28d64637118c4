"""Passwords as argon2id hashes (RFC 9106), checked in constant effort for unknown names too."""

from __future__ import annotations

import functools

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import InvalidInput

#: NIST SP 800-63B section 3.1.1: length counts, composition rules do not.
SHORTEST = 12
LONGEST = 256

_HASHER = PasswordHasher()


def hashed(password: str) -> str:
    """Raises InvalidInput where the password is too short or too long."""
    if len(password) < SHORTEST:
        raise InvalidInput(
            f"A password has at least {SHORTEST} characters.",
            field="password",
            hint="A few words in a row make a good one.",
        )
    if len(password) > LONGEST:
        raise InvalidInput(f"A password has at most {LONGEST} characters.", field="password")
    return _HASHER.hash(password)


@functools.cache
def _nobody() -> str:
    """What a login under an unknown name is checked against, so that it takes as long as any."""
    return _HASHER.hash("nobody has this password")


def matches(stored: str | None, password: str) -> bool:
    """Whether `password` is the one behind `stored`; False (as slowly) where there is none."""
    nobody = _nobody()  # made beforehand, whoever asks: making it is as slow as checking it
    try:
        _HASHER.verify(stored or nobody, password[:LONGEST])
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def is_dated(stored: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return _HASHER.check_needs_rehash(stored)
