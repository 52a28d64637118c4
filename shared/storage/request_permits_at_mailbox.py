"""What one process holds at one mailbox, and which of its threads waits for it. Values only.

Times are those of time.monotonic.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final

#: Seconds between two questions for a permit that others hold: first, and at the most.
_FIRST_WAIT: Final = 0.02
_LONGEST_WAIT: Final = 0.25
#: Seconds without a request until one permit is kept, and until none is.
_QUIET, _UNUSED = 10.0, 1800.0


@dataclass(slots=True)
class PermitsAtMailbox:
    """`held`: permits; `in_use`: those that requests use now."""

    held: int = 0
    in_use: int = 0
    #: Threads that want permits, in their order.
    queue: deque[Waiter] = field(default_factory=deque)
    #: Its row is being changed: nobody else changes it meanwhile.
    writing: bool = False
    paused_until: float = 0.0
    contested_until: float = 0.0
    used: float = 0.0

    def worth_keeping(self, now: float) -> int:
        if now < self.contested_until or now > self.used + _UNUSED:
            return self.in_use
        return max(self.in_use, min(self.held, 1)) if now > self.used + _QUIET else self.held

    def is_forgettable(self, now: float) -> bool:
        busy = self.held or self.in_use or self.queue or self.writing
        return not busy and max(self.used + _UNUSED, self.paused_until) < now


@dataclass(slots=True, eq=False)
class Waiter:
    """A thread that wants `permits` until `deadline`."""

    mailbox: str
    permits: int
    deadline: float
    wait: float = _FIRST_WAIT
    asked_about_pause: bool = False

    def next_wait(self) -> float:
        """By chance, as those who wait at other mailboxes ask, too; longer each time."""
        wait, self.wait = self.wait, min(self.wait * 2, _LONGEST_WAIT)
        return wait * random.uniform(0.5, 1.5)  # noqa: S311 (jitter)
