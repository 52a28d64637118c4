"""Polls the mailboxes whose sessions this fetcher keeps open.

A mailbox has an *affinity* to the fetcher that keeps its session open. That fetcher claims it when
it is due, many in one statement and one round trip, and fetches at once when its server pushes.
Schedulers leave it the affinity grace and then send a job to whichever fetcher is free: the
affinity saves logins, and no mailbox depends on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from services.fetcher.dispatch import Dispatcher
from services.fetcher.polling import PATIENCE
from services.fetcher.run import Run
from shared.clock import new_id
from shared.errors import PosthouseError
from shared.jobs import FETCH_QUEUE
from shared.storage import affinity, scheduling
from shared.storage.scheduling import Due
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: Seconds between two claims of due mailboxes.
_TICK = 0.25
#: Seconds between two checks of which are still wanted: how long a disabled one goes on listening.
_PRUNE = 5.0
#: Mailboxes that are polled in one round.
_ROUND = 200
#: Seconds after which a pushed mailbox is tried again that another run has the lease of.
_IN_OTHER_HANDS = 0.5
#: A fetcher has more than its share when it has this factor of it, and so many more.
_UNEVEN, _UNEVEN_BY = 1.2, 5


@dataclass(slots=True)
class Poller:
    """Threads of its own: `poll` and `poll_too` for due mailboxes, `listen` for push events."""

    dispatcher: Dispatcher
    executor: ThreadPoolExecutor
    #: Runs that wait for a thread or have one.
    room: int
    lease_seconds: float
    #: Sessions that all fetchers together keep at a mailbox.
    per_mailbox: int
    _in_hand: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _missing: set[int] = field(default_factory=set)

    @property
    def owner(self) -> str:
        return self.dispatcher.renewer.owner

    def poll_too(self, stop: threading.Event) -> None:
        """Until `stop`: polls due mailboxes while the other thread waits for answers."""
        while not stop.wait(_TICK):
            try:
                while self._poll_round() and not stop.is_set():
                    pass
            except PosthouseError as error:
                _log.warning("kept mailboxes were not polled", error=str(error))
            except Exception:
                _log.exception("kept mailboxes were not polled")

    def poll(self, stop: threading.Event) -> None:
        """Until `stop`: polls due mailboxes, and does the periodic work in between."""
        chores: list[tuple[float, Callable[[], None]]] = [
            (self.lease_seconds / 3, self._beat),
            (_PRUNE, self._prune),
            (_PRUNE, self._give_way),
            (self.lease_seconds / 3, self._share),
        ]
        # At once: that it lives, and what others keep. The rest has nothing to do yet.
        due = [0.0, 0.0, *(time.monotonic() + seconds for seconds, _ in chores[2:])]
        while True:
            full = False
            try:
                for number, (seconds, chore) in enumerate(chores):
                    if time.monotonic() >= due[number]:
                        due[number] = time.monotonic() + seconds
                        chore()
                full = self._poll_round()
            except PosthouseError as error:
                _log.warning("kept mailboxes were not polled", error=str(error))
            except Exception:
                _log.exception("kept mailboxes were not polled")
            if stop.wait(0 if full else _TICK):
                return

    def listen(self, stop: threading.Event) -> None:
        """Until `stop`: fetches where servers pushed."""
        while not stop.is_set():
            now, later = self.dispatcher.push_events.wait(0.5)
            try:
                if now:
                    self._fetch_announced(now)
                if later:
                    with self.dispatcher.database.transaction() as session:
                        for connection_id, seconds in later.items():
                            scheduling.due_now(session, [connection_id], seconds)
            except PosthouseError as error:
                _log.warning("a push event waits for the next poll", error=str(error))
            except Exception:
                _log.exception("a push event waits for the next poll")

    def depart(self) -> None:
        """Leaves every mailbox to others, at the end."""
        try:
            with self.dispatcher.database.transaction() as session:
                affinity.release_all(session, self.owner)
        except PosthouseError as error:
            _log.warning("others will notice late that this fetcher ended", error=str(error))

    # ---- due mailboxes

    def _poll_round(self) -> bool:
        """One round; True where more may be due."""
        if not len(self.dispatcher.sessions) or self._in_hand >= self.room:
            return False
        with self.dispatcher.database.transaction() as session:
            claimed = scheduling.claim_due(session, _ROUND, self.owner)
        wanted = [due for due in claimed if due.used]
        if wanted:
            metrics.KEPT_POLLS.inc(len(wanted))
            for due in wanted:
                metrics.SCHEDULING_LAG.observe(due.lag)
            correlation_id = str(new_id(wanted[0].at))
            runs = self.dispatcher.lease_runs([due.connection_id for due in wanted], wanted[0].at)
            changed, without = self.dispatcher.poll_kept_sessions(runs)
            self.dispatcher.to_slow_lane(without)
            self._submit(changed, correlation_id)
        return len(claimed) == _ROUND

    # ---- push events

    def _fetch_announced(self, connection_ids: Sequence[int]) -> None:
        with self.dispatcher.database.transaction() as session:
            pushed = scheduling.announced(session, connection_ids, self.owner)
        quick: list[Due] = []
        slow: list[int] = []
        for due in pushed:
            if due.used and due.lane == FETCH_QUEUE and self._in_hand < 4 * self.room:
                quick.append(due)
            elif due.used:
                slow.append(due.connection_id)
        if slow:
            with self.dispatcher.database.transaction() as session:
                scheduling.due_now(session, slow)
        if quick:
            metrics.PUSH_EVENTS.inc(len(quick))
            at = quick[0].at
            runs = self.dispatcher.lease_runs(
                [due.connection_id for due in quick],
                at,
                changed=True,
                postponed=_IN_OTHER_HANDS,
            )
            self._submit(runs, str(new_id(at)))

    def _submit(self, runs: Sequence[Run], correlation_id: str) -> None:
        for run in runs:
            with self._lock:
                self._in_hand += 1
            self.executor.submit(self._run, run, correlation_id)

    def _run(self, run: Run, correlation_id: str) -> None:
        try:
            # A thread of this executor waits for no login: others have mails to fetch.
            if self.dispatcher.sessions.wake(run.connection, PATIENCE):
                self.dispatcher.run_all([run], correlation_id)
            else:
                self.dispatcher.to_slow_lane([run])
        except PosthouseError as error:
            _log.warning("a run could not be recorded", error=str(error))
        except Exception:
            _log.exception("a run broke off unexpectedly")
        finally:
            with self._lock:
                self._in_hand -= 1

    # ---- periodic work

    def _beat(self) -> None:
        with self.dispatcher.database.transaction() as session:
            affinity.heartbeat(session, self.owner, self.lease_seconds)
            freed = affinity.release_dead(session)
        if freed:
            _log.info("a fetcher is gone, its mailboxes go to others", mailboxes=freed)

    def _prune(self) -> None:
        """Ends sessions of connections that moved, or were edited or disabled, and those that are
        too many at their mailbox, beside what other fetchers keep there."""
        asked = time.monotonic()
        with self.dispatcher.database.transaction() as session:
            wanted = affinity.held(session, self.owner)
            together = affinity.shared_mailboxes(session, self.per_mailbox)
        sessions = self.dispatcher.sessions
        for beyond in sessions.share_mailboxes(together, self.owner):
            wanted.pop(beyond, None)
        gone = sessions.prune(wanted, asked)
        self.dispatcher.push_events.forget(gone)
        # Twice in a row, as a run in between holds the session itself.
        absent = {i for i in wanted if not sessions.keeps(i)}
        leaving = absent & self._missing
        self._missing = absent - leaving
        self._leave([*leaving, *gone])

    def _give_way(self) -> None:
        """Ends a session at each server that turned another fetcher away just now."""
        with self.dispatcher.database.transaction() as session:
            hosts = affinity.crowded(session, _PRUNE)
        for host in hosts:
            self.dispatcher.sessions.give_way(host)

    def _share(self) -> None:
        """Gives up some mailboxes where other fetchers have far fewer."""
        with self.dispatcher.database.transaction() as session:
            here, all_of_them, fetchers = affinity.share(session, self.owner)
        fair = all_of_them / max(fetchers, 1)
        if here > fair * _UNEVEN + _UNEVEN_BY:
            leaving = self.dispatcher.sessions.oldest(int((here - fair) / 2) + 1)
            self.dispatcher.sessions.drop(leaving)
            self.dispatcher.push_events.forget(leaving)
            self._leave(leaving)
            _log.info("mailboxes go to other fetchers", mailboxes=len(leaving))

    def _leave(self, connection_ids: Sequence[int]) -> None:
        if connection_ids:
            with self.dispatcher.database.transaction() as session:
                affinity.release(session, self.owner, connection_ids)
