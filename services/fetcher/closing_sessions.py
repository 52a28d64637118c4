"""Sessions that are being closed: each keeps its permit until its server has closed it as well."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, TypeVar

#: Seconds to wait for sessions that are being closed: that takes no longer.
CLOSING_S: Final = 5.0
#: Sessions that one thread closes at the same time: a server may take seconds to say goodbye.
_SIDE_BY_SIDE: Final = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(act: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """What `act` makes of each, in threads of its own where there are several. Raises what it
    raised for the first of those for which it did, once all of them are done."""
    wanted = list(items)
    if len(wanted) < 2:
        return [act(item) for item in wanted]
    with ThreadPoolExecutor(min(len(wanted), _SIDE_BY_SIDE), "closing") as threads:
        begun = [threads.submit(copy_context().run, act, item) for item in wanted]
    return [one.result() for one in begun]


class ClosingSessions:
    """By destination, under `lock`; `count` has the other sessions of this fetcher."""

    def __init__(self, lock: threading.Lock, count: Mapping[str, int]) -> None:
        self._closing: Counter[str] = Counter()
        self._closed = threading.Condition(lock)
        self._count = count

    def at(self, destination: str) -> int:
        return self._closing[destination]

    def begin(self, destinations: Sequence[str]) -> None:
        with self._closed:
            self._closing.update(destinations)

    def end(self, destinations: Sequence[str]) -> None:
        with self._closed:
            for destination in destinations:
                self._closing[destination] -= 1
                if not self._closing[destination]:
                    del self._closing[destination]
            self._closed.notify_all()

    def leave_room(self, destinations: Sequence[str], limit: Callable[[str], int]) -> bool:
        """Waits until there is room for those that are open beside them; whether there is."""

        def has_room() -> bool:
            return all(
                not self._closing[destination]
                or self._count[destination] + self._closing[destination] <= limit(destination)
                for destination in destinations
            )

        with self._closed:
            return self._closed.wait_for(has_room, CLOSING_S)
