"""How many sessions a mail server takes, found out by the refusals that it gives.

Courier closes the connection at the greeting without a word (by default beyond four an address),
others refuse it, end it in the TLS handshake, or say so at the login in words of their own.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from shared.errors import TryAgain
from shared.mailbox.errors.provider_errors import TOO_MANY
from shared.mailbox.errors.too_many_sessions import says_too_many_sessions
from shared.mailbox.failures import StepFailed
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: Failures of a login that too many open sessions may be the reason of.
_CODES: Final = frozenset(
    {
        "too-many-connections",
        "server-refused",
        "login-unavailable",
        "connection-lost",
        "connection-refused",
        "unreachable",
        "tls-failed",
    }
)
_BEFORE_LOGIN: Final = frozenset({"tcp", "tls", "greeting"})
_LOGIN: Final = frozenset({"login", "authorisation"})
#: A login that was refused for what was given, as nearly every server says one way or another.
_ABOUT_LOGIN = re.compile(
    r"log(?:ged)?[- ]?(?:in|on)|sign[- ]?in|passw|passphrase|user(?:name|id)?\b|credential|auth"
    r"|account|denied|invalid|incorrect|wrong|\bbad\b|permi|disabled|not enabled|blocked|unknown",
    re.I,
)
#: Seconds that a server's own limit is kept in mind once it was met.
REMEMBERED: Final = 3600.0


def may_be_too_many(error: StepFailed) -> bool:
    """Whether a session that could not be opened may have been one too many."""
    if is_unexplained(error):
        return True
    return (
        isinstance(error, TryAgain)
        and error.code in _CODES
        and error.step in _BEFORE_LOGIN | _LOGIN
    )


def says_too_many(error: StepFailed) -> bool:
    """Whether the server says so itself."""
    return error.code == "too-many-connections" or (
        isinstance(error, TryAgain) and says_too_many_sessions(str(error))
    )


def is_unexplained(error: StepFailed) -> bool:
    """Whether a login was refused in words that are not about the login at all, in a language that
    we do not know, say: where other sessions are open it is tried once more with one of them less.
    """
    words = str(error).partition(": ")[2]
    return error.code == "login-refused" and _ABOUT_LOGIN.search(words) is None


def ends_without_word(error: StepFailed) -> bool:
    """Whether the server ended the session up to the login, as many do with one too many."""
    return concerns_host(error) or (error.code == "connection-lost" and error.step in _LOGIN)


def concerns_host(error: StepFailed) -> bool:
    """Whether the server refused before it could know who logs in."""
    return error.step in _BEFORE_LOGIN


def log_limit(place: str, allowed: int) -> None:
    """Tells people of a limit that was met."""
    metrics.SESSION_LIMITS.inc()
    _log.warning(
        "session limit of a mail server reached",
        place=place,
        allowed=allowed,
        hint=TOO_MANY.hint,
    )


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many sessions there may be: kept ones that wait, those that listen, and all together at
    one server and at one mailbox (by who logs in)."""

    kept: int
    listening: int
    per_host: int
    per_mailbox: int


class LearnedLimits:
    """What mailboxes allowed when they were met last (hosts: `session_shares`). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowed: dict[str, tuple[int, float]] = {}
        self._reserved: dict[str, tuple[int, float]] = {}

    def at(self, place: str, configured: int) -> int:
        with self._lock:
            allowed, until = self._allowed.get(place, (configured, 0.0))
            if time.monotonic() >= until:
                allowed, until = self._reserved.get(place, (configured, 0.0))
        return min(configured, allowed) if time.monotonic() < until else configured

    def knows(self, place: str) -> bool:
        """Whether the limit of `place` was met within the last hour."""
        with self._lock:
            _, until = self._allowed.get(place, (0, 0.0))
        return time.monotonic() < until

    def reserve(self, place: str, allowed: int, seconds: float) -> None:
        """For the time of a second try `place` takes so many, unless a limit is known there."""
        with self._lock:
            _, until = self._allowed.get(place, (0, 0.0))
            if time.monotonic() >= until:
                self._reserved[place] = (allowed, time.monotonic() + seconds)

    def release(self, place: str) -> None:
        """The second try is over."""
        with self._lock:
            self._reserved.pop(place, None)

    def learn(self, place: str, allowed: int) -> None:
        """`place` takes so many sessions of ours, and no more."""
        with self._lock:
            self._allowed[place] = (allowed, time.monotonic() + REMEMBERED)
            self._reserved.pop(place, None)
        log_limit(place, allowed)


class SessionsElsewhere:
    """How many sessions the other fetchers keep at each mailbox. Thread-safe."""

    def __init__(self) -> None:
        self._count: Mapping[str, int] = {}

    def learn(self, count: Mapping[str, int]) -> None:
        """Mailbox → sessions, as it is now; in place of what was known."""
        self._count = dict(count)

    def leaves(self, mailbox: str, together: int) -> int:
        """How many of `together` are left for this fetcher to keep."""
        return together - self._count.get(mailbox, 0)
