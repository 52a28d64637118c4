"""How many sessions this fetcher may open at a server: its share of what all fetchers may.

A share grows when a session is opened for which it is too small, some at a time where there are
many, and shrinks when another fetcher waits for a session. A poll of a kept session asks for
nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from services.fetcher.session_limits import REMEMBERED, log_limit
from shared.storage import session_shares
from shared.storage.pool import Database

#: Seconds until an ask that was in vain is repeated.
_ASK_AGAIN: Final = 1.0
#: A share grows by this part of itself at a time.
_GROWTH: Final = 4
#: Seconds for which a share that nobody uses and nobody wants is left as it is.
_UNUSED: Final = 600.0


class ShareTable(Protocol):
    """Where the shares of all fetchers are counted."""

    def ask(self, host: str, held: int, many: int, limit: int) -> tuple[int, bool]:
        """(By how many of `many` the share may rise, whether those at other hosts were lost)."""
        ...

    def learn(self, host: str, held: int) -> int:
        """A server takes no more than `held` here, beside those of others; all together."""
        ...

    def wanted_by_others(self, limit: int) -> dict[str, int]:
        """Hosts at which another one waits → what may be kept there."""
        ...

    def hold(self, held: Mapping[str, int], anew: bool) -> None:
        """The share at these hosts; `anew`: others may have been given it."""
        ...

    def drop(self, hosts: list[str]) -> None: ...


class AllFetchers:
    """The table in Postgres."""

    def __init__(self, database: Database, owner: str, ttl: float) -> None:
        self._database = database
        self._owner = owner
        self._ttl = ttl

    def ask(self, host: str, held: int, many: int, limit: int) -> tuple[int, bool]:
        with self._database.transaction() as session:
            return session_shares.ask(
                session, self._owner, host, held=held, many=many, limit=limit, ttl=self._ttl
            )

    def learn(self, host: str, held: int) -> int:
        with self._database.transaction() as session:
            return session_shares.learn(
                session, self._owner, host, held=held, seconds=REMEMBERED, ttl=self._ttl
            )

    def wanted_by_others(self, limit: int) -> dict[str, int]:
        with self._database.transaction() as session:
            return session_shares.wanted_by_others(session, self._owner, limit)

    def hold(self, held: Mapping[str, int], anew: bool) -> None:
        with self._database.transaction() as session:
            session_shares.hold(session, self._owner, held, self._ttl, anew=anew)

    def drop(self, hosts: list[str]) -> None:
        with self._database.transaction() as session:
            session_shares.drop(session, self._owner, hosts)


class OneFetcher:
    """For a fetcher without others, as in tools and tests."""

    def __init__(self) -> None:
        self._learned: dict[str, int] = {}

    def ask(self, host: str, held: int, many: int, limit: int) -> tuple[int, bool]:
        return max(0, min(many, self._learned.get(host, limit) - held)), False

    def learn(self, host: str, held: int) -> int:
        self._learned[host] = max(1, held)
        return self._learned[host]

    def wanted_by_others(self, limit: int) -> dict[str, int]:
        return {}

    def hold(self, held: Mapping[str, int], anew: bool) -> None:
        pass

    def drop(self, hosts: list[str]) -> None:
        pass


class SessionShares:
    """The shares of this fetcher, by host. Thread-safe.

    `limit` is what all fetchers together may have at a host. Whoever opens a session says so
    (`opens`), so that the place of one that was closed is given up only a while later: its server
    may count it still.
    """

    def __init__(self, limit: int, table: ShareTable, ask_again: float = _ASK_AGAIN) -> None:
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

    def allowed(self, host: str) -> int:
        """Sessions that may be open there now."""
        with self._lock:
            held = self._held.get(host, 0)
            return min(held, self._ceiling.get(host, held))

    def attainable(self, host: str) -> int:
        """What it would be if as many as possible were opened, as far as is known."""
        with self._lock:
            held = self._held.get(host, 0)
            if host in self._ceiling:
                return min(held, self._ceiling[host])
            if host in self._refused:
                return held
            learned, until = self._learned.get(host, (self._limit, 0.0))
        return min(self._limit, learned) if time.monotonic() < until else self._limit

    def knows(self, host: str) -> bool:
        """Whether the limit of this server was met within the last hour."""
        with self._lock:
            return time.monotonic() < self._learned.get(host, (0, 0.0))[1]

    def ask(self, host: str, needed: int) -> bool:
        """Whether the share is, or now became, as large as `needed`. Raises DatabaseUnavailable."""
        with self._asking:
            with self._lock:
                held = self._held.get(host, 0)
                if min(held, self._ceiling.get(host, held)) >= needed:
                    return True
                now = time.monotonic()
                if host in self._ceiling or now < self._refused.get(host, 0.0) + self._ask_again:
                    return False
            granted, lost = self._table.ask(host, held, max(1, held // _GROWTH), self._limit)
            with self._lock:
                if lost:
                    self._anew.update(self._held)
                self._held[host] = held + granted
                if granted:
                    self._refused.pop(host, None)
                else:
                    self._refused[host] = now
            return held + granted >= needed

    def opens(self, host: str, count: int) -> None:
        """A session is opened there, with which it has `count` of them."""
        with self._lock:
            self._peak[host] = max(count, self._peak.get(host, 0))

    def learn(self, host: str, held: int) -> None:
        """A server took so many of this fetcher, and no more."""
        with self._asking:
            allowed = self._table.learn(host, held)
            with self._lock:
                self._held[host] = held
                self._learned[host] = (allowed, time.monotonic() + REMEMBERED)
        log_limit(host, allowed)

    def renew(self) -> None:
        """Says all shares again: this fetcher was taken for dead."""
        with self._lock:
            self._anew.update(self._held)

    def give_up(self, used: Callable[[str], int], close: Callable[[str, int], object]) -> None:
        """Gives up what others wait for. `used`: sessions at a host that are open or being closed;
        `close` ends up to so many that nobody uses. Raises DatabaseUnavailable."""
        self._write(self._anew, anew=True)
        wanted = self._table.wanted_by_others(self._limit)
        with self._lock:
            self._ceiling = wanted
        for host, part in wanted.items():
            if (beyond := used(host) - part) > 0:
                close(host, beyond)
        with self._asking:
            with self._lock:
                for host, part in wanted.items():
                    self._shrink(host, part, used(host))
                unused = self._unused(used)
            if unused:
                self._table.drop(unused)
        self._write(self._unsaid, anew=False)

    def _write(self, hosts: set[str], *, anew: bool) -> None:
        with self._asking:
            with self._lock:
                telling = {host: self._held[host] for host in hosts if host in self._held}
            if telling:
                self._table.hold(telling, anew)
            with self._lock:
                hosts.difference_update(telling)

    def _shrink(self, host: str, part: int, used: int) -> None:
        held = self._held.get(host, 0)
        still = max(part, used, self._peak.get(host, 0))
        self._peak[host] = used
        if still < held:
            self._held[host] = still
            self._unsaid.add(host)

    def _unused(self, used: Callable[[str], int]) -> list[str]:
        """Forgets hosts at which nothing was open for a long time."""
        if time.monotonic() < self._swept + _UNUSED:
            return []
        self._swept = time.monotonic()
        unused = []
        for host in list(self._held):
            if not used(host) and not self._peak.get(host):
                unused.append(host)
                for known in (self._held, self._peak, self._refused):
                    known.pop(host, None)
                self._unsaid.discard(host)
            else:
                self._peak[host] = used(host)
        return unused
