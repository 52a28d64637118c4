"""Which events wait to be tried again, as Postgres remembers it over restarts and replicas."""

from __future__ import annotations

import time

from shared.storage import forwards
from shared.storage.forwards import Waiting
from shared.storage.pool import Database


class Retries:
    """What is known here of events that failed. Thread-safe: entries are replaced, not changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due: dict[tuple[int, str], float] = {}  # time.monotonic

    def refresh(self) -> None:
        """Learns what other forwarders left. Raises DatabaseUnavailable."""
        with self._database.transaction() as session:
            found = forwards.all_waiting(session)
        now = time.monotonic()
        self._due = {(handler, event): now + wait_s for handler, event, wait_s in found}

    def wait_s(self, handler_id: int, event_id: str) -> float:
        """Seconds until an event may be tried again; 0 where it may now."""
        due = self._due.get((handler_id, event_id))
        return 0.0 if due is None else max(0.0, due - time.monotonic())

    def has(self, handler_id: int, event_id: str) -> bool:
        return (handler_id, event_id) in self._due

    def failed(
        self, handler_id: int, event_id: str, *, first_s: float, longest_s: float
    ) -> Waiting:
        """Counts a failed attempt. Raises DatabaseUnavailable."""
        with self._database.transaction() as session:
            waiting = forwards.failed(
                session, handler_id, event_id, first_s=first_s, longest_s=longest_s
            )
        self._due[handler_id, event_id] = time.monotonic() + waiting.wait_s
        return waiting

    def forget(self, handler_id: int, event_id: str) -> None:
        self._due.pop((handler_id, event_id), None)
