"""Fetches over the sessions that this fetcher keeps open: polls when due, and where servers push.

Schedulers send polls of these mailboxes to this fetcher's own queue. Many are asked in one round
trip; what has something new goes on in threads, so that no thread of the queue waits for a server.
What this fetcher has no time for goes to the common queue, to whoever is free.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field

import structlog

from services.fetcher.fetch_job import Dispatcher, JobTooLate
from services.fetcher.lane_wait_budgets import Lane
from services.fetcher.pipelined_polls import ANSWERS_WITHIN_S
from services.fetcher.push_events import PushEvents
from services.fetcher.run import Run
from services.fetcher.run_ends import POSTPONED
from shared.clock import time_of
from shared.errors import PosthouseError
from shared.storage import scheduling
from shared.storage.affinity import AFFINITY_GRACE
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: Seconds after which a pushed mailbox is tried again that another run has the lease of.
_IN_OTHER_HANDS = 0.5
#: Seconds until push events are acted on again that Postgres kept from it.
_AGAIN = 1.0
#: Push events may have so many times the runs in hand that polls may: nobody else hears of them.
_PUSHED = 4


@dataclass(slots=True)
class KeptSessionRuns:
    """`run_job` is the actor of the own queue; `listen` has a thread for push events."""

    dispatcher: Dispatcher
    push_events: PushEvents
    executor: ThreadPoolExecutor
    #: Sends a job for these connections to the common queue, under this correlation id.
    pass_on: Callable[[Sequence[int], str], None]
    #: Runs that wait for a thread or have one.
    room: int
    _in_hand: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run_job(self, connection_ids: Sequence[int], correlation_id: str) -> None:
        """Polls mailboxes whose sessions are open here; those that changed are fetched."""
        emitted = time_of(uuid.UUID(correlation_id))
        try:
            if self._in_hand >= self.room:
                raise JobTooLate
            begun = self.dispatcher.begin_runs(
                connection_ids, emitted, correlation_id, within=AFFINITY_GRACE
            )
        except JobTooLate:
            self._leave(connection_ids, correlation_id)
            return
        metrics.POLLS_OF_OPEN_SESSIONS.inc(len(connection_ids))
        self._go_on(*begun, correlation_id)

    def _leave(self, connection_ids: Sequence[int], correlation_id: str) -> None:
        """Leaves them to any fetcher that is free."""
        try:
            self.pass_on(connection_ids, correlation_id)
        except PosthouseError:
            with self.dispatcher.database.transaction() as session:
                scheduling.make_due(session, connection_ids, POSTPONED)
            raise

    def listen(self, stop: threading.Event) -> None:
        """Until `stop`: fetches where servers pushed."""
        while not stop.is_set():
            now, later = self.push_events.wait(0.5)
            try:
                if now:
                    self._fetch_announced(now)
                    now = []
                if later:
                    with self.dispatcher.database.transaction() as session:
                        # In one order: two that move the same ones would wait for each other.
                        for connection_id, seconds in sorted(later.items()):
                            scheduling.make_due(session, [connection_id], seconds)
            except PosthouseError as error:
                # The sessions listen on: nobody would tell of these mails again.
                self.push_events.again(now, later)
                _log.warning("push events not acted on yet", error=str(error))
                stop.wait(_AGAIN)
            except Exception:  # without this thread nothing is fetched at once
                _log.exception("push event left to the next poll")

    def _fetch_announced(self, connection_ids: Sequence[int]) -> None:
        begun = self.dispatcher.begin_announced(
            connection_ids,
            has_room=self._in_hand < _PUSHED * self.room,
            postponed=_IN_OTHER_HANDS,
        )
        if begun is not None:
            metrics.PUSH_RUNS.inc(begun.events)
            self._go_on(begun.over_open, begun.without, begun.correlation_id)

    def _go_on(self, over_open: Sequence[Run], without: Sequence[Run], correlation_id: str) -> None:
        """A job and a push event both come here, with the runs that were begun for them."""
        with self.dispatcher.ends.unless_ended(over_open):
            self.dispatcher.ends.move_to_slow_lane(without)
        for run in over_open:
            with self._lock:
                self._in_hand += 1
            # With the context of the job that it belongs to: its trace goes on in the thread.
            self.executor.submit(copy_context().run, self._run, run, correlation_id)

    def _run(self, run: Run, correlation_id: str) -> None:
        ends = self.dispatcher.ends
        try:
            # A thread of this executor waits for no login: others have mails to fetch.
            with ends.unless_ended([run]):
                if self.dispatcher.sessions.wake(run.connection, ANSWERS_WITHIN_S):
                    self.dispatcher.run_all([run], correlation_id, Lane.COMMON)
                else:
                    ends.move_to_slow_lane([run])
        except PosthouseError as error:
            _log.warning("run not recorded", error=str(error))
        except Exception:  # nobody asks for this future
            _log.exception("run failed unexpectedly")
        finally:
            with self._lock:
                self._in_hand -= 1
