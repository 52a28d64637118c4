"""Whether an endpoint is sent to now: a failing one is left alone, then tried with one event."""

from __future__ import annotations

import threading
import time
from typing import Final

#: Seconds for which an endpoint that takes nothing is left alone: the first time, doubled up to
#: the longest. Each event has longer pauses of its own (`delivering`).
FIRST_S: Final = 5.0
LONGEST_S: Final = 60.0
#: Different events refused in a row, none taken between them: then it is the endpoint.
_REFUSED_IN_A_ROW: Final = 10


class CircuitBreaker:
    """One endpoint's: closed lets all events through, open none, half-open one that tries it.

    Thread-safe. After `enter` one of the other methods has to be called.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_closed = True
        self._is_probing = False
        self._tries_at = 0.0
        self._delay_s = 0.0
        self._refused = 0
        self._left = False

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def enter(self) -> bool:
        """Returns when an event may be sent; False where `leave` was called."""
        with self._changed:
            while not self._left:
                if self._is_closed:
                    return True
                left_s = self._tries_at - time.monotonic()
                if left_s <= 0 and not self._is_probing:
                    self._is_probing = True
                    return True
                self._changed.wait(None if self._is_probing else left_s)
            return False

    def leave(self) -> None:
        """Nobody enters any more."""
        with self._changed:
            self._left = True
            self._changed.notify_all()

    def taken(self) -> None:
        """The endpoint took an event: it works."""
        if self._is_closed and not self._refused:
            return
        with self._changed:
            self._is_closed, self._is_probing = True, False
            self._delay_s, self._refused = 0.0, 0
            self._changed.notify_all()

    def refused(self) -> None:
        """It refused an event, which may be this event's fault."""
        with self._changed:
            self._refused += 1
            if self._refused >= _REFUSED_IN_A_ROW:
                self._trip(None)
            else:
                self._is_closed, self._is_probing = True, False
                self._changed.notify_all()

    def failed(self, wait_s: float | None) -> None:
        """It takes nothing now; `wait_s`: for how long it asks to be left alone."""
        with self._changed:
            self._trip(wait_s)

    def _trip(self, wait_s: float | None) -> None:
        if not self._is_closed and not self._is_probing:
            return  # one of those that were on their way when another failed
        self._delay_s = min(max(FIRST_S, 2 * self._delay_s), LONGEST_S)
        self._is_closed, self._is_probing = False, False
        self._tries_at = time.monotonic() + (self._delay_s if wait_s is None else wait_s)
        self._changed.notify_all()
