"""The heartbeat of a process that holds permits for requests: without it others take them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from shared.storage import request_permits
from shared.storage.pool import Database

#: Seconds between two heartbeats, and between two removals of what dead processes left.
_BETWEEN: Final = 3.0
_PURGE: Final = 60.0
#: Seconds after a heartbeat in which nobody takes this process for dead.
_ALIVE: Final = request_permits.LIVES - 3.0


class PermitsHeartbeat:
    """Of the process `holder`. `taken_for_dead` is called where a heartbeat came so late that its
    permits are free for others. Thread-safe."""

    def __init__(
        self, database: Database, holder: UUID, taken_for_dead: Callable[[], None]
    ) -> None:
        self._database = database
        self._holder = holder
        self._taken_for_dead = taken_for_dead
        self._sending = threading.Lock()
        self._last = float("-inf")
        self._purged = 0.0

    def is_alive(self, now: float) -> bool:
        """Whether nobody can take this process for dead at `now` (time.monotonic)."""
        return now < self._last + _ALIVE

    def send_when_due(self) -> None:
        """A heartbeat, where the last one is some seconds old. Raises DatabaseUnavailable."""
        if time.monotonic() <= self._last + _BETWEEN:
            return
        with self._sending:
            began = time.monotonic()
            with self._database.transaction() as session:
                lived = request_permits.heartbeat(session, self._holder)
                if began > self._purged + _PURGE:
                    self._purged = began
                    request_permits.purge(session)
            if not lived:
                self._taken_for_dead()
            self._last = began
