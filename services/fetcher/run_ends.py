"""How a run ends, and what is recorded of it: with its lease given back, in one transaction."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from services.fetcher import failed_runs
from services.fetcher.lane_wait_budgets import Lane
from services.fetcher.lease_renewer import LeaseRenewer
from services.fetcher.push_events import PushEvents
from services.fetcher.run import Run, RunReport
from services.fetcher.session_pool import SessionPool
from shared.coalescing import Combiner
from shared.connections import Connection, Health
from shared.errors import LeaseLost, PosthouseError
from shared.mailbox import wait_budget
from shared.mailbox.wait_budget import ServerTooSlow
from shared.storage import affinity, alerts, ended_runs, ledger, scheduling, settlements
from shared.storage.ended_runs import EndedRun
from shared.storage.ledger import NotedRun
from shared.storage.pool import Database, DatabaseUnavailable, Session
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: Seconds after which a connection that could not run (mailbox leased, host busy) is due again.
POSTPONED = 5.0


@dataclass(slots=True)
class RunEnds:
    """Ends runs: each run comes to exactly one of these methods, with its lease still held."""

    sessions: SessionPool
    push_events: PushEvents
    renewer: LeaseRenewer
    database: Database
    observe: Callable[[Connection, RunReport | PosthouseError], None]
    _together: Combiner[Sequence[Run], None] = field(init=False)

    def __post_init__(self) -> None:
        self._together = Combiner(self._end_together, final=(DatabaseUnavailable,))

    def succeeded(self, run: Run) -> None:
        """A run came to a good end: counted and logged, and its alert ended."""
        report = run.report
        report.ended = time.monotonic()
        self.observe(run.connection, report)
        if not report.idle:
            _log.info(
                "run finished",
                found=report.found,
                downloaded=report.downloaded,
                octets=report.octets,
                milliseconds=report.duration_ms,
                again=report.again,
            )
        self._note_recovery(run)

    def _note_recovery(self, run: Run) -> None:
        recovered = run.state.health in {Health.FAILING, Health.NEEDS_AUTHORISATION}
        if recovered or run.state.health == Health.PENDING:
            # An edit or a new login ends the back-off and makes it pending: whether it was failing
            # before is then known from what was raised.
            with self.database.autocommit() as session:
                raised = recovered or alerts.is_failing(session, run.connection.id)
            if raised:
                with self.database.transaction() as session:
                    recovered = alerts.recover(session, run.connection.id) or recovered
        run.report.recovered = recovered

    def finish(self, ended: Sequence[Run]) -> None:
        """Writes the end of several runs at once and gives their leases back.

        One that brought mails ends together with others that come to their end at the same moment.
        """
        if not ended:
            return
        try:
            if all(run.report.idle for run in ended):
                self._end_together([ended])
            else:
                self._together(ended)
        except DatabaseUnavailable as outage:
            self._unrecorded(ended)
            _log.warning("finished runs not recorded", error=str(outage))
            return
        except Exception:  # the mails are safe: the leases run out, and what is left is done again
            self._unrecorded(ended)
            _log.exception("finished runs not recorded")
            return
        for run in ended:
            if run.connection.push:
                self._listen(run)

    def _end_together(self, several: Sequence[Sequence[Run]]) -> Sequence[None]:
        """For runs of several threads (`shared.coalescing`)."""
        runs = [run for one in several for run in one]
        # Before it is tried: leases whose end cannot be recorded run out.
        self.renewer.forget([run.lease for run in runs])
        ended = [self._ended(run) for run in runs]
        ended_runs.record(self.database, ended, of_several=len(several) > 1)
        if confirmed := [run for run in runs if run.report.confirmed]:
            confirmed[0].tools.reached("settled")
        return [None] * len(several)

    def _ended(self, run: Run) -> EndedRun:
        identifier, report = run.connection.id, run.report
        return EndedRun(
            lease=run.lease,
            connection_id=identifier,
            duration_ms=report.duration_ms,
            cursor=report.cursor,
            keep_cursor=report.keep_cursor,
            uid_validity=report.uid_validity,
            lane=report.lane,
            affinity=self.renewer.owner if self.sessions.has_idle_session(identifier) else None,
            again=report.again,
            pause=report.pause,
            settled=report.confirmed,
            noted=_noted(run) if report.found or report.downloaded or report.recovered else None,
        )

    def _listen(self, run: Run) -> None:
        """Lets the server push where everything that was there is handled."""
        connection, report = run.connection, run.report
        silent = self.push_events.ran(connection.id, productive=report.downloaded > 0)
        if silent is not None:
            self._note_silence(connection, silent)
        if report.again or run.tools.stopping():
            return
        if not self.push_events.may_listen(connection.id, connection.updated_at):
            return
        cursor = report.cursor if report.keep_cursor else run.state.cursor
        try:
            with wait_budget.bounded(Lane.COMMON.budget(run.tools.settings)):
                listens = self.sessions.listen(connection, cursor)
            if listens:
                self.push_events.listening(connection.id)
        except PosthouseError as error:
            self.push_events.lost(connection.id, error)

    def _note_silence(self, connection: Connection, silent: bool) -> None:
        """Where Postgres is away, another run says it again: this one has ended well."""
        try:
            with self.database.transaction() as session:
                if scheduling.record_push_silence(session, connection.id, silent) and silent:
                    _log.warning(
                        "new mails not announced by IDLE",
                        connection=connection.id,
                        hint="New mails are found by the interval: make it short.",
                    )
        except DatabaseUnavailable as outage:
            _log.warning("silence of a server not recorded", error=str(outage))
            return
        self.push_events.silence_recorded(connection.id, silent=silent)

    def failed(self, run: Run, error: PosthouseError) -> None:
        """Records why, and when the next attempt is due."""
        self.observe(run.connection, error)
        if not failed_runs.record(self.database, self.renewer, run, error):
            self._unrecorded([run])

    def lease_lost(self, run: Run, error: LeaseLost) -> None:
        """Another run has the mailbox by now; it does what is left."""
        self.renewer.forget([run.lease])
        self.observe(run.connection, error)
        _log.warning("lease lost", error=str(error))
        self.record_settled(run)

    def postpone(self, runs: Sequence[Run]) -> None:
        """Gives up before anything was done; the connections are due again a little later."""
        with self._ending(runs) as session:
            scheduling.make_due(session, self._given_back(session, runs), POSTPONED)

    def wait(self, run: Run, seconds: float) -> None:
        """Due again when the server takes a login; not earlier, whatever the interval."""
        with self._ending([run]) as session:
            for connection_id in self._given_back(session, [run]):
                scheduling.make_due_in(session, connection_id, seconds)

    def leave(self, run: Run) -> None:
        """Leaves it to other fetchers: nothing that it has was found wanting."""
        with self._ending([run]) as session:
            held = self._given_back(session, [run])
            affinity.release(session, self.renewer.owner, [run.connection.id])
            scheduling.make_due(session, held, POSTPONED)

    def move_to_slow_lane(self, runs: Sequence[Run]) -> None:
        """Leaves them to those who may wait for a server."""
        if not runs:
            return
        with self._ending(runs) as session:
            scheduling.move_to_slow_lane(session, self._given_back(session, runs))

    @contextlib.contextmanager
    def _ending(self, runs: Sequence[Run]) -> Iterator[Session]:
        """A transaction that gives the leases of these back. Where there is none they run out: one
        that went on being renewed would keep everybody from its mailbox until this process ends."""
        with self.unless_ended(runs), self.database.transaction() as session:
            yield session

    @contextlib.contextmanager
    def unless_ended(self, runs: Sequence[Run]) -> Iterator[None]:
        """Nobody goes on with these runs where the block raises: their leases run out."""
        try:
            yield
        except BaseException:
            self._unrecorded(runs)
            raise

    def _unrecorded(self, runs: Sequence[Run]) -> None:
        """Postgres knows nothing of their ends. Their leases run out, and they are due once it is
        back: until the next interval nobody would listen, nor go on with a backlog."""
        self.renewer.forget([run.lease for run in runs])
        self.push_events.again(later={run.connection.id: POSTPONED for run in runs})

    def _given_back(self, session: Session, runs: Sequence[Run]) -> list[int]:
        """The connections of those whose leases were still held."""
        held = self.renewer.release(session, [run.lease for run in runs])
        return [run.connection.id for run in runs if run.lease in held]

    def continue_in_slow_lane(self, run: Run, error: ServerTooSlow) -> None:
        """The common lane waits no longer for its server: no end yet, neither a good nor a bad one.
        What it has is safe, and recorded."""
        connection, report = run.connection, run.report
        report.ended = time.monotonic()
        mode = connection.mode.value
        metrics.FETCH_RUNS.labels(mode, "slow-lane").inc()
        metrics.DOWNLOADED_MESSAGES.labels(mode).inc(report.downloaded)
        metrics.DOWNLOADED_BYTES.labels(mode).inc(report.octets)
        _log.info("run left to the slow lane", error=str(error), downloaded=report.downloaded)
        try:
            with self.database.transaction() as session:
                held = self._given_back(session, [run])
                settlements.record_settled(session, report.confirmed)
                if held and report.downloaded:
                    ledger.note_run(session, _noted(run))
                scheduling.move_to_slow_lane(session, held)
        except DatabaseUnavailable as outage:
            self._unrecorded([run])
            _log.warning("mails of a slow server not recorded", error=str(outage))

    def record_settled(self, run: Run) -> None:
        """Where a run gives up, and nothing else of it is recorded."""
        if run.report.confirmed:
            with self.database.transaction() as session:
                settlements.record_settled(session, run.report.confirmed)


def _noted(run: Run) -> NotedRun:
    report = run.report
    return NotedRun(
        run.connection.id, report.duration_ms, report.found, report.downloaded, report.octets
    )
