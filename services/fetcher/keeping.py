"""What a fetcher does by itself with the sessions that it keeps open.

Mailboxes are *at home* with the fetcher that keeps their session. It comes for them itself when
they are due, many in one statement and one round trip, and at once when a session that listens
tells of news. Schedulers leave it a head start and send a job to whichever fetcher is free after
that, so being at home is a short-cut and never a dependence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from services.fetcher.polling import PATIENCE
from services.fetcher.running import Run, Runner
from shared.clock import new_id
from shared.errors import PosthouseError
from shared.jobs import FETCH_QUEUE
from shared.storage import homes, scheduling
from shared.storage.scheduling import Due
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: Seconds between two looks for mailboxes at home that are due.
_TICK = 0.25
#: Seconds between two looks which of them are still wanted: how long one that was disabled listens.
_PRUNE = 5.0
#: Mailboxes that are polled in one round.
_ROUND = 200
#: Seconds after which news is looked for again where somebody else has the mailbox in hand.
_IN_OTHER_HANDS = 0.5
#: A fetcher has more than its share when it has this factor of it, and so many more.
_UNEVEN, _UNEVEN_BY = 1.2, 5


@dataclass(slots=True)
class Keeper:
    """Threads of its own: `poll` and `help` for turns that have come, `listen` for news."""

    runner: Runner
    executor: ThreadPoolExecutor
    #: Runs that wait for a thread or have one.
    room: int
    lease_seconds: float
    _in_hand: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _missing: set[int] = field(default_factory=set)

    @property
    def owner(self) -> str:
        return self.runner.keeper.owner

    def help(self, stop: threading.Event) -> None:
        """Until `stop`: comes for due mailboxes too, while others wait for servers and Postgres."""
        while not stop.wait(_TICK):
            try:
                while self._poll_round() and not stop.is_set():
                    pass
            except PosthouseError as error:
                _log.warning("mailboxes at home were not polled", error=str(error))
            except Exception:
                _log.exception("mailboxes at home were not polled")

    def poll(self, stop: threading.Event) -> None:
        """Until `stop`: comes for due mailboxes, and keeps house."""
        chores: list[tuple[float, Callable[[], None]]] = [
            (self.lease_seconds / 3, self._beat),
            (_PRUNE, self._prune),
            (_PRUNE, self._give_way),
            (self.lease_seconds / 3, self._share),
        ]
        due = [0.0, *(time.monotonic() + seconds for seconds, _ in chores[1:])]
        while True:
            full = False
            try:
                for number, (seconds, chore) in enumerate(chores):
                    if time.monotonic() >= due[number]:
                        due[number] = time.monotonic() + seconds
                        chore()
                full = self._poll_round()
            except PosthouseError as error:
                _log.warning("mailboxes at home were not polled", error=str(error))
            except Exception:
                _log.exception("mailboxes at home were not polled")
            if stop.wait(0 if full else _TICK):
                return

    def listen(self, stop: threading.Event) -> None:
        """Until `stop`: acts on what servers tell."""
        while not stop.is_set():
            now, later = self.runner.news.wait(0.5)
            try:
                if now:
                    self._fetch_news(now)
                if later:
                    with self.runner.database.transaction() as session:
                        for connection_id, seconds in later.items():
                            scheduling.due_now(session, [connection_id], seconds)
            except PosthouseError as error:
                _log.warning("news waits for the next turn", error=str(error))
            except Exception:
                _log.exception("news waits for the next turn")

    def depart(self) -> None:
        """Leaves every mailbox to others, at the end."""
        try:
            with self.runner.database.transaction() as session:
                homes.depart(session, self.owner)
        except PosthouseError as error:
            _log.warning("others will notice late that this fetcher ended", error=str(error))

    # ---- turns that have come

    def _poll_round(self) -> bool:
        """One round; True where more may be due."""
        if not len(self.runner.sessions) or self._in_hand >= self.room:
            return False
        with self.runner.database.transaction() as session:
            claimed = scheduling.claim_due(session, _ROUND, self.owner)
        wanted = [due for due in claimed if due.used]
        if wanted:
            metrics.KEPT_POLLS.inc(len(wanted))
            for due in wanted:
                metrics.SCHEDULING_LAG.observe(due.lag)
            correlation_id = str(new_id(wanted[0].at))
            runs = self.runner.begin([due.connection_id for due in wanted], wanted[0].at)
            changed, without = self.runner.ask(runs)
            self.runner.to_slow_lane(without)
            self._submit(changed, correlation_id)
        return len(claimed) == _ROUND

    # ---- news

    def _fetch_news(self, connection_ids: Sequence[int]) -> None:
        with self.runner.database.transaction() as session:
            told = scheduling.with_news(session, connection_ids, self.owner)
        quick: list[Due] = []
        slow: list[int] = []
        for due in told:
            if due.used and due.lane == FETCH_QUEUE and self._in_hand < 4 * self.room:
                quick.append(due)
            elif due.used:
                slow.append(due.connection_id)
        if slow:
            with self.runner.database.transaction() as session:
                scheduling.due_now(session, slow)
        if quick:
            metrics.PUSH_NEWS.inc(len(quick))
            at = quick[0].at
            runs = self.runner.begin(
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
            # A thread of this executor waits for no login: others have news to fetch.
            if self.runner.sessions.wake(run.connection, PATIENCE):
                self.runner.fetch([run], correlation_id)
            else:
                self.runner.to_slow_lane([run])
        except PosthouseError as error:
            _log.warning("a run could not be recorded", error=str(error))
        except Exception:
            _log.exception("a run broke off unexpectedly")
        finally:
            with self._lock:
                self._in_hand -= 1

    # ---- keeping house

    def _beat(self) -> None:
        with self.runner.database.transaction() as session:
            homes.beat(session, self.owner, self.lease_seconds)
            freed = homes.free_dead(session)
        if freed:
            _log.info("a fetcher is gone, its mailboxes go to others", mailboxes=freed)

    def _prune(self) -> None:
        """Ends sessions of mailboxes that moved, or were edited or disabled."""
        asked = time.monotonic()
        with self.runner.database.transaction() as session:
            wanted = homes.held(session, self.owner)
        sessions = self.runner.sessions
        gone = sessions.prune(wanted, asked)
        self.runner.news.forget(gone)
        # Twice in a row, as a run in between holds the session itself.
        absent = {i for i in wanted if not sessions.keeps(i)}
        leaving = absent & self._missing
        self._missing = absent - leaving
        self._leave([*leaving, *gone])

    def _give_way(self) -> None:
        """Ends a session at each server that turned another fetcher away just now."""
        with self.runner.database.transaction() as session:
            hosts = homes.crowded(session, _PRUNE)
        for host in hosts:
            self.runner.sessions.give_way(host)

    def _share(self) -> None:
        """Gives up some mailboxes where other fetchers have far fewer."""
        with self.runner.database.transaction() as session:
            here, all_of_them, fetchers = homes.share(session, self.owner)
        fair = all_of_them / max(fetchers, 1)
        if here > fair * _UNEVEN + _UNEVEN_BY:
            leaving = self.runner.sessions.oldest(int((here - fair) / 2) + 1)
            self.runner.sessions.drop(leaving)
            self.runner.news.forget(leaving)
            self._leave(leaving)
            _log.info("mailboxes go to other fetchers", mailboxes=len(leaving))

    def _leave(self, connection_ids: Sequence[int]) -> None:
        if connection_ids:
            with self.runner.database.transaction() as session:
                homes.leave(session, self.owner, connection_ids)
