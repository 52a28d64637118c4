"""Mail sessions that stay open between polls: a login costs ten times what a poll does.

A kept session either waits for its next poll or, where the connection asks for push, listens:
IDLE runs on it in a thread that all of them share, and a run takes it out of there.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime

from services.fetcher.closing_sessions import ClosingSessions, side_by_side
from services.fetcher.listening_sessions import Kept, Listeners
from services.fetcher.session_limits import PoolLimits, Reservations
from services.fetcher.session_opening import HostBusy, SessionOpener
from services.fetcher.session_shares import OneFetcher, SessionShares, ShareTable
from shared.connections import Connection
from shared.errors import PosthouseError
from shared.mailbox.base import Cursor, Mailbox
from shared.quantities import counted
from shared.storage.pool import DatabaseUnavailable

#: Servers log idle clients out after 30 minutes (RFC 9051 section 5.4).
LONGEST_IDLE_MINUTES = 20
#: Seconds for which a session is used, give or take a quarter: the name of its server may lead to
#: another one by then, to which mails go now, while the old one answers for weeks.
LONGEST_KEPT_S = 3600.0
#: Seconds to wait for a session that begins to listen at this moment.
_BEGIN_S = 2.0


class SessionPool:
    """The sessions of a fetcher, bounded. Thread-safe; one connection is used by one run at a time.

    A session belongs to a connection as it was edited last; an edit makes it useless. `on_push`
    and `on_lost` tell of listening sessions, by the connection's id, mostly from another thread.
    `crowded` is told a host that turned us away although no session of this fetcher is open there,
    and says whether other fetchers have some that may give way. `table` counts the sessions at a
    server and at a mailbox over all fetchers; without one there are no others.
    """

    def __init__(
        self,
        opener: Callable[[Connection], Mailbox],
        limits: PoolLimits,
        *,
        on_push: Callable[[int], None],
        on_lost: Callable[[int, PosthouseError], None],
        crowded: Callable[[str], bool] = lambda host: False,
        wait: Callable[[float], None] = time.sleep,
        table: ShareTable | None = None,
        longest: float = LONGEST_KEPT_S,
    ) -> None:
        self._limits = limits
        self._longest = longest
        #: Until when a session is used (time.monotonic), by the `id` of its mailbox.
        self._until: dict[int, float] = {}
        self.shares = SessionShares(limits.at, table or OneFetcher())
        self._lock = threading.Lock()
        self._waiting: OrderedDict[int, Kept] = OrderedDict()
        self._count: Counter[str] = Counter()
        self._closing = ClosingSessions(self._lock, self._count)
        self._reservations = Reservations()
        self._listeners = Listeners(
            self._lock,
            limits.listening,
            self.shares.attainable,
            end=self._end,
            on_push=on_push,
            on_lost=on_lost,
        )
        self._opener = SessionOpener(
            opener,
            self._reservations,
            self.shares,
            lock=self._lock,
            count=self._count,
            give_way=self._give_way,
            crowded=crowded,
            wait=wait,
        )

    @property
    def is_listening(self) -> bool:
        """Whether the thread that waits for pushed mails lives."""
        return self._listeners.is_alive

    def __enter__(self) -> SessionPool:
        self._listeners.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._listeners)

    def has_idle_session(self, connection_id: int) -> bool:
        """Whether a session of this connection is open here, and nobody uses it."""
        return connection_id in self._waiting or connection_id in self._listeners

    def connections(self, connection_ids: Iterable[int]) -> dict[int, Connection]:
        """Those whose sessions are open here, as they were edited last when these were opened."""
        kept = ((i, self._waiting.get(i) or self._listeners.get(i)) for i in connection_ids)
        return {i: one.connection for i, one in kept if one is not None}

    # ---- for one run

    def take(self, connection: Connection) -> tuple[Mailbox, bool]:
        """A session for this connection, and whether it was open already.

        Raises HostBusy, or whatever opening a mailbox raises.
        """
        destinations = connection.session_destinations()
        with self._lock:
            if not self._listeners.settled(connection.id, _BEGIN_S):
                raise HostBusy("The session of this mailbox begins to listen just now.")
            kept = self._waiting.pop(connection.id, None)
            heard = self._listeners.pop(connection.id)
        answers = kept is not None
        if heard is not None:
            answers = self._listeners.release(connection.id, heard)
            kept = heard
        if kept is not None:
            if answers and self._is_current(kept, connection):
                return kept.mailbox, True
            self._end(kept)
        self._make_room(destinations)
        try:
            mailbox = self._opener.open(connection, destinations)
        except BaseException:
            self._forget(destinations)
            raise
        # Those that were opened together are not renewed together.
        self._until[id(mailbox)] = time.monotonic() + self._longest * random.uniform(0.75, 1.25)  # noqa: S311
        return mailbox, False

    def _is_current(self, kept: Kept, connection: Connection) -> bool:
        """Whether it is of the connection as it was edited last, and was not open for long."""
        return kept.version == connection.updated_at and time.monotonic() < self._until.get(
            id(kept.mailbox), 0
        )

    def take_waiting(self, connection: Connection) -> Mailbox | None:
        """The session of this connection if it is open, current and does not listen."""
        with self._lock:
            kept = self._waiting.get(connection.id)
            if kept is None or not self._is_current(kept, connection):
                return None
            del self._waiting[connection.id]
            return kept.mailbox

    def wake(self, connection: Connection, within_s: float) -> bool:
        """Whether a session of this connection waits here that `take` gives without a login; one
        that listens is taken out of that, which its server has to confirm within `within_s`
        seconds. One that is to be renewed is ended."""
        with self._lock:
            if not self._listeners.settled(connection.id, within_s):
                return False
            waits = self._waiting.get(connection.id)
            if waits is not None and self._is_current(waits, connection):
                return True
            kept = self._waiting.pop(connection.id, None) or self._listeners.pop(connection.id)
        if kept is None:
            return False
        answers = kept is waits or self._listeners.release(connection.id, kept, within_s)
        if not (answers and self._is_current(kept, connection)):
            self._end(kept)
            return False
        with self._lock:
            self._waiting[connection.id] = kept
        return True

    def give_back(self, connection: Connection, mailbox: Mailbox, *, healthy: bool) -> None:
        """Keeps the session for the next poll where that is of use, else closes it."""
        kept = Kept(mailbox, connection, connection.session_destinations())
        useful = (
            healthy
            and self._limits.kept > 0
            and connection.kind.keeps_sessions
            and (
                connection.interval_minutes <= LONGEST_IDLE_MINUTES
                or (connection.push and mailbox.capabilities.push)
            )
        )
        closing = [] if useful else [kept]
        with self._lock:
            if useful and any(self._count[one] > self._limit(one) for one in kept.destinations):
                closing, useful = [kept], False  # another fetcher waits for its permit
            if useful:
                self._waiting[connection.id] = kept
                if len(self._waiting) > self._limits.kept:
                    closing.append(self._waiting.popitem(last=False)[1])
        side_by_side(self._end, closing)

    def discard(self, connection: Connection, mailbox: Mailbox) -> None:
        """Closes a session that was taken and turned out broken."""
        self._end(Kept(mailbox, connection, connection.session_destinations()))

    # ---- listening

    def listen(self, connection: Connection, cursor: Cursor | None) -> bool:
        """Lets a session that waits here listen instead; False where it cannot, and waits on.

        What changed since `cursor` is a push event at once. Blocks for a round trip. Raises what
        opening the folder raises; the session is closed then.
        """
        with self._lock:
            kept = self._waiting.get(connection.id)
            if (
                kept is None
                or kept.version != connection.updated_at
                or not kept.mailbox.capabilities.push
                or not self._listeners.reserve(connection.id, kept)
            ):
                return False
            del self._waiting[connection.id]
        return self._listeners.listen(connection, kept, cursor)

    # ---- for all of them

    def prune(
        self, wanted: Mapping[int, datetime | None], asked: float, before: float
    ) -> list[int]:
        """Ends sessions that are not `wanted` (id → last edit, None: not any more) and were here at
        `asked` (time.monotonic) already; returns their ids.

        One of which nothing is said was here when it was asked `before`, too: the end of the run
        that left it here is recorded a little later.
        """
        with self._lock:
            everything = [*self._waiting.items(), *self._listeners.items()]
            gone = [
                i
                for i, kept in everything
                if kept.since < (asked if i in wanted else before)
                and not self._listeners.is_beginning(i)
                and wanted.get(i) != kept.version
            ]
        self.drop(gone)
        return gone

    def overdue(self) -> list[int]:
        """Connections with a session that listens and is to be renewed."""
        now, listening = time.monotonic(), self._listeners.items()
        return [i for i, kept in listening if self._until.get(id(kept.mailbox), 0) < now]

    def oldest(self, count: int) -> list[int]:
        """So many connections with a session here, those that wait first."""
        with self._lock:
            return [*self._waiting, *self._listeners][:count]

    def drop(self, connection_ids: Collection[int]) -> None:
        """Ends the sessions of these connections, where nobody uses them: several at a time, each
        of which can be used until its turn comes."""
        side_by_side(self._drop, connection_ids)

    def _drop(self, connection_id: int) -> None:
        with self._lock:
            taken = self._take_out([connection_id])
        side_by_side(self._end_taken, taken)

    def _take_out(self, connection_ids: Iterable[int]) -> list[tuple[int, Kept, bool]]:
        """With the lock: takes sessions that nobody uses; the last value says which listened."""
        taken = []
        for connection_id in connection_ids:
            if self._listeners.is_beginning(connection_id):
                continue
            waits = self._waiting.pop(connection_id, None)
            if waits is not None:
                taken.append((connection_id, waits, False))
            listens = self._listeners.pop(connection_id)
            if listens is not None:
                taken.append((connection_id, listens, True))
        return taken

    def _end_taken(self, taken: tuple[int, Kept, bool]) -> bool:
        connection_id, kept, listened = taken
        answers = not listened or self._listeners.release(connection_id, kept)
        self._end(kept)
        return answers

    def close(self) -> None:
        """Ends every session that nobody uses, and the listening."""
        self._listeners.close()
        with self._lock:
            waiting, self._waiting = list(self._waiting.values()), OrderedDict()
            self._listeners.clear()
        side_by_side(lambda kept: kept.mailbox.close(), waiting)

    # ---- counting

    def _make_room(self, destinations: tuple[str, ...]) -> None:
        """Counts one more session at each destination, and ends those that have to go for that."""
        while True:
            with self._lock:
                needed = {one: self._count[one] + 1 for one in destinations}
            shares = {one: self._has_share(one, number) for one, number in needed.items()}
            victims: dict[int, Kept] = {}
            with self._lock:
                if any(shares[one] and self._count[one] >= needed[one] for one in destinations):
                    continue  # Others were quicker: nobody has to go where the share can grow.
                for destination in destinations:
                    limit = self._limit(destination)  # a share may have been given up meanwhile
                    going = sum(destination in kept.destinations for kept in victims.values())
                    if self._count[destination] - going < limit:
                        continue
                    found = next(self._evictable(destination), None)
                    if found is None:
                        have = counted(self._count[destination], "session")
                        words = f"{destination} already has {have} of this fetcher."
                        raise HostBusy(words, retry_after=2)
                    victims[found[0]] = found[1]
                taken = self._take_out(victims)
                self._count.update(destinations)
                for destination in destinations:
                    self.shares.opens(destination, self._count[destination])
            side_by_side(self._end_taken, taken)
            try:
                self._wait_for_closing(destinations)
            except BaseException:
                self._forget(destinations)
                raise
            return

    def _wait_for_closing(self, destinations: tuple[str, ...]) -> None:
        """Waits until those that are being closed have left room for the one that was counted."""
        for destination in destinations:
            if self._closing.at(destination):  # where there is room for all of them, nobody waits
                self._has_share(destination, self._open_at(destination))
        if not self._closing.leave_room(destinations, self._limit):
            raise HostBusy(f"A session at {destinations[0]} is still being closed.", retry_after=2)

    def _open_at(self, destination: str) -> int:
        """With those that are being closed."""
        return self._count[destination] + self._closing.at(destination)

    def _has_share(self, destination: str, needed: int) -> bool:
        """Whether so many sessions may be open there, if necessary with a larger share."""
        if self.shares.has(destination, needed):
            return True
        try:
            return self.shares.request(destination, needed)
        except DatabaseUnavailable as outage:
            raise HostBusy(f"Sessions at {destination} cannot be counted: {outage}") from outage

    def _evictable(self, destination: str) -> Iterator[tuple[int, Kept]]:
        """Sessions at `destination` that nobody uses, those that wait longest first."""
        for connection_id, kept in [*self._waiting.items(), *self._listeners.items()]:
            if destination in kept.destinations and not self._listeners.is_beginning(connection_id):
                yield connection_id, kept

    def _limit(self, destination: str) -> int:
        """This fetcher's share there, less what is reserved."""
        return self._reservations.at(destination, self.shares.allowed(destination))

    def give_up_shares(self) -> None:
        """Ends sessions where other fetchers wait for a permit, less those that are being closed.
        Raises DatabaseUnavailable."""

        def close(destination: str, count: int) -> None:
            self._give_way(destination, max(0, count - self._closing.at(destination)))

        self.shares.give_up(self._open_at, close)

    def give_way(self, host: str) -> bool:
        """Ends a session at `host` that nobody uses, for another fetcher; whether there was one."""
        return bool(self._give_way(host, 1))

    def _give_way(self, destination: str, count: int) -> list[bool]:
        """Ends so many sessions there that nobody uses, as `drop` does; of each, was it alive?"""
        ended = side_by_side(self._end_oldest, [destination] * count)
        return [alive for one in ended for alive in one]

    def _end_oldest(self, destination: str) -> list[bool]:
        with self._lock:
            oldest = [connection_id for connection_id, _ in self._evictable(destination)][:1]
            taken = self._take_out(oldest)
        alive = all(listens or kept.mailbox.is_alive() for _, kept, listens in taken)
        return [answers and alive for answers in side_by_side(self._end_taken, taken)]

    def _end(self, kept: Kept) -> None:
        self._until.pop(id(kept.mailbox), None)
        self._closing.begin(kept.destinations)
        self._forget(kept.destinations)
        try:
            kept.mailbox.close()
        finally:
            self._closing.end(kept.destinations)

    def _forget(self, destinations: tuple[str, ...]) -> None:
        with self._lock:
            for destination in destinations:
                self._count[destination] -= 1
                if not self._count[destination]:
                    del self._count[destination]
