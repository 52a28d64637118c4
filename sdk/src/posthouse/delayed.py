"""Events that come again later, and the count of their deliveries."""

from __future__ import annotations

import heapq
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import NamedTuple, TypeVar

from posthouse.source import Held, Source

_T = TypeVar("_T")

#: How many events are remembered by what was counted, or that they were handled.
_REMEMBERED = 10_000


class PutOff(NamedTuple):
    """An event that comes again at `due` (time.monotonic).

    `counts`: that is one more delivery. `here`: it waits in this process even where the broker
    would count the delivery itself, so that nothing passes it.
    """

    due: float
    number: int
    held: Held
    event_id: str
    counts: bool
    here: bool


class Delayed:
    """What callbacks put off or failed at, until it is due."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: list[PutOff] = []
        #: Deliveries that the broker counted and that were none, by event; and what its count was
        #: when the event was last given back without a failure.
        self._uncounted: OrderedDict[str, int] = OrderedDict()
        self._given_back: OrderedDict[str, int] = OrderedDict()
        self._numbers = count()

    def add(
        self, held: Held, event_id: str, delay_s: float, *, counts: bool, here: bool = False
    ) -> None:
        due = time.monotonic() + min(delay_s, self._source.longest_delay_s)
        if self._source.keeps_held or (counts and not here):
            held = replace(held, body=b"")  # it may wait for days: not with its octets
        entry = PutOff(due, next(self._numbers), held, event_id, counts, here)
        heapq.heappush(self._waiting, entry)

    def due(self) -> Iterator[tuple[str, Held | None]]:
        """Id and event of all that are due; None where the broker will give it."""
        while self._waiting and self._waiting[0].due <= time.monotonic():
            one = self._waiting[0]
            counts_here = one.counts and one.here and not self._source.keeps_held
            again = self._source.again(one.held, counts=one.counts and not counts_here)
            heapq.heappop(self._waiting)  # not before: the broker may be away
            if again is not None and counts_here:
                again = replace(again, attempt=again.attempt + 1)
            if again is None and not one.counts:
                counted = one.held.attempt + self._uncounted.get(one.event_id, 0)
                remember(self._given_back, one.event_id, counted)
            yield one.event_id, again

    def forgiven(self, event_id: str, counted: int) -> int:
        """How many of the `counted` deliveries were none. Not every broker counts what is given
        back."""
        before = self._given_back.pop(event_id, None)
        if before is not None and counted > before:
            remember(self._uncounted, event_id, self._uncounted.pop(event_id, 0) + 1)
        return self._uncounted.get(event_id, 0)

    def settled(self, event_id: str) -> None:
        self._uncounted.pop(event_id, None)

    def held(self) -> Iterator[Held]:
        """All that wait, as the broker has to know them."""
        # Whose attempt failed has it behind it; the others' is still to come.
        return (replace(one.held, attempt=one.held.attempt + one.counts) for one in self._waiting)

    def wait_s(self, most: float) -> float:
        """Seconds until one is due, `most` at most."""
        if not self._waiting:
            return most
        return max(0.0, min(most, self._waiting[0].due - time.monotonic()))

    def clear(self) -> None:
        self._waiting.clear()


def remember(known: OrderedDict[str, _T], event_id: str, value: _T) -> None:
    """Keeps the newest 10,000."""
    known[event_id] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
