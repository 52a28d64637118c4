"""What servers pushed to listening sessions (IDLE), until it is fetched: at once, or held back.

Where push events led to nothing twice in a row (a server that announces flags, a person who reads
and unreads), they are acted on ever more rarely, up to once a minute; a mail that arrives ends
that. A session that breaks is opened again after some seconds, later each time it breaks soon.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import structlog

from shared.errors import PosthouseError

_log = structlog.get_logger(__name__)

#: Seconds. PushEvents in vain waits 1, 2, 4 … up to this.
LONGEST_GAP = 60.0
#: Seconds until a broken session is opened again: this, doubled each time, up to the longest.
FIRST_RECONNECT = 5.0
LONGEST_RECONNECT = 1800.0
#: Seconds until a server that refused IDLE is asked again: that may have been for the moment.
REFUSED_S = 3600.0
#: A session that listened this long has shown that it works (seconds).
_GOOD_LIFE = 120.0
#: Polls in a row that found mails of which a session that listened had not told: so often that is
#: no accident.
_UNANNOUNCED = 5
#: A session that listened for less than this (seconds) may not have had the time to tell.
_TIME_TO_TELL = 30.0


@dataclass(slots=True)
class _Listener:
    """What is remembered of one connection: unproductive runs, polls that found what was not
    pushed, sessions that broke, since when it listens, what is on record of its silence, and the
    edit that its server refused, with when it did."""

    unproductive: int = 0
    broken: int = 0
    since: float = field(default_factory=time.monotonic)
    announced: bool = False
    listens: bool = False
    unannounced: int = 0
    recorded: bool | None = None
    version: object = None
    refused: object = None
    refused_at: float = 0.0


class PushEvents:
    """Thread-safe; `announced` and `lost` return at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._now: set[int] = set()
        self._later: dict[int, float] = {}
        self._listeners: dict[int, _Listener] = {}

    def announced(self, connection_id: int) -> None:
        """The server announced something new."""
        with self._changed:
            listener = self._listeners.setdefault(connection_id, _Listener())
            listener.announced = True
            if listener.unproductive < 2:
                self._now.add(connection_id)
            else:
                gap = min(2.0 ** (listener.unproductive - 2), LONGEST_GAP)
                self._later[connection_id] = gap
            self._changed.notify()

    def lost(self, connection_id: int, error: PosthouseError) -> None:
        """The session broke, or the server does not push after all."""
        with self._changed:
            listener = self._listeners.setdefault(connection_id, _Listener())
            if error.code == "no-push":
                listener.refused, listener.refused_at = listener.version, self._clock()
            if self._clock() - listener.since > _GOOD_LIFE:
                listener.broken = 0
            delay = min(FIRST_RECONNECT * 2.0 ** min(listener.broken, 10), LONGEST_RECONNECT)
            listener.broken += 1
            listener.listens = False
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

    def again(self, now: Collection[int] = (), later: Mapping[int, float] | None = None) -> None:
        """Nothing could be done about these, as Postgres was away: `wait` gives them once more."""
        with self._changed:
            self._now.update(now)
            self._later = {**(later or {}), **self._later}
            self._changed.notify()

    def may_listen(self, connection_id: int, version: object) -> bool:
        """False where the server refused to push to the connection as it was edited last, some time
        ago (`REFUSED_S`)."""
        with self._changed:
            listener = self._listeners.setdefault(connection_id, _Listener())
            listener.version = version
            recently = self._clock() - listener.refused_at < REFUSED_S
            return listener.refused is None or listener.refused != version or not recently

    def listening(self, connection_id: int) -> None:
        """A session listens from now on."""
        with self._changed:
            listener = self._listeners.setdefault(connection_id, _Listener())
            listener.since, listener.listens = self._clock(), True

    def ran(self, connection_id: int, *, productive: bool) -> bool | None:
        """A run ended well. Returns whether the server is found to be silent (it took IDLE and
        never tells) or to tell; None where this run says neither, or what is on record
        (`silence_recorded`)."""
        with self._changed:
            listener = self._listeners.get(connection_id)
            if listener is None:
                return None
            listened = listener.listens and self._clock() - listener.since > _TIME_TO_TELL
            listener.listens = False
            silent: bool | None = None
            if listener.announced and productive:
                listener.unannounced, silent = 0, False
            elif productive and listened:
                listener.unannounced += 1
                silent = True if listener.unannounced >= _UNANNOUNCED else None
            if productive:
                listener.unproductive = 0
            elif listener.announced:
                listener.unproductive += 1
            listener.announced = False
            return None if silent == listener.recorded else silent

    def silence_recorded(self, connection_id: int, *, silent: bool) -> None:
        """What `ran` returned is on record: it is not said again until it changes."""
        with self._changed:
            if listener := self._listeners.get(connection_id):
                listener.recorded = silent

    def forget(self, connection_ids: Collection[int]) -> None:
        """These connections are no longer listened to here."""
        with self._changed:
            for connection_id in connection_ids:
                self._listeners.pop(connection_id, None)
                self._now.discard(connection_id)
                self._later.pop(connection_id, None)
