"""Records which fetcher keeps which sessions: heartbeats, and mailboxes that move to others.

A mailbox has an *affinity* to the fetcher that keeps its session open. For as long as that fetcher
says that it takes jobs, schedulers send the polls to its own queue: the affinity saves logins, and
no mailbox depends on it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from services.fetcher.closing_sessions import side_by_side
from services.fetcher.push_events import PushEvents
from services.fetcher.session_pool import SessionPool
from shared.errors import PosthouseError
from shared.queueing.job_context import Pulse
from shared.storage import affinity, scheduling
from shared.storage.affinity import AFFINITY_GRACE
from shared.storage.pool import Database

_log = structlog.get_logger(__name__)

#: Seconds between two checks of which are still wanted: how long a disabled one goes on listening.
_PRUNE = 5.0
#: Seconds between two looks whether other fetchers wait for a session at a server.
_GIVE_UP = 1.5
#: Seconds between two looks whether something is to be done.
_TICK = 0.25
#: Seconds for which sessions are closed before other chores have their turn.
_CLOSING_S = 1.0
#: A fetcher has more than its share when it has this factor of it, and so many more.
_UNEVEN, _UNEVEN_BY = 1.2, 5


@dataclass(slots=True)
class SessionAffinity:
    """Two threads: `run_heartbeats`, and `run` for the rest, which waits for mail servers as it
    closes sessions. `pulse` is that of the worker at the own queue."""

    database: Database
    sessions: Callable[[], SessionPool]
    push_events: PushEvents
    pulse: Pulse
    owner: str
    lease_seconds: float
    #: When the last heartbeat was recorded (time.monotonic).
    _beaten: float = 0.0
    _missing: set[int] = field(default_factory=set)
    #: When it was asked before which sessions are wanted (time.monotonic), and which were.
    _asked: float = 0.0
    _wanted: frozenset[int] = frozenset()
    #: Those that listen and are to be renewed, of which that is said.
    _overdue: frozenset[int] = frozenset()
    #: Those that other fetchers are to have, whose sessions are still to be closed.
    _leaving: deque[int] = field(default_factory=deque)

    def arrive(self) -> None:
        """Says that this fetcher lives, before its first run: a mailbox whose fetcher is not known
        is taken for one of a dead fetcher's."""
        self._try(self._beat)

    def run_heartbeats(self, stop: threading.Event) -> None:
        """Until `stop`; then nothing more is sent to the own queue."""
        while not stop.wait(AFFINITY_GRACE / 3):
            self._try(self._beat)
        self._try(self._take_no_more)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`."""
        chores: list[tuple[float, Callable[[], None]]] = [
            (_PRUNE, self._prune),
            (_PRUNE, self._renew),
            (_PRUNE, self._give_way),
            (_GIVE_UP, self._give_up_shares),
            (self.lease_seconds / 3, self._share),
            (_TICK, self._leave_some),
        ]
        # It has just begun: nothing is to be done yet.
        due = [time.monotonic() + seconds for seconds, _ in chores]
        while not stop.wait(_TICK):
            for number, (seconds, chore) in enumerate(chores):
                if time.monotonic() >= due[number]:
                    due[number] = time.monotonic() + seconds
                    self._try(chore)

    def depart(self, delete_queue: Callable[[], None]) -> None:
        """Leaves every mailbox to others, at the end, and deletes the own queue."""
        try:
            with self.database.transaction() as session:
                affinity.release_all(session, self.owner)
                delete_queue()
        except PosthouseError as error:
            _log.warning("end of this fetcher not recorded", error=str(error))

    def _try(self, chore: Callable[[], None]) -> None:
        try:
            chore()
        except PosthouseError as error:
            _log.warning("kept sessions not maintained", error=str(error))
        except Exception:  # without this thread the fetcher counts as dead
            _log.exception("kept sessions not maintained")

    def _beat(self) -> None:
        takes_jobs = self.pulse.not_taking_s < AFFINITY_GRACE / 2
        with self.database.transaction() as session:
            known = affinity.heartbeat(
                session, self.owner, self.lease_seconds, takes_jobs=takes_jobs
            )
        late, self._beaten = self._beaten + self.lease_seconds < time.monotonic(), time.monotonic()
        if late or not known:
            self.sessions().shares.renew()

    def _take_no_more(self) -> None:
        with self.database.transaction() as session:
            affinity.take_no_more(session, self.owner)

    def _prune(self) -> None:
        """Ends sessions of connections that moved, or were edited or disabled."""
        asked = time.monotonic()
        with self.database.transaction() as session:
            wanted = affinity.held(session, self.owner)
        sessions = self.sessions()
        versions: dict[int, datetime | None] = {
            **dict.fromkeys(self._wanted),  # not any more, unless they still are
            **wanted,
        }
        self._wanted = frozenset(wanted)
        gone = sessions.prune(versions, asked, self._asked)
        self._asked = asked
        self.push_events.forget(gone)
        # Twice in a row, as a run in between holds the session itself.
        absent = {i for i in wanted if not sessions.has_idle_session(i)}
        leaving = absent & self._missing
        self._missing = absent - leaving
        self._leave([*leaving, *gone])

    def _renew(self) -> None:
        """Makes due what listens over a session that was open for long, whatever its interval: the
        run renews that, as the name of the server may lead to another one by now."""
        before, self._overdue = self._overdue, frozenset(self.sessions().overdue())
        if found := self._overdue - before:
            with self.database.transaction() as session:
                scheduling.make_due(session, sorted(found))

    def _give_way(self) -> None:
        """Ends a session at each server that turned another fetcher away just now."""
        with self.database.transaction() as session:
            hosts = affinity.crowded(session, _PRUNE)
        side_by_side(self.sessions().give_way, hosts)

    def _give_up_shares(self) -> None:
        self.sessions().give_up_shares()

    def _share(self) -> None:
        """Gives up some mailboxes where other fetchers have far fewer."""
        with self.database.transaction() as session:
            here, all_of_them, fetchers = affinity.share(session, self.owner)
        fair = all_of_them / max(fetchers, 1)
        if here > fair * _UNEVEN + _UNEVEN_BY:
            self._leaving = deque(self.sessions().oldest(int((here - fair) / 2) + 1))
            _log.info("mailboxes left to other fetchers", mailboxes=len(self._leaving))

    def _leave_some(self) -> None:
        """Closes sessions for a moment: to all of a fetcher's, servers may take minutes to say
        goodbye. Each mailbox is fetched here until its own is closed."""
        until, left = time.monotonic() + _CLOSING_S, list[int]()
        while self._leaving and time.monotonic() < until:
            left.append(self._leaving.popleft())
            self.sessions().drop(left[-1:])
        self.push_events.forget(left)
        self._leave(left)

    def _leave(self, connection_ids: Sequence[int]) -> None:
        if connection_ids:
            with self.database.transaction() as session:
                affinity.release(session, self.owner, connection_ids)
