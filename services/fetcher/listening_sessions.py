"""Sessions that listen: IDLE runs on each of them, in one thread for all.

They are part of the pool, whose lock is held where a method says so.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from shared.connections import Connection
from shared.errors import PosthouseError
from shared.mailbox.base import Cursor, Mailbox
from shared.mailbox.push_loop import PushLoop
from shared.telemetry import metrics

#: Of each limit, one fifth (one session at least) never listens: polls of other folders need it.
_NEVER_LISTENING = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """An open session, the connection it is of, as that was edited last, and where it counts
    (`Connection.session_destinations`)."""

    mailbox: Mailbox
    connection: Connection
    destinations: tuple[str, ...]
    since: float = field(default_factory=time.monotonic)

    @property
    def version(self) -> datetime | None:
        return self.connection.updated_at


class Listeners:
    """Sessions that listen, by the connection's id, and how many do at each destination.

    `most`: how many may listen; `limit`: how many sessions a destination may have. `end` closes a
    session that broke. `on_push` and `on_lost` are called from the loop's thread, or within
    `listen`; `on_push` within `release`, too, for who could not listen until then.
    """

    def __init__(
        self,
        lock: threading.Lock,
        most: int,
        limit: Callable[[str], int],
        *,
        end: Callable[[Kept], None],
        on_push: Callable[[int], None],
        on_lost: Callable[[int, PosthouseError], None],
    ) -> None:
        self._lock = lock
        self._begun = threading.Condition(lock)
        self._most = most
        self._limit = limit
        self._end = end
        self._on_lost = on_lost
        self._sessions: dict[int, Kept] = {}
        self._beginning: set[int] = set()  # those whose folder is being opened to listen
        #: Those that were popped and are still to be released, and of them those that are to listen
        #: again over another session.
        self._ending: set[int] = set()
        self._awaiting_end: set[int] = set()
        self._on_push = on_push
        self._count: Counter[str] = Counter()
        self._loop = PushLoop(lambda key: on_push(_id(key)), self._lost)

    @property
    def is_alive(self) -> bool:
        """Whether the thread that waits for pushed mails lives."""
        return self._loop.is_alive

    def start(self) -> None:
        self._loop.__enter__()

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, connection_id: int) -> bool:
        return connection_id in self._sessions

    def __iter__(self) -> Iterator[int]:
        return iter(self._sessions)

    def get(self, connection_id: int) -> Kept | None:
        return self._sessions.get(connection_id)

    def items(self) -> list[tuple[int, Kept]]:
        return list(self._sessions.items())

    def is_beginning(self, connection_id: int) -> bool:
        """Whether this session begins to listen at this moment, and cannot be taken."""
        return connection_id in self._beginning

    def settled(self, connection_id: int, within_s: float) -> bool:
        """Waits, with the lock, while the session begins to listen; False where it takes longer."""
        return self._begun.wait_for(lambda: connection_id not in self._beginning, within_s)

    def reserve(self, connection_id: int, kept: Kept) -> bool:
        """With the lock: whether there is room for one more, which `listen` then has to use. Not
        while another session of the connection is being ended: the loop knows both by its id. Once
        that is over it is told as pushed: nobody heard what came meanwhile."""
        if connection_id in self._ending:
            self._awaiting_end.add(connection_id)
            return False
        if len(self._sessions) >= self._most:
            return False
        if any(
            self._count[destination] >= _share(self._limit(destination))
            for destination in kept.destinations
        ):
            return False
        self._beginning.add(connection_id)
        return True

    def listen(self, connection: Connection, kept: Kept, cursor: Cursor | None) -> bool:
        """Lets a session listen, where `reserve` said so; False where it is lost already. Raises
        what opening the folder raises; the session is ended then."""
        self._add(kept, 1)
        # From here on it may be lost at any time: that is told by its key, so it is known first.
        self._sessions[connection.id] = kept
        try:
            self._loop.watch(connection.id, kept.mailbox, connection.folder, cursor)
            return self._sessions.get(connection.id) is kept
        except BaseException:
            self._drop(connection.id)
            raise
        finally:
            with self._lock:
                self._beginning.discard(connection.id)
                self._begun.notify_all()

    def pop(self, connection_id: int) -> Kept | None:
        """With the lock: takes a session out; `release` has to follow."""
        kept = self._sessions.pop(connection_id, None)
        if kept is not None:
            self._ending.add(connection_id)
        return kept

    def release(self, connection_id: int, kept: Kept, timeout_s: float = 10) -> bool:
        """Ends the listening of a session that was popped; whether its server confirmed that."""
        try:
            return self._loop.release(connection_id, timeout_s=timeout_s) is not None
        finally:
            with self._lock:
                self._ending.discard(connection_id)
                awaited = connection_id in self._awaiting_end
                self._awaiting_end.discard(connection_id)
            self._add(kept, -1)
            if awaited:
                self._on_push(connection_id)

    def close(self) -> None:
        """Ends the loop, and every session in it."""
        self._loop.close()

    def clear(self) -> None:
        """With the lock, after `close`."""
        self._sessions.clear()

    def _lost(self, key: Hashable, error: PosthouseError) -> None:
        connection_id = _id(key)
        self._drop(connection_id)
        self._on_lost(connection_id, error)

    def _drop(self, connection_id: int) -> None:
        kept = self._sessions.pop(connection_id, None)
        if kept is not None:
            self._add(kept, -1)
            self._end(kept)

    def _add(self, kept: Kept, by: int) -> None:
        with self._lock:
            for destination in kept.destinations:
                self._count[destination] += by
                if not self._count[destination]:
                    del self._count[destination]
        metrics.PUSH_SESSIONS.inc(by)


def _share(limit: int) -> int:
    return limit - max(1, limit // _NEVER_LISTENING)


def _id(key: Hashable) -> int:
    assert isinstance(key, int)
    return key
