"""Undecodable jobs that this process met on its queues: the overview shows them for an hour."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Final

from shared.errors import TryAgain
from shared.quantities import counted

#: Seconds for which people are told of them.
_TOLD_S: Final = 3600.0


class UndecodableJobs:
    """How many this process met within the last hour, on which queues. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: Counter[str] = Counter()
        self._last = 0.0

    def note(self, queue: str) -> None:
        with self._lock:
            self._queues[queue] += 1
            self._last = time.monotonic()

    def check(self) -> None:
        """Raises TryAgain from the first one until an hour after the last one."""
        with self._lock:
            if self._queues and time.monotonic() - self._last > _TOLD_S:
                self._queues.clear()
            queues = dict(self._queues)
        if queues:
            raise TryAgain(
                f"{counted(sum(queues.values()), 'message')} on the job queues "
                f"({', '.join(sorted(queues))}) could not be read and went to their dead letters: "
                "no mail is lost by that, but something else writes to this broker. Give Posthouse "
                "a virtual host or database index of its own. This is shown until none was met "
                "for an hour."
            )


#: Of this process.
UNDECODABLE_JOBS: Final = UndecodableJobs()
