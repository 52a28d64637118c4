"""How many requests a mailbox or an application has left, over all processes.

A process takes some at a time, so that a request costs no statement. What is taken is covered at a
steady rate, and a number of them may be had in advance (the generic cell rate algorithm, ITU-T
I.371 annex A). Where that number is used up, processes are served in the order in which they ask,
so many each; what a killed one took and did not use comes back with the rate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from shared.errors import TryAgain
from shared.storage.pool import Database
from shared.storage.queries import Queries

_SQL = Queries("request_budgets")
#: Seconds after which what nobody used is forgotten.
_UNUSED: Final = 1800.0


class NoRequestsLeft(TryAgain):
    """So many were made that the next one would have to wait for longer than its run may."""

    code = "mailbox-busy"


@dataclass(frozen=True, slots=True)
class RequestLimit:
    """`most` requests in any `seconds`, of which `in_advance` are had faster than the rate. Each
    of so many `processes` may have taken `at_a_time` and not used them yet."""

    most: int
    seconds: float
    in_advance: int
    at_a_time: int
    processes: int

    @property
    def interval(self) -> float:
        """Seconds of the rate that a request takes."""
        return self.seconds / (self.most - self.in_advance - self.processes * self.at_a_time)


@dataclass(slots=True)
class _Taken:
    left: int = 0
    #: When these are covered, and when the last was used (time.monotonic).
    covered: float = 0.0
    used: float = 0.0
    taking: threading.Lock = field(default_factory=threading.Lock)


class RequestBudgets:
    """What this process has taken, by budget. Thread-safe."""

    def __init__(
        self, database: Database, limit: RequestLimit, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._database = database
        self._limit = limit
        self._wait = wait
        self._lock = threading.Lock()
        self._taken: dict[str, _Taken] = {}
        self._swept = time.monotonic()

    def spend(self, budget: str, requests: int, within: float) -> None:
        """Counts `requests` that are made now, after waiting for at most `within` seconds. Raises
        NoRequestsLeft, DatabaseUnavailable."""
        with self._lock:
            taken = self._taken.setdefault(budget, _Taken())
            taken.used = time.monotonic()
            self._sweep(taken.used)
        with taken.taking:
            if taken.left < requests:
                many = max(requests - taken.left, self._limit.at_a_time)
                taken.covered = time.monotonic() + self._take(budget, many, within)
                taken.left += many
            pause = taken.covered - time.monotonic()
            if pause > within:
                raise _none_left(budget, pause)
            taken.left -= requests
        if pause > 0:
            self._wait(pause)

    def _take(self, budget: str, many: int, within: float) -> float:
        """Seconds until these are covered."""
        cost = many * self._limit.interval
        advance = self._limit.in_advance * self._limit.interval
        values = {"budget": budget, "cost": cost, "most": advance + within}
        with self._database.autocommit() as session:
            row = session.execute(_SQL["take"], values).fetchone()
        assert row is not None
        ahead, was_taken = row
        pause = max(0.0, float(ahead) + cost - advance)
        if not was_taken:
            raise _none_left(budget, pause)
        return pause

    def _sweep(self, now: float) -> None:
        if now < self._swept + _UNUSED:
            return
        self._swept = now
        for budget in [p for p, taken in self._taken.items() if taken.used < now - _UNUSED]:
            del self._taken[budget]


def _none_left(budget: str, pause: float) -> NoRequestsLeft:
    return NoRequestsLeft(
        f"As many requests as its provider allows were made for the {budget}.",
        retry_after=pause,
    )
