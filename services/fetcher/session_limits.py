"""How many sessions a mail server takes, found out by the refusals that it gives.

Courier closes the connection at the greeting without a word (by default beyond four an address),
others refuse it, end it in the TLS handshake, or say so at the login in words of their own.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import Final

import structlog

from shared.errors import TryAgain
from shared.mailbox.errors.diagnoses import TOO_MANY
from shared.mailbox.errors.too_many_sessions import says_too_many_sessions
from shared.mailbox.failures import StepFailed
from shared.storage.session_shares import is_mailbox
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


def log_limit(destination: str, allowed: int) -> None:
    """Tells people of a limit that was met."""
    metrics.SESSION_REFUSALS.inc()
    _log.warning(
        "session limit of a mail server reached",
        destination=destination,
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

    def at(self, destination: str) -> int:
        """How many sessions all fetchers together may have at a destination."""
        return self.per_mailbox if is_mailbox(destination) else self.per_host


class Reservations:
    """Room that was made for a session, for the time of its second try. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reserved: dict[str, tuple[int, float]] = {}

    def at(self, destination: str, allowed: int) -> int:
        """How many sessions of the `allowed` ones others may have there."""
        with self._lock:
            reserved, until = self._reserved.get(destination, (allowed, 0.0))
        return min(allowed, reserved) if time.monotonic() < until else allowed

    def reserve(self, destination: str, allowed: int, seconds: float) -> None:
        """For the time of a second try `destination` takes so many."""
        with self._lock:
            self._reserved[destination] = (allowed, time.monotonic() + seconds)

    def release(self, destination: str) -> None:
        """The second try is over."""
        with self._lock:
            self._reserved.pop(destination, None)
