"""How many sessions this fetcher may open at a destination: its share of what all fetchers may.

A destination is a mail server, or a mailbox at it (`Connection.session_destinations`). A share is a
number of permits, one for each session. It grows when a session is opened for which it is too
small, some at a time where there are many, and shrinks when another fetcher waits for a session. A
poll of a kept session asks for nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from services.fetcher.session_limits import REMEMBERED, log_limit
from shared.storage import session_shares
from shared.storage.pool import Database

#: Seconds until an ask that was in vain is repeated.
_ASK_AGAIN: Final = 1.0
#: A share grows by this part of itself at a time.
_GROWTH: Final = 4
#: Seconds for which a share that nobody uses and nobody wants is left as it is.
_UNUSED: Final = 600.0

#: Sessions that all fetchers together may have open at a destination.
Limit = Callable[[str], int]


class GrantedShare(NamedTuple):
    """By how many a share may rise. `lost`: the shares at other destinations were given to others.
    `counted`: False where one more session needs no share."""

    more: int
    lost: bool = False
    counted: bool = True


class ShareTable(Protocol):
    """Where the shares of all fetchers are counted."""

    def request(self, destination: str, held: int, many: int, limit: int) -> GrantedShare:
        """Asks for `many` more at a destination."""
        ...

    def learn(self, destination: str, held: int) -> int:
        """A server takes no more than `held` here, beside those of others; all together."""
        ...

    def contested(self) -> Sequence[str]:
        """Destinations at which a fetcher waits for a session."""
        ...

    def wanted_by_others(self, destinations: Sequence[str], limit: Limit) -> dict[str, int]:
        """Contested destinations at which another one waits for what is here → what may be kept."""
        ...

    def hold(self, held: Mapping[str, int], anew: bool) -> None:
        """The share at these destinations; `anew`: others may have been given it."""
        ...

    def drop(self, destinations: list[str]) -> None: ...


class AllFetchers:
    """The table in Postgres."""

    def __init__(self, database: Database, owner: str, ttl: float) -> None:
        self._database = database
        self._owner = owner
        self._ttl = ttl

    def request(self, destination: str, held: int, many: int, limit: int) -> GrantedShare:
        with self._database.transaction() as session:
            if not session_shares.is_counted(session, destination):
                return GrantedShare(0, counted=False)
            return GrantedShare(
                *session_shares.request(
                    session,
                    self._owner,
                    destination,
                    held=held,
                    many=many,
                    limit=limit,
                    ttl=self._ttl,
                )
            )

    def learn(self, destination: str, held: int) -> int:
        with self._database.transaction() as session:
            return session_shares.learn(
                session, self._owner, destination, held=held, seconds=REMEMBERED, ttl=self._ttl
            )

    def contested(self) -> Sequence[str]:
        with self._database.transaction() as session:
            return session_shares.contested(session)

    def wanted_by_others(self, destinations: Sequence[str], limit: Limit) -> dict[str, int]:
        with self._database.transaction() as session:
            return session_shares.wanted_by_others(session, self._owner, destinations, limit)

    def hold(self, held: Mapping[str, int], anew: bool) -> None:
        with self._database.transaction() as session:
            session_shares.hold(session, self._owner, held, self._ttl, anew=anew)

    def drop(self, destinations: list[str]) -> None:
        with self._database.transaction() as session:
            session_shares.drop(session, self._owner, destinations)


class OneFetcher:
    """For a fetcher without others, as in tools and tests."""

    def __init__(self) -> None:
        self._learned: dict[str, int] = {}

    def request(self, destination: str, held: int, many: int, limit: int) -> GrantedShare:
        return GrantedShare(max(0, min(many, self._learned.get(destination, limit) - held)))

    def learn(self, destination: str, held: int) -> int:
        self._learned[destination] = max(1, held)
        return self._learned[destination]

    def contested(self) -> Sequence[str]:
        return []

    def wanted_by_others(self, destinations: Sequence[str], limit: Limit) -> dict[str, int]:
        return {}

    def hold(self, held: Mapping[str, int], anew: bool) -> None:
        pass

    def drop(self, destinations: list[str]) -> None:
        pass


class SessionShares:
    """The shares of this fetcher, by destination. Thread-safe.

    `limit` is what all fetchers together may have at a destination. Whoever opens a session says so
    (`opens`), so that the permit of one that was closed is given up only a while later: its server
    may count it still.
    """

    def __init__(self, limit: Limit, table: ShareTable, ask_again: float = _ASK_AGAIN) -> None:
        self._limit = limit
        self._table = table
        self._ask_again = ask_again
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._held: dict[str, int] = {}
        self._peak: dict[str, int] = {}
        self._refused: dict[str, float] = {}
        self._ceiling: Mapping[str, int] = {}
        self._learned: dict[str, tuple[int, float]] = {}
        self._unsaid: set[str] = set()
        self._anew: set[str] = set()
        self._swept = time.monotonic()

    def allowed(self, destination: str) -> int:
        """Sessions that may be open there now; what `limit` says where none was counted yet."""
        with self._lock:
            held = self._held.get(destination, self._limit(destination))
            return min(held, self._ceiling.get(destination, held))

    def has(self, destination: str, needed: int) -> bool:
        """Whether the share is as large as `needed`, without asking for more."""
        with self._lock:
            held = self._held.get(destination, 0)
            return min(held, self._ceiling.get(destination, held)) >= needed

    def attainable(self, destination: str) -> int:
        """What it would be if as many as possible were opened, as far as is known."""
        with self._lock:
            held = self._held.get(destination, 0)
            if destination in self._ceiling:
                return min(held, self._ceiling[destination])
            if destination in self._refused:
                return held
            learned, until = self._learned.get(destination, (0, 0.0))
        limit = self._limit(destination)
        return min(limit, learned) if time.monotonic() < until else limit

    def knows(self, destination: str) -> bool:
        """Whether the limit of this server was met within the last hour."""
        with self._lock:
            return time.monotonic() < self._learned.get(destination, (0, 0.0))[1]

    def request(self, destination: str, needed: int) -> bool:
        """Whether the share is, or now became, as large as `needed`. Raises DatabaseUnavailable."""
        with self._asking:
            with self._lock:
                held = self._held.get(destination, needed - 1)
                if min(held, self._ceiling.get(destination, held)) >= needed:
                    return True
                now = time.monotonic()
                if (
                    destination in self._ceiling
                    or now < self._refused.get(destination, 0.0) + self._ask_again
                ):
                    return False
            limit = self._limit(destination)
            granted = self._table.request(destination, held, max(1, held // _GROWTH), limit)
            if not granted.counted:
                return True
            with self._lock:
                if granted.lost:
                    self._anew.update(self._held)
                self._held[destination] = held + granted.more
                if granted.more:
                    self._refused.pop(destination, None)
                else:
                    self._refused[destination] = now
            return held + granted.more >= needed

    def opens(self, destination: str, count: int) -> None:
        """A session is opened there, with which it has `count` of them."""
        with self._lock:
            if destination in self._held:
                self._peak[destination] = max(count, self._peak.get(destination, 0))

    def learn(self, destination: str, held: int) -> None:
        """A server took so many of this fetcher, and no more."""
        with self._asking:
            allowed = self._table.learn(destination, held)
            with self._lock:
                self._held[destination] = held
                self._learned[destination] = (allowed, time.monotonic() + REMEMBERED)
        log_limit(destination, allowed)

    def renew(self) -> None:
        """Says all shares again: this fetcher was taken for dead."""
        with self._lock:
            self._anew.update(self._held)

    def give_up(self, used: Callable[[str], int], close: Callable[[str, int], object]) -> None:
        """Gives up what others wait for. `used`: sessions at a destination that are open or being
        closed; `close` ends up to so many that nobody uses. Raises DatabaseUnavailable."""
        self._write(self._anew, anew=True)
        contested = self._table.contested()
        self._count_late(contested, used)
        wanted = self._table.wanted_by_others(contested, self._limit) if contested else {}
        with self._lock:
            self._ceiling = wanted
        for destination, part in wanted.items():
            if (beyond := used(destination) - part) > 0:
                close(destination, beyond)
        with self._asking:
            with self._lock:
                for destination, part in wanted.items():
                    self._shrink(destination, part, used(destination))
                unused = self._unused(used)
            if unused:
                self._table.drop(unused)
        self._write(self._unsaid, anew=False)

    def _count_late(self, contested: Sequence[str], used: Callable[[str], int]) -> None:
        """Says what is open at mailboxes that had one connection when it was opened."""
        with self._lock:
            late = {
                destination: used(destination)
                for destination in contested
                if destination not in self._held
            }
            for destination, open_there in late.items():
                if open_there:
                    self._held[destination] = self._peak[destination] = open_there
                    self._unsaid.add(destination)
        self._write(self._unsaid, anew=False)

    def _write(self, destinations: set[str], *, anew: bool) -> None:
        with self._asking:
            with self._lock:
                telling = {
                    destination: self._held[destination]
                    for destination in destinations
                    if destination in self._held
                }
            if telling:
                self._table.hold(telling, anew)
            with self._lock:
                destinations.difference_update(telling)

    def _shrink(self, destination: str, part: int, used: int) -> None:
        held = self._held.get(destination, 0)
        still = max(part, used, self._peak.get(destination, 0))
        self._peak[destination] = used
        if still < held:
            self._held[destination] = still
            self._unsaid.add(destination)

    def _unused(self, used: Callable[[str], int]) -> list[str]:
        """Forgets destinations at which nothing was open for a long time."""
        if time.monotonic() < self._swept + _UNUSED:
            return []
        self._swept = time.monotonic()
        unused = []
        for destination in list(self._held):
            if not used(destination) and not self._peak.get(destination):
                unused.append(destination)
                for known in (self._held, self._peak, self._refused):
                    known.pop(destination, None)
                self._unsaid.discard(destination)
            else:
                self._peak[destination] = used(destination)
        return unused
