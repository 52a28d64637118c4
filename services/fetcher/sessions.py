"""Mail sessions that stay open between polls: a login costs ten times what a poll does."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from shared.connections import Connection, Mode
from shared.errors import TryAgain
from shared.mailbox.base import Mailbox

#: Servers log idle clients out after 30 minutes (RFC 9051 section 5.4).
LONGEST_IDLE_MINUTES = 20


class HostBusy(TryAgain):
    """As many sessions at this server as allowed: the connection's turn comes a little later."""

    code = "host-busy"


@dataclass(frozen=True, slots=True)
class _Kept:
    mailbox: Mailbox
    host: str
    version: datetime | None


class SessionPool:
    """At most `kept` idle sessions, and at most `per_host` at one server. Thread-safe.

    A session belongs to a connection as it was edited last; an edit makes it useless.
    """

    def __init__(
        self, opener: Callable[[Connection], Mailbox], *, kept: int, per_host: int
    ) -> None:
        self._opener = opener
        self._limit = kept
        self._per_host = per_host
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, _Kept] = OrderedDict()
        self._count: Counter[str] = Counter()

    def take(self, connection: Connection) -> tuple[Mailbox, bool]:
        """A session for this connection, and whether it was open already.

        Raises HostBusy, or whatever opening a mailbox raises.
        """
        host = connection.endpoint[0].lower()
        stale: list[_Kept] = []
        with self._lock:
            kept = self._idle.pop(connection.id, None)
            if kept is not None:
                if kept.version == connection.updated_at:
                    return kept.mailbox, True
                stale.append(kept)
                self._count[kept.host] -= 1
            if self._count[host] >= self._per_host:
                victim = next((i for i, k in self._idle.items() if k.host == host), None)
                if victim is None:
                    raise HostBusy(
                        f"{host} already serves {self._per_host} sessions of this fetcher.",
                        retry_after=2,
                    )
                stale.append(self._idle.pop(victim))
                self._count[host] -= 1
            self._count[host] += 1
        for session in stale:
            session.mailbox.close()
        try:
            return self._opener(connection), False
        except BaseException:
            self._forget(host)
            raise

    def give_back(self, connection: Connection, mailbox: Mailbox, *, healthy: bool) -> None:
        """Keeps the session for the next poll where that is of use, else closes it."""
        host = connection.endpoint[0].lower()
        useful = (
            healthy
            and self._limit > 0
            and connection.mode is not Mode.POP3  # locks the mailbox and shows a snapshot
            and connection.interval_minutes <= LONGEST_IDLE_MINUTES
        )
        closing: list[Mailbox] = []
        with self._lock:
            if useful:
                self._idle[connection.id] = _Kept(mailbox, host, connection.updated_at)
                if len(self._idle) > self._limit:
                    oldest = self._idle.popitem(last=False)[1]
                    self._count[oldest.host] -= 1
                    closing.append(oldest.mailbox)
            else:
                self._count[host] -= 1
                closing.append(mailbox)
        for session in closing:
            session.close()

    def discard(self, connection: Connection, mailbox: Mailbox) -> None:
        """Closes a session that was taken and turned out broken."""
        self._forget(connection.endpoint[0].lower())
        mailbox.close()

    def close(self) -> None:
        with self._lock:
            sessions = [kept.mailbox for kept in self._idle.values()]
            self._idle.clear()
        for session in sessions:
            session.close()

    def __len__(self) -> int:
        return len(self._idle)

    def _forget(self, host: str) -> None:
        with self._lock:
            self._count[host] -= 1
