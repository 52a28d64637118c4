"""One event of a key at a time, in the order in which the queue gave them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator

from posthouse.event import MailEvent
from posthouse.source import Held

#: What is handled in order: events for which this gives the same. `lambda e: e.connection.id`.
OrderKey = Callable[[MailEvent], Hashable]


class Order:
    """Who has the turn. Without a key everybody."""

    def __init__(self, key: OrderKey | None) -> None:
        self._key = key
        self._first: dict[Hashable, str] = {}  # by key the id of the event that has the turn
        self._keys: dict[str, Hashable] = {}  # the other way round
        self._behind: dict[Hashable, deque[tuple[Held, str]]] = {}

    def admit(self, held: Held, event: MailEvent) -> bool:
        """Whether it has the turn; else it is kept until `leave` gives it. Raises what the key
        raises."""
        if self._key is None:
            return True
        key = self._key(event)
        if self._first.setdefault(key, event.id) == event.id:
            self._keys[event.id] = key
            return True
        self._behind.setdefault(key, deque()).append((held, event.id))
        return False

    def leave(self, event_id: str) -> tuple[Held, str] | None:
        """The event is done with, for good: the next of its key, with its id, which has
        the turn now."""
        if event_id not in self._keys:
            return None
        key = self._keys.pop(event_id)
        behind = self._behind.get(key)
        if not behind:
            del self._first[key]
            return None
        following = behind.popleft()
        if not behind:
            del self._behind[key]
        self._first[key] = following[1]
        self._keys[following[1]] = key
        return following

    def waiting(self) -> Iterator[Held]:
        return (held for behind in self._behind.values() for held, _ in behind)

    def __len__(self) -> int:
        return sum(map(len, self._behind.values()))

    def clear(self, but: set[str]) -> None:
        """The broker takes back everything; only the events `but` still have their turn."""
        self._behind.clear()
        self._keys = {event_id: key for event_id, key in self._keys.items() if event_id in but}
        self._first = {key: event_id for event_id, key in self._keys.items()}
