"""What listening sessions told, until somebody acts on it: at once, or held back.

News that led to nothing twice in a row (a server that tells of flags, a person who reads and
unreads) is acted on ever more rarely, up to once a minute; a mail that arrives ends that. A session
that breaks is opened again after some seconds, later each time it breaks soon again.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog

from shared.errors import PosthouseError

_log = structlog.get_logger(__name__)

#: Seconds. News in vain waits 1, 2, 4 … up to this.
LONGEST_GAP = 60.0
#: Seconds until a broken session is opened again: this, doubled each time, up to the longest.
FIRST_RECONNECT = 5.0
LONGEST_RECONNECT = 1800.0
#: A session that listened this long has shown that it works (seconds).
_GOOD_LIFE = 120.0
#: Polls in a row that found mails of which a session that listened had not told: so often that is
#: no accident.
_UNTOLD = 5
#: A session that listened for less than this (seconds) may not have had the time to tell.
_TIME_TO_TELL = 30.0


@dataclass(slots=True)
class _Ear:
    """What is remembered of one connection: runs in vain, polls that found what nobody had told,
    sessions that broke, since when it listens, and for which edit its server refused to push."""

    in_vain: int = 0
    broken: int = 0
    since: float = field(default_factory=time.monotonic)
    told: bool = False
    listens: bool = False
    untold: int = 0
    version: object = None
    refused: object = None


class News:
    """Thread-safe; `heard` and `lost` return at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._now: set[int] = set()
        self._later: dict[int, float] = {}
        self._ears: dict[int, _Ear] = {}

    def heard(self, connection_id: int) -> None:
        """The server told of something new."""
        with self._changed:
            ear = self._ears.setdefault(connection_id, _Ear())
            ear.told = True
            if ear.in_vain < 2:
                self._now.add(connection_id)
            else:
                gap = min(2.0 ** (ear.in_vain - 2), LONGEST_GAP)
                self._later[connection_id] = gap
            self._changed.notify()

    def lost(self, connection_id: int, error: PosthouseError) -> None:
        """The session broke, or the server does not push after all."""
        with self._changed:
            ear = self._ears.setdefault(connection_id, _Ear())
            if error.code == "no-push":
                ear.refused = ear.version
            if self._clock() - ear.since > _GOOD_LIFE:
                ear.broken = 0
            delay = min(FIRST_RECONNECT * 2.0 ** min(ear.broken, 10), LONGEST_RECONNECT)
            ear.broken += 1
            ear.listens = False
            self._later[connection_id] = delay * random.uniform(0.2, 1.0)  # noqa: S311 (jitter)
            self._changed.notify()
        _log.info("push session lost", connection=connection_id, code=error.code, error=str(error))

    def wait(self, seconds: float) -> tuple[list[int], dict[int, float]]:
        """What is to be fetched at once, and what after so many seconds; waits for either."""
        with self._changed:
            if not self._now and not self._later:
                self._changed.wait(seconds)
            now, later = sorted(self._now), self._later
            self._now, self._later = set(), {}
            return now, later

    def may_listen(self, connection_id: int, version: object) -> bool:
        """False where the server refused to push to the connection as it was edited last."""
        with self._changed:
            ear = self._ears.setdefault(connection_id, _Ear())
            ear.version = version
            return ear.refused is None or ear.refused != version

    def listening(self, connection_id: int) -> None:
        """A session listens from now on."""
        with self._changed:
            ear = self._ears.setdefault(connection_id, _Ear())
            ear.since, ear.listens = self._clock(), True

    def ran(self, connection_id: int, *, fruitful: bool) -> bool | None:
        """A run ended well. Returns whether the server is found to be silent (it took IDLE and
        never tells) or to tell; None where this run says neither."""
        with self._changed:
            ear = self._ears.get(connection_id)
            if ear is None:
                return None
            listened = ear.listens and self._clock() - ear.since > _TIME_TO_TELL
            ear.listens = False
            silent: bool | None = None
            if ear.told and fruitful:
                ear.untold, silent = 0, False
            elif fruitful and listened:
                ear.untold += 1
                silent = True if ear.untold >= _UNTOLD else None
            if fruitful:
                ear.in_vain = 0
            elif ear.told:
                ear.in_vain += 1
            ear.told = False
            return silent

    def forget(self, connection_ids: Collection[int]) -> None:
        """These connections are no longer listened to here."""
        with self._changed:
            for connection_id in connection_ids:
                self._ears.pop(connection_id, None)
                self._now.discard(connection_id)
                self._later.pop(connection_id, None)
