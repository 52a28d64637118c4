"""Passwords as argon2id hashes (RFC 9106), checked in constant effort for unknown names too.

A hash takes 64 MiB and a core while it is computed, so few are at a time and few may wait: anybody
can ask for one.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import InvalidInput, TryAgain

#: NIST SP 800-63B section 3.1.1: length counts, composition rules do not.
SHORTEST = 12
LONGEST = 256

#: Hashes computed at the same time, and those that may wait for it besides.
AT_ONCE: Final = 2
WAITING: Final = 6

_HASHER = PasswordHasher()
_places = threading.BoundedSemaphore(AT_ONCE + WAITING)
_computing = threading.BoundedSemaphore(AT_ONCE)


class Busy(TryAgain):
    """More passwords are being checked than this process checks at a time."""

    code = "too-many-attempts"


@contextmanager
def admitted() -> Iterator[None]:
    """A permit to compute or wait, which few have. Raises Busy at once where all are taken."""
    if not _places.acquire(blocking=False):
        raise Busy(
            "Too many logins at the same moment.", hint="Try again in a moment.", retry_after=2
        )
    try:
        yield
    finally:
        _places.release()


def hashed(password: str) -> str:
    """Raises InvalidInput where the password is too short or too long; Busy."""
    if len(password) < SHORTEST:
        raise InvalidInput(
            f"A password has at least {SHORTEST} characters.",
            field="password",
            hint="A few words in a row make a good one.",
        )
    if len(password) > LONGEST:
        raise InvalidInput(f"A password has at most {LONGEST} characters.", field="password")
    with admitted(), _computing:
        return _HASHER.hash(password)


@functools.cache
def _nobody() -> str:
    """What a login under an unknown name is checked against, so that it takes as long as any."""
    return _HASHER.hash("nobody has this password")


def matches(stored: str | None, password: str) -> bool:
    """Whether `password` is the one behind `stored`; False (as slowly) where there is none.

    Call it with a permit (`admitted`)."""
    with _computing:
        nobody = _nobody()  # made beforehand, whoever asks: making it is as slow as checking it
        try:
            _HASHER.verify(stored or nobody, password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def is_dated(stored: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return _HASHER.check_needs_rehash(stored)
