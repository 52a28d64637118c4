"""The fetch job: from connection ids to finished runs.

A job is a hint. What is to be done is read from Postgres: connections that are enabled, have not
run since the job was emitted, and whose mailbox nobody else is fetching from.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from structlog.contextvars import bound_contextvars

from services.fetcher import fetching
from services.fetcher.backoff import described, health_after, retry_delay
from services.fetcher.lease_renewer import LeaseRenewer
from services.fetcher.polling import Answer, ask_all
from services.fetcher.push import PushEvents
from services.fetcher.run import Report, Run, Tools
from services.fetcher.session_opening import HostBusy
from services.fetcher.session_pool import SessionPool
from shared.alerts.connections import ConnectionFailing, ConnectionNeedsAuthorisation
from shared.clock import time_of
from shared.combining import Combiner
from shared.connections import Connection, Failure, Health
from shared.errors import LeaseLost, PosthouseError, SecretKeyMissing, TryAgain
from shared.mailbox.base import Cursor, Mailbox
from shared.mailbox.failures import LoginTooSoon, SessionLost
from shared.storage import affinity, alerts, connections, ledger, scheduling
from shared.storage.ledger import EndedRun
from shared.storage.pool import Database, DatabaseUnavailable, Session, wait_briefly
from shared.storage.scheduling import Finished
from shared.store import StoreFull
from shared.telemetry import metrics, traces

_log = structlog.get_logger(__name__)

#: Seconds after which a connection that could not run (mailbox leased, host busy) is due again.
POSTPONED = 5.0


@dataclass(slots=True)
class Dispatcher:
    """Runs fetch jobs; its `run_job` is the actor of the common queue and of the slow lane."""

    tools: Tools
    sessions: SessionPool
    push_events: PushEvents
    renewer: LeaseRenewer
    database: Database
    observe: Callable[[Connection, Report | PosthouseError], None]
    _ends: Combiner[Sequence[Run], None] = field(init=False)

    def __post_init__(self) -> None:
        self._ends = Combiner(self._end_together, final=(DatabaseUnavailable,))

    def run_job(self, connection_ids: Sequence[int], correlation_id: str) -> None:
        """Polls each connection; several idle polls cost one job, those over open sessions one
        round trip."""
        emitted = time_of(uuid.UUID(correlation_id))
        over_open, without = self.begin_runs(connection_ids, emitted, correlation_id)
        self.run_all([*without, *over_open], correlation_id)

    def begin_runs(
        self,
        connection_ids: Sequence[int],
        emitted: datetime,
        correlation_id: str,
        *,
        changed: bool = False,
        postponed: float = POSTPONED,
    ) -> tuple[list[Run], list[Run]]:
        """Where every run begins, of a job or (`changed`) of a push event. Those without news end
        here; returns those to be run over an open session, and those that have none.

        Where another run has the mailbox, it is due again in `postponed` seconds.
        """
        runs = self._lease_runs(connection_ids, emitted, changed=changed, postponed=postponed)
        with bound_contextvars(correlation_id=correlation_id):
            return self._poll_kept_sessions(runs)

    def _poll_kept_sessions(self, runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
        """Asks all mailboxes whose sessions wait here at once, and ends the runs without news.

        Returns those to be run over the open session, and those that have none (any more).
        """
        started = time.monotonic()
        asking: list[tuple[Run, Mailbox, str, Cursor | None]] = []
        over_open: list[Run] = []
        without: list[Run] = []
        for run in runs:
            mailbox = None
            if not (run.changed or run.state.needs_look):
                mailbox = self.sessions.take_waiting(run.connection)
            if mailbox is not None:
                asking.append((run, mailbox, run.connection.folder, run.state.cursor))
            elif self.sessions.keeps(run.connection.id):
                over_open.append(run)
            else:
                without.append(run)
        idle: list[Run] = []
        for run, mailbox, answer in ask_all(asking):
            if answer is Answer.BROKEN:
                self.sessions.discard(run.connection, mailbox)
                without.append(run)
                continue
            self.sessions.give_back(run.connection, mailbox, healthy=True)
            if answer is Answer.UNCHANGED:
                # Asked together, so each is told its share of the time: nobody's server is slow.
                took = (time.monotonic() - started) / len(asking)
                run.report = Report(idle=True, started=time.monotonic() - took)
                self.succeeded(run)
                idle.append(run)
            else:
                run.changed = answer is Answer.CHANGED
                over_open.append(run)
        self.finish(idle)
        return over_open, without

    def run_all(self, runs: list[Run], correlation_id: str) -> None:
        """Runs what was begun, one after the other, each to its end."""
        with bound_contextvars(correlation_id=correlation_id):
            ended: list[Run] = []
            try:
                while runs:
                    run = runs.pop()
                    if self.tools.stopping():
                        self.postpone([run])
                        continue
                    if self._run_one(run):
                        ended.append(run)
                        if not run.report.idle:
                            self.finish(ended)
                            ended = []
            finally:
                self.finish(ended)
                if runs:
                    self.postpone(runs)

    def _lease_runs(
        self,
        connection_ids: Sequence[int],
        emitted: datetime,
        *,
        changed: bool,
        postponed: float,
    ) -> list[Run]:
        """Leases what may run now; the others are due again in `postponed` seconds."""
        with self.database.transaction() as session:
            states = scheduling.runnable(session, connection_ids, emitted)
            found = connections.get_many(session, list(states))
            by_mailbox: dict[str, Connection] = {}
            waiting = []
            for connection in found:
                if by_mailbox.setdefault(connection.lease_key(), connection) is not connection:
                    waiting.append(connection.id)
            held = self.renewer.acquire(session, list(by_mailbox))
            waiting += [c.id for mailbox, c in by_mailbox.items() if mailbox not in held]
            if waiting:
                scheduling.due_now(session, waiting, postponed)
        return [
            Run(self.tools, connection, states[connection.id], held[mailbox], changed)
            for mailbox, connection in by_mailbox.items()
            if mailbox in held
        ]

    def _run_one(self, run: Run) -> bool:
        """One run to its end, whatever the end is; False where it failed (and is recorded so)."""
        connection = run.connection
        run.start()
        with bound_contextvars(connection=connection.id):
            try:
                with metrics.FETCHES_RUNNING.track_inprogress():
                    self._run_with_retry(run)
            except HostBusy:
                self._record_settled(run)
                self.postpone([run])
                return False
            except LoginTooSoon as error:
                _log.info("the server wants time between logins", error=str(error))
                self._record_settled(run)
                self.wait(run, error.retry_after or POSTPONED)
                return False
            except SecretKeyMissing as error:
                _log.warning("left to fetchers that have the key", error=str(error))
                self._record_settled(run)
                self.leave(run)
                return False
            except LeaseLost as error:
                self.renewer.forget([run.lease])
                self.observe(connection, error)
                _log.warning("lease lost in the middle of a run", error=str(error))
                self._record_settled(run)
                return False
            except PosthouseError as error:
                self._failed(run, error)
                return False
            except Exception as error:
                _log.exception("a run broke off unexpectedly")
                failure = TryAgain(f"An unexpected {type(error).__name__} stopped the run.")
                self._failed(run, failure)
                return False
            self.sessions.give_back(connection, run.mailbox, healthy=not run.report.session_broke)
            self.succeeded(run)
            return True

    def succeeded(self, run: Run) -> None:
        """Tells of a run that came to a good end: metrics, log, history, alerts."""
        report = run.report
        report.ended = time.monotonic()
        self.observe(run.connection, report)
        if not report.idle:
            _log.info(
                "fetched",
                found=report.found,
                downloaded=report.downloaded,
                octets=report.octets,
                milliseconds=report.duration_ms,
                again=report.again,
            )
        self._tell_recovery(run)

    def _run_with_retry(self, run: Run) -> None:
        """A kept session may have died since the last poll: then once more with a fresh one."""
        while True:
            with traces.span("session", connection=run.connection.id) as told:
                mailbox, kept = self.sessions.take(run.connection)
                told.set_attribute("posthouse.kept", kept)
            try:
                run.mailbox = mailbox
                fetching.fetch(run)
                return
            except PosthouseError as error:
                transcript = tuple(mailbox.transcript)
                self.sessions.discard(run.connection, mailbox)
                if kept and _fresh_session_may_help(error):
                    run.state = replace(run.state, has_failed_downloads=True)
                    run.report.found = run.report.downloaded  # the rest is found again
                    continue
                error.transcript = transcript
                raise
            except BaseException:
                self.sessions.discard(run.connection, mailbox)
                raise

    def _tell_recovery(self, run: Run) -> None:
        recovered = run.state.health in {Health.FAILING, Health.NEEDS_AUTHORISATION}
        if recovered or run.state.health == Health.PENDING:
            # An edit or a new login ends the back-off and makes it pending: whether it was ill
            # before is then known from what was raised.
            with self.database.transaction() as session:
                recovered = alerts.recover(session, run.connection.id) or recovered
        run.report.recovered = recovered

    def _record_settled(self, run: Run) -> None:
        """Where a run gives up, and nothing else of it is recorded."""
        if run.report.confirmed:
            with self.database.transaction() as session:
                ledger.all_settled(session, run.report.confirmed)

    def _failed(self, run: Run, error: PosthouseError) -> None:
        connection, state, report = run.connection, run.state, run.report
        self.observe(connection, error)
        metrics.DOWNLOADED_MESSAGES.labels(connection.mode.value).inc(report.downloaded)
        metrics.DOWNLOADED_BYTES.labels(connection.mode.value).inc(report.octets)
        duration = report.duration_ms
        _log.warning(
            "run failed",
            code=error.code,
            error=str(error),
            failures=state.failures + 1,
            downloaded=report.downloaded,
        )
        failure = described(error)
        health = health_after(error)
        # What makes progress is not backed off, nor a mailbox of which nothing but settling failed.
        failed_before = 0 if report.downloaded else state.failures
        delay = retry_delay(error, failed_before, _first_delay(connection))
        if error is report.settling_refused:
            delay = 60.0 * _first_delay(connection)
        try:
            with self.database.transaction() as session:
                self.renewer.release(session, [run.lease])
                ledger.all_settled(session, report.confirmed)
                before, failures = scheduling.fail_run(
                    session,
                    connection.id,
                    duration_ms=duration,
                    health=health,
                    error=failure,
                    delay=delay,
                )
                ledger.record_run(
                    session,
                    connection.id,
                    duration_ms=duration,
                    found=report.found,
                    downloaded=report.downloaded,
                    octets=report.octets,
                    error=failure,
                )
                if before != health:
                    ill = _alert(connection, failure, health, failures)
                    alerts.raise_failing(session, ill, self._told_after(health))
                if failures == self.tools.settings.alert_after_failures:
                    alerts.hasten(session, connection.id)
        except DatabaseUnavailable as outage:
            # Nothing was recorded: the lease runs out, and the next interval tries again.
            self.renewer.forget([run.lease])
            _log.warning("a failed run could not be recorded", error=str(outage))

    def _told_after(self, health: Health) -> timedelta:
        """How long people are not told: a server that is started anew is back by then, a login
        that a person has to renew is not."""
        if health is Health.NEEDS_AUTHORISATION:
            return timedelta(0)
        return timedelta(minutes=self.tools.settings.alert_after_minutes)

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
                self._ends(ended)
        except DatabaseUnavailable as outage:
            self.renewer.forget([run.lease for run in ended])
            _log.warning("finished runs could not be recorded", error=str(outage))
            return
        except Exception:  # the mails are safe: the leases run out, and what is left is done again
            self.renewer.forget([run.lease for run in ended])
            _log.exception("finished runs could not be recorded")
            return
        for run in ended:
            if run.connection.push:
                self._listen(run)

    def _end_together(self, several: Sequence[Sequence[Run]]) -> Sequence[None]:
        """For runs of several threads (`shared.combining`)."""
        ended = [run for one in several for run in one]
        if len(several) == 1:
            self.database.perform(lambda session: self._end(session, ended))
        else:
            with self.database.transaction() as session:
                wait_briefly(session)
                self._end(session, ended)
        if any(run.report.confirmed for run in ended):
            self.tools.reached("settled")
        return [None] * len(several)

    def _end(self, session: Session, ended: Sequence[Run]) -> None:
        # Leases before states, here and everywhere: two orders would end in deadlocks.
        self.renewer.release(session, [run.lease for run in ended])
        scheduling.finish_runs(session, [self._finished(run) for run in ended])
        ledger.all_settled(session, [one for run in ended for one in run.report.confirmed])
        ledger.record_runs(
            session,
            [
                EndedRun(
                    run.connection.id, told.duration_ms, told.found, told.downloaded, told.octets
                )
                for run in ended
                if (told := run.report).found or told.downloaded or told.recovered
            ],
        )

    def _finished(self, run: Run) -> Finished:
        identifier, report = run.connection.id, run.report
        return Finished(
            connection_id=identifier,
            duration_ms=report.duration_ms,
            cursor=report.cursor,
            keep_cursor=report.keep_cursor,
            uid_validity=report.uid_validity,
            lane=report.lane,
            affinity=self.renewer.owner if self.sessions.keeps(identifier) else None,
            again=report.again,
            pause=report.pause,
        )

    def _listen(self, run: Run) -> None:
        """Lets the server push where everything that was there is handled."""
        connection, report = run.connection, run.report
        silent = self.push_events.ran(connection.id, productive=report.downloaded > 0)
        if silent is not None:
            with self.database.transaction() as session:
                if scheduling.push_is_silent(session, connection.id, silent) and silent:
                    _log.warning(
                        "a mail server takes IDLE and does not tell of new mails",
                        connection=connection.id,
                        hint="New mails are found by the interval: make it short.",
                    )
        if report.again or self.tools.stopping():
            return
        if not self.push_events.may_listen(connection.id, connection.updated_at):
            return
        cursor = report.cursor if report.keep_cursor else run.state.cursor
        try:
            if self.sessions.listen(connection, cursor):
                self.push_events.listening(connection.id)
        except PosthouseError as error:
            self.push_events.lost(connection.id, error)

    def postpone(self, runs: Sequence[Run]) -> None:
        """Gives up before anything was done; the connections are due again a little later."""
        with self.database.transaction() as session:
            self.renewer.release(session, [run.lease for run in runs])
            scheduling.due_now(session, [run.connection.id for run in runs], POSTPONED)

    def wait(self, run: Run, seconds: float) -> None:
        """Due again when the server takes a login; not earlier, whatever the interval."""
        with self.database.transaction() as session:
            self.renewer.release(session, [run.lease])
            scheduling.due_after(session, run.connection.id, seconds)

    def leave(self, run: Run) -> None:
        """Leaves it to other fetchers: nothing that it has was found wanting."""
        with self.database.transaction() as session:
            self.renewer.release(session, [run.lease])
            affinity.release(session, self.renewer.owner, [run.connection.id])
            scheduling.due_now(session, [run.connection.id], POSTPONED)

    def to_slow_lane(self, runs: Sequence[Run]) -> None:
        """Leaves them to those who may wait for a server."""
        if not runs:
            return
        with self.database.transaction() as session:
            self.renewer.release(session, [run.lease for run in runs])
            scheduling.to_slow_lane(session, [run.connection.id for run in runs])


def _fresh_session_may_help(error: PosthouseError) -> bool:
    """Not where our own servers failed, nor where the mail server wants to be left alone."""
    if isinstance(error, SessionLost):
        return error.retry_after is None
    return (
        isinstance(error, TryAgain)
        and not isinstance(error, (LeaseLost, DatabaseUnavailable, SecretKeyMissing, StoreFull))
        and error.retry_after is None
        and getattr(error, "step", "") != "download"
    )


def _first_delay(connection: Connection) -> int:
    """Minutes. With push the interval may be long, and until it is back nobody listens."""
    return 1 if connection.push else connection.interval_minutes


def _alert(
    connection: Connection, failure: Failure, health: Health, failures: int
) -> ConnectionFailing:
    kind = (
        ConnectionNeedsAuthorisation if health is Health.NEEDS_AUTHORISATION else ConnectionFailing
    )
    return kind(
        connection_id=connection.id,
        name=connection.name,
        message=failure.message,
        hint=failure.hint,
        code=failure.code,
        step=failure.step,
        failures=failures,
        host=connection.endpoint[0].lower(),
    )
