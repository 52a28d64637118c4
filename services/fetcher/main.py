"""The fetcher: takes fetch jobs and runs them. Scales by replicas."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import structlog

from services.fetcher import committing
from services.fetcher.fetch_job import Dispatcher
from services.fetcher.kept_session_runs import KeptSessionRuns
from services.fetcher.lease_renewer import LeaseRenewer
from services.fetcher.push_events import PushEvents
from services.fetcher.run import RunReport, Tools
from services.fetcher.run_ends import RunEnds
from services.fetcher.session_affinity import SessionAffinity
from services.fetcher.session_limits import PoolLimits
from services.fetcher.session_pool import SessionPool
from services.fetcher.session_shares import AllFetchers
from services.fetcher.settings import FetcherSettings
from shared.allowed_hosts import HostRules
from shared.connections import Connection
from shared.errors import (
    LeaseLost,
    NeedsAuthorisation,
    NeedsPerson,
    PosthouseError,
    TryAgain,
)
from shared.health_reporting import report_health
from shared.jobs import (
    DECRYPT_ACTOR,
    DECRYPT_QUEUE,
    FETCH_ACTOR,
    FETCH_QUEUE,
    FETCH_SLOW_QUEUE,
    own_queue,
)
from shared.mailbox.base import Mailbox
from shared.mailbox.open import open_mailbox
from shared.mailbox_logins import Logins
from shared.memory_tuning import spare_from_collection
from shared.open_files import raise_open_files_limit
from shared.queueing.broker import RabbitmqJobs, RedisJobs, build_broker, enqueue
from shared.queueing.worker import pulse_of, run_worker
from shared.storage import affinity as affinities
from shared.storage import schema
from shared.storage.pool import Database
from shared.storage.request_limits import PostgresLimiter
from shared.store_identity import OwnStore, open_own_store
from shared.telemetry import metrics
from shared.telemetry.health import Check, HealthServer, Heartbeat
from shared.telemetry.threads import ServiceThreads, ThreadEnded
from shared.vault import Vault

_log = structlog.get_logger(__name__)

#: Threads at the own queue: one asks mailboxes while the other one waits for answers.
_OWN_THREADS = 2


class _Queue(NamedTuple):
    """A queue that jobs are taken from, what does them, and in how many threads."""

    broker: RedisJobs | RabbitmqJobs
    name: str
    work: Callable[..., None]
    threads: int


@dataclass(slots=True)
class Fetcher:
    """A running fetcher."""

    settings: FetcherSettings
    database: Database
    store: OwnStore
    vault: Vault
    common_jobs: RedisJobs | RabbitmqJobs
    slow_jobs: RedisJobs | RabbitmqJobs
    own_jobs: RedisJobs | RabbitmqJobs
    dispatcher: Dispatcher
    kept_session_runs: KeptSessionRuns
    affinity: SessionAffinity
    limiter: PostgresLimiter
    stopping: threading.Event
    heartbeat: Heartbeat

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set; batches in hand are finished, leases given back.

        Raises ThreadEnded where a part of it died: it is to be started anew.
        """
        spare_from_collection()
        drained = threading.Event()
        threads = ServiceThreads()
        threads.add("leases", self.dispatcher.renewer.run, drained)
        threads.add("heartbeats", self.affinity.run_heartbeats, self.stopping)
        threads.add("affinity", self.affinity.run, self.stopping)
        threads.add("requests", self.limiter.run, drained)
        threads.add("push", self.kept_session_runs.listen, self.stopping)
        queues = self._queues()
        self._add_workers(threads, queues, stop)
        health = self._health(threads, stop)
        raise_open_files_limit()
        with self.database, health, self.dispatcher.sessions:
            self.affinity.arrive()
            threads.start()
            while not (ended := self._ended(threads, stop)) and not stop.wait(1.0):
                idle_s = max(pulse_of(broker).idle_s for broker, *_ in queues)
                if idle_s < self.heartbeat.stale_after:
                    self.heartbeat.beat()
            stop.set()
            self.stopping.set()
            threads.join(["heartbeats", "affinity", "push", *(queue for _, queue, *_ in queues)])
            self.kept_session_runs.executor.shutdown(wait=True)
            own = own_queue(self.affinity.owner)
            self.affinity.depart(partial(self.own_jobs.delete_queue, own))
            drained.set()
            threads.join()
        if ended:
            raise ended

    def _queues(self) -> tuple[_Queue, ...]:
        settings, runs = self.settings, self.kept_session_runs
        return (
            _Queue(self.common_jobs, FETCH_QUEUE, self.dispatcher.run_job, settings.fetch_threads),
            _Queue(
                self.slow_jobs,
                FETCH_SLOW_QUEUE,
                self.dispatcher.run_slow_job,
                settings.fetch_slow_threads,
            ),
            _Queue(self.own_jobs, own_queue(self.affinity.owner), runs.run_job, _OWN_THREADS),
        )

    def _add_workers(
        self, threads: ServiceThreads, queues: Sequence[_Queue], stop: threading.Event
    ) -> None:
        for broker, queue, work, count in queues:
            threads.add(
                queue,
                run_worker,
                broker,
                {FETCH_ACTOR: work},
                queue=queue,
                threads=count,
                stop=stop,
                shutdown_timeout_s=self.settings.slice_seconds + self.settings.read_timeout_seconds,
            )

    def _health(self, threads: ServiceThreads, stop: threading.Event) -> HealthServer:
        checks: dict[str, Check] = {
            "database": partial(schema.check, self.database),
            "store": self.store.check,
            "broker": self.common_jobs.check,
        }
        return report_health(
            "fetcher",
            self.settings,
            threads,
            stop,
            database=self.database,
            vault=self.vault,
            heartbeat=self.heartbeat,
            checks=checks,
            store=self.store,
        )

    def _ended(self, threads: ServiceThreads, stop: threading.Event) -> ThreadEnded | None:
        if not self.dispatcher.sessions.is_listening:
            return ThreadEnded("The thread that waits for pushed mails ended.")
        return threads.ended(stop)


def build(settings: FetcherSettings) -> Fetcher:
    """Wires a fetcher; nothing is connected before `run`."""
    url = settings.broker_url.get_secret_value()
    slots = 2 * settings.fetch_threads + settings.fetch_slow_threads + _OWN_THREADS
    database = Database(
        settings.database_url.get_secret_value(),
        size=slots + 4,
        prepared=settings.prepared_statements,
    )
    store = open_own_store(settings, database)
    vault = Vault.from_settings([key.get_secret_value() for key in settings.secret_keys])
    owner = _owner()
    common_jobs = build_broker(url, queues=(FETCH_QUEUE, DECRYPT_QUEUE))
    slow_jobs = build_broker(url, queues=(FETCH_SLOW_QUEUE,))
    own_jobs = build_broker(url, queues=(own_queue(owner),))
    rules = HostRules.of(settings)
    logins = Logins(database, vault, rules)
    limiter = PostgresLimiter(database)
    stopping = threading.Event()
    push_events = PushEvents()
    sessions = _session_pool(
        settings, database, owner, push_events, _opener(settings, logins, rules, limiter)
    )
    renewer = LeaseRenewer(database, owner, settings.lease_seconds)
    dispatcher = Dispatcher(
        tools=Tools(
            database=database,
            store=store,
            settings=settings,
            commits=committing.new_combiner(),
            hand_on=partial(_hand_on, common_jobs),
            stopping=stopping.is_set,
            reached=lambda _step: None,
        ),
        database=database,
        renewer=renewer,
        ends=RunEnds(sessions, push_events, renewer, database, observe),
    )
    return Fetcher(
        settings=settings,
        database=database,
        store=store,
        vault=vault,
        common_jobs=common_jobs,
        slow_jobs=slow_jobs,
        own_jobs=own_jobs,
        dispatcher=dispatcher,
        kept_session_runs=KeptSessionRuns(
            dispatcher=dispatcher,
            push_events=push_events,
            executor=ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="kept"),
            pass_on=partial(_pass_on, common_jobs),
            room=4 * settings.fetch_threads,
        ),
        affinity=SessionAffinity(
            database=database,
            sessions=lambda: dispatcher.sessions,
            push_events=push_events,
            pulse=pulse_of(own_jobs),
            owner=owner,
            lease_seconds=settings.lease_seconds,
        ),
        limiter=limiter,
        stopping=stopping,
        heartbeat=Heartbeat(),
    )


def _opener(
    settings: FetcherSettings, logins: Logins, rules: HostRules, limiter: PostgresLimiter
) -> Callable[[Connection], Mailbox]:
    def opened(connection: Connection) -> Mailbox:
        login = logins.of(connection)
        host, _ = login.endpoint or connection.endpoint
        return open_mailbox(
            connection,
            login,
            read_timeout_s=settings.read_timeout_seconds,
            allow_host=rules.at(host),
            limiter=limiter,
        )

    return opened


def _session_pool(
    settings: FetcherSettings,
    database: Database,
    owner: str,
    push_events: PushEvents,
    opened: Callable[[Connection], Mailbox],
) -> SessionPool:
    def crowded(host: str) -> bool:
        with database.transaction() as session:
            return affinities.note_crowded(session, owner, host)

    return SessionPool(
        opened,
        PoolLimits(
            kept=settings.kept_sessions,
            listening=settings.push_sessions,
            per_host=settings.sessions_per_host,
            per_mailbox=settings.sessions_per_mailbox,
        ),
        on_push=push_events.announced,
        on_lost=push_events.lost,
        crowded=crowded,
        table=AllFetchers(database, owner, settings.lease_seconds),
    )


def _hand_on(jobs: RedisJobs | RabbitmqJobs, ids: Sequence[uuid.UUID]) -> None:
    """Sends a decrypt job for mails that are safe. Where it cannot be sent, the scheduler does."""
    if not ids:
        return
    correlation = structlog.contextvars.get_contextvars().get("correlation_id", "")
    try:
        enqueue(
            jobs,
            DECRYPT_QUEUE,
            DECRYPT_ACTOR,
            ([str(i) for i in ids], correlation),
            correlation_id=correlation,
        )
    except PosthouseError as error:  # a refused password too: the mails are safe here
        _log.warning("mails left to the scheduler", error=str(error))


def _pass_on(
    jobs: RedisJobs | RabbitmqJobs, connection_ids: Sequence[int], correlation_id: str
) -> None:
    """Sends a fetch job to whichever fetcher is free."""
    job = (list(connection_ids), correlation_id)
    enqueue(jobs, FETCH_QUEUE, FETCH_ACTOR, job, correlation_id=correlation_id)


def observe(connection: Connection, result: RunReport | PosthouseError) -> None:
    """Counts one run."""
    mode = connection.mode.value
    if isinstance(result, RunReport):
        metrics.FETCH_RUNS.labels(mode, "mails" if result.downloaded else "idle").inc()
        metrics.FETCH_SECONDS.labels(mode).observe(result.duration_ms / 1000)
        metrics.DOWNLOADED_MESSAGES.labels(mode).inc(result.downloaded)
        metrics.DOWNLOADED_BYTES.labels(mode).inc(result.octets)
        return
    outcomes = {
        LeaseLost: "lease-lost",
        NeedsAuthorisation: "needs-authorisation",
        NeedsPerson: "needs-person",
        TryAgain: "try-again",
    }
    outcome = next(
        (word for kind, word in outcomes.items() if isinstance(result, kind)), "internal"
    )
    metrics.FETCH_RUNS.labels(mode, outcome).inc()
    if outcome == "lease-lost":
        metrics.LEASE_LOSSES.inc()


def _owner() -> str:
    """Tells this process from every other that ever was."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
