"""The log of a forward's attempts, written in the background: no event waits for it, and what a
flood of successes would cost is bounded."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Final

import structlog

from shared.errors import PosthouseError
from shared.storage import forwards
from shared.storage.forwards import ForwardAttempt
from shared.storage.pool import Database

_log = structlog.get_logger(__name__)

_EVERY_S: Final = 1.0
#: Lines of one handler that are written in one go: the last of each kind.
_DELIVERED: Final = 50
_OTHERS: Final = 200
#: Goes after which the log of a handler that had something to write is trimmed.
_TRIMMED_EVERY: Final = 30


class AttemptLog:
    """Keeps lines until the next go. `run` on a thread of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._lines: dict[int, tuple[list[ForwardAttempt], list[ForwardAttempt]]] = defaultdict(
            lambda: ([], [])
        )
        self._forgotten: dict[int, set[str]] = defaultdict(set)
        self._busy: set[int] = set()

    def add(self, handler_id: int, attempt: ForwardAttempt) -> None:
        """A line; the oldest of a kind gives way where there are too many."""
        with self._lock:
            delivered, others = self._lines[handler_id]
            lines, most = (
                (delivered, _DELIVERED) if attempt.outcome == "delivered" else (others, _OTHERS)
            )
            lines.append(attempt)
            del lines[:-most]

    def forget(self, handler_id: int, event_id: str) -> None:
        """What was remembered of an event's failures goes, soon."""
        with self._lock:
            self._forgotten[handler_id].add(event_id)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; then writes what is left."""
        goes = 0
        while True:
            stopped = stop.wait(_EVERY_S)
            goes += 1
            self._write()
            if goes % _TRIMMED_EVERY == 0 or stopped:
                self._trim()
            if stopped:
                return

    def _write(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, defaultdict(lambda: ([], []))
            forgotten, self._forgotten = self._forgotten, defaultdict(set)
        if not lines and not forgotten:
            return
        self._busy |= lines.keys()
        try:
            with self._database.transaction() as session:
                for handler_id, events in forgotten.items():
                    forwards.forget_retries(session, handler_id, sorted(events))
                forwards.log(
                    session,
                    (
                        (handler_id, attempt)
                        for handler_id, kinds in lines.items()
                        for attempt in sorted((*kinds[0], *kinds[1]), key=lambda one: one.at)
                    ),
                )
        except Exception as error:
            # The lines are lost; what is to be forgotten must not be, or a later failure looks old.
            known = isinstance(error, PosthouseError)
            _log.warning("delivery log not written", error=str(error), exc_info=not known)
            with self._lock:
                for handler_id, events in forgotten.items():
                    self._forgotten[handler_id] |= events

    def _trim(self) -> None:
        busy, self._busy = self._busy, set()
        for handler_id in busy:
            try:
                with self._database.transaction() as session:
                    forwards.trim(session, handler_id)
            except PosthouseError as error:
                _log.warning("delivery log not trimmed", error=str(error))
