"""The fetch job: from connection ids to finished runs.

A job is a hint. What is to be done is read from Postgres: connections that are enabled, have not
run since the job was emitted, and whose mailbox nobody else is fetching from.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from math import inf
from typing import Final, NamedTuple

import structlog
from structlog.contextvars import bound_contextvars

from services.fetcher import run_phases
from services.fetcher.lane_wait_budgets import Lane
from services.fetcher.lease_renewer import LeaseRenewer
from services.fetcher.pipelined_polls import PollAnswer, poll_all
from services.fetcher.run import Run, RunReport, SessionBroke, Tools
from services.fetcher.run_ends import POSTPONED, RunEnds
from services.fetcher.session_opening import HostBusy
from services.fetcher.session_pool import SessionPool
from shared.clock import new_id, time_of
from shared.connections import Connection
from shared.errors import LeaseLost, OwnFailure, PosthouseError, SecretKeyMissing, TryAgain
from shared.mailbox import wait_budget
from shared.mailbox.base import Cursor, Mailbox
from shared.mailbox.failures import LoginTooSoon, SessionLost
from shared.mailbox.wait_budget import ServerTooSlow
from shared.storage import begun_runs, connections, scheduling
from shared.storage.begun_runs import Begun
from shared.storage.pool import Database, Session
from shared.store_identity import ForeignStore
from shared.telemetry import metrics, traces

_log = structlog.get_logger(__name__)

#: How often a run is begun in one go: by what is known of its connection, by what it is, and once
#: more where that finds a lease that had run out, which it ends.
_ATTEMPTS: Final = 3


class JobTooLate(Exception):
    """The job was emitted too long ago, or there is no room for it: others are to take it."""


class Announced(NamedTuple):
    """Runs that began as `events` servers announced something: those over an open session, those
    that have none (any more), and what they are logged under."""

    events: int
    over_open: Sequence[Run]
    without: Sequence[Run]
    correlation_id: str


@dataclass(slots=True)
class Dispatcher:
    """Runs fetch jobs; `run_job` is the actor of the common queue, `run_slow_job` that of the slow
    lane."""

    tools: Tools
    database: Database
    renewer: LeaseRenewer
    ends: RunEnds

    @property
    def sessions(self) -> SessionPool:
        """The open sessions of this fetcher."""
        return self.ends.sessions

    def run_job(self, connection_ids: Sequence[int], correlation_id: str) -> None:
        """Polls each connection; several idle polls cost one job, those over open sessions one
        round trip."""
        self._run_job(connection_ids, correlation_id, Lane.COMMON)

    def run_slow_job(self, connection_ids: Sequence[int], correlation_id: str) -> None:
        """The same for those that may keep a thread waiting."""
        self._run_job(connection_ids, correlation_id, Lane.SLOW)

    def _run_job(self, connection_ids: Sequence[int], correlation_id: str, lane: Lane) -> None:
        emitted = time_of(uuid.UUID(correlation_id))
        over_open, without = self.begin_runs(connection_ids, emitted, correlation_id)
        self.run_all([*without, *over_open], correlation_id, lane)

    def begin_runs(
        self,
        connection_ids: Sequence[int],
        emitted: datetime,
        correlation_id: str,
        *,
        within: float = inf,
    ) -> tuple[list[Run], list[Run]]:
        """Where the runs of a job begin, and those end where nothing is new; returns those to be
        run over an open session, and those that have none.

        Raises JobTooLate where it was emitted longer ago than `within` seconds, by the clock of
        Postgres, which jobs are stamped with.
        """
        here, renewer = self.sessions.connections(connection_ids), self.renewer
        with self.database.autocommit() as session:
            begin = partial(
                begun_runs.due, session, owner=renewer.owner, ttl=renewer.ttl, emitted=emitted
            )
            begun = begin(connection_ids, here, within=within)
            if not all(one.in_time for one in begun):
                raise JobTooLate
            runs = self._runs(session, begun, here, begin, changed=False, postponed=POSTPONED)
        with bound_contextvars(correlation_id=correlation_id), self.ends.unless_ended(runs):
            return self._poll_kept_sessions(runs)

    def begin_announced(
        self, connection_ids: Sequence[int], *, has_room: bool, postponed: float
    ) -> Announced | None:
        """The same where servers announced something new; None where none is to be run now, as none
        where there is no room for more runs: they are due at once.

        Where another run has the mailbox, it is due again in `postponed` seconds.
        """
        here, renewer = self.sessions.connections(connection_ids), self.renewer
        with self.database.autocommit() as session:
            begin = partial(
                begun_runs.announced,
                session,
                owner=renewer.owner,
                ttl=renewer.ttl,
                has_room=has_room,
            )
            begun = begin(connection_ids, here)
            quick = [one for one in begun if one.used and one.in_time]
            slow = [one.state.connection_id for one in begun if one.used and not one.in_time]
            runs = self._runs(session, quick, here, begin, changed=True, postponed=postponed)
            if slow:
                with self.ends.unless_ended(runs):
                    scheduling.make_due(session, slow)
        if not quick:
            return None
        correlation_id = str(new_id(quick[0].at))
        with bound_contextvars(correlation_id=correlation_id), self.ends.unless_ended(runs):
            return Announced(len(quick), *self._poll_kept_sessions(runs), correlation_id)

    def _poll_kept_sessions(self, runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
        """Asks all mailboxes whose sessions wait here at once, and ends those where nothing is new.

        Returns those to be run over the open session, and those that have none (any more).
        """
        started = time.monotonic()
        asking: list[tuple[Run, Mailbox, str, Cursor | None]] = []
        over_open: list[Run] = []
        without: list[Run] = []
        for run in runs:
            mailbox = None
            if not (run.changed or run.state.has_work):
                mailbox = self.sessions.take_waiting(run.connection)
            if mailbox is not None:
                asking.append((run, mailbox, run.connection.folder, run.state.cursor))
            elif self.sessions.has_idle_session(run.connection.id):
                over_open.append(run)
            else:
                without.append(run)
        idle: list[Run] = []
        for run, mailbox, answer in poll_all(asking):
            if answer is PollAnswer.BROKEN:
                self.sessions.discard(run.connection, mailbox)
                without.append(run)
                continue
            self.sessions.give_back(run.connection, mailbox, healthy=True)
            if answer is PollAnswer.UNCHANGED:
                # Asked together, so each is told its share of the time: nobody's server is slow.
                took = (time.monotonic() - started) / len(asking)
                run.report = RunReport(idle=True, started=time.monotonic() - took)
                idle.append(run)
            else:
                run.changed = answer is PollAnswer.CHANGED
                over_open.append(run)
        # Not before all sessions are back in the pool: Postgres may be away.
        for run in idle:
            self.ends.succeeded(run)
        self.ends.finish(idle)
        return over_open, without

    def run_all(self, runs: list[Run], correlation_id: str, lane: Lane) -> None:
        """Runs what was begun, one after the other, each to its end."""
        with bound_contextvars(correlation_id=correlation_id):
            ended: list[Run] = []
            try:
                while runs:
                    run = runs.pop()
                    if self.tools.stopping():
                        self.ends.postpone([run])
                        continue
                    if self._run_one(run, lane):
                        ended.append(run)
                        if not run.report.idle:
                            self.ends.finish(ended)
                            ended = []
            finally:
                try:
                    self.ends.finish(ended)
                finally:
                    if runs:
                        self.ends.postpone(runs)

    def _runs(
        self,
        session: Session,
        begun: Sequence[Begun],
        here: Mapping[int, Connection],
        begin: Callable[[Sequence[int], Mapping[int, Connection]], Sequence[Begun]],
        *,
        changed: bool,
        postponed: float,
    ) -> list[Run]:
        """Those that have their lease, or get it now that their connections were read as nobody
        `here` knew what to lease; the others are due again in `postponed` seconds."""
        runs: list[Run] = []
        waiting: list[int] = []
        try:
            for attempt in range(_ATTEMPTS):
                again = []
                for one in begun:
                    identifier = one.state.connection_id
                    if one.lease is not None:
                        run = Run(self.tools, here[identifier], one.state, one.lease, changed)
                        run.unknown_from = one.unknown_from
                        runs.append(run)
                    elif attempt < _ATTEMPTS - 1 and (one.was_ended or not one.known):
                        again.append(identifier)
                    else:
                        waiting.append(identifier)
                self.renewer.hold([run.lease for run in runs])
                if not again:
                    break
                here = {one.id: one for one in connections.get_many(session, again)}
                begun = begin(again, here)
            if waiting:
                scheduling.make_due(session, waiting, postponed)
        except BaseException:
            self.renewer.forget([run.lease for run in runs])  # nobody runs them: they run out
            raise
        return runs

    def _run_one(self, run: Run, lane: Lane) -> bool:
        """One run to its end, whatever the end is; False where it failed (and is recorded so)."""
        connection = run.connection
        run.start()
        with bound_contextvars(connection=connection.id), self.ends.unless_ended([run]):
            try:
                # Before a login: whose store is wrong has no use for what the server would give.
                self.tools.store.refuse_foreign()
                budget = wait_budget.bounded(lane.budget(self.tools.settings))
                with metrics.FETCHES_RUNNING.track_inprogress(), budget:
                    self._run_with_retry(run)
            except HostBusy:
                self.ends.record_settled(run)
                self.ends.postpone([run])
                return False
            except LoginTooSoon as error:
                _log.info("login put off", error=str(error))
                self.ends.record_settled(run)
                self.ends.wait(run, error.retry_after or POSTPONED)
                return False
            except (ForeignStore, SecretKeyMissing) as error:
                _log.warning("run left to other fetchers", error=str(error))
                self.ends.record_settled(run)
                self.ends.leave(run)
                return False
            except LeaseLost as error:
                self.ends.lease_lost(run, error)
                return False
            except PosthouseError as error:
                if isinstance(error, ServerTooSlow) and lane is Lane.COMMON:
                    self.ends.continue_in_slow_lane(run, error)
                else:
                    self.ends.failed(run, error)
                return False
            except Exception as error:
                # Nobody foresaw it: the connection shows it, and the runs behind this one go on.
                _log.exception("run failed unexpectedly")
                failure = TryAgain(f"An unexpected {type(error).__name__} stopped the run.")
                self.ends.failed(run, failure)
                return False
            self.sessions.give_back(connection, run.mailbox, healthy=not run.report.session_broke)
            self.ends.succeeded(run)
            return True

    def _run_with_retry(self, run: Run) -> None:
        """A kept session may have died since the last poll: then once more with a fresh one. Where
        mails break sessions, others are asked for in a fresh one as well."""
        broke: TryAgain | None = None
        while True:
            mailbox, kept = self._session(run, broke)
            try:
                run.mailbox = mailbox
                run_phases.fetch(run)
                return
            except SessionBroke as error:
                broke = error.reason
                broke.transcript = broke.transcript or tuple(mailbox.transcript)
                self.sessions.discard(run.connection, mailbox)
                _log.warning("session broken by a mail", error=str(broke))
                run.start_over(kept=kept)
            except PosthouseError as error:
                error.transcript = error.transcript or tuple(mailbox.transcript)
                self.sessions.discard(run.connection, mailbox)
                if not (kept and _fresh_session_may_help(error)):
                    raise
                run.start_over(kept=kept)
            except BaseException:
                self.sessions.discard(run.connection, mailbox)
                raise

    def _session(self, run: Run, broke: TryAgain | None) -> tuple[Mailbox, bool]:
        """A session, and whether it was open already. Where one `broke` in this run and there is no
        other, that is what the run ends with."""
        with traces.span("session", connection=run.connection.id) as span:
            try:
                mailbox, kept = self.sessions.take(run.connection)
            except PosthouseError as error:
                if broke is None:
                    raise
                if isinstance(error, LoginTooSoon):
                    broke.retry_after = error.retry_after
                raise broke from error
            span.set_attribute("posthouse.kept", kept)
            return mailbox, kept


def _fresh_session_may_help(error: PosthouseError) -> bool:
    """Not where our own servers failed, nor where the mail server wants to be left alone."""
    if isinstance(error, SessionLost):
        return error.retry_after is None and not isinstance(error, ServerTooSlow)
    return (
        isinstance(error, TryAgain)
        and not isinstance(error, OwnFailure)
        and error.retry_after is None
        and getattr(error, "step", "") != "download"
    )
