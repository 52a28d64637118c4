"""The scheduler: emits what is due, sends again what was lost, looks after queues, cleans up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from services.scheduler import alerting
from services.scheduler.emitting import Emitter
from services.scheduler.queue_guard import Guard
from services.scheduler.repeated_errors import RepeatedErrors
from services.scheduler.retention import housekeeping
from services.scheduler.revocation import learn
from services.scheduler.settings import SchedulerSettings
from shared.allowed_hosts import HostRules
from shared.clock import utc_now
from shared.errors import PosthouseError
from shared.health_reporting import report_health
from shared.jobs import DECRYPT_QUEUE, FETCH_QUEUE, FETCH_SLOW_QUEUE
from shared.mailbox_logins import Logins
from shared.queueing.broker import RabbitmqJobs, RedisJobs, build_broker, enqueue_many
from shared.queueing.output import Output
from shared.queueing.output.open import open_output
from shared.storage import retention, scheduling, schema
from shared.storage.pool import Database
from shared.storage.totals import read_totals
from shared.store_identity import OwnStore, open_own_store
from shared.telemetry.health import Check, Heartbeat
from shared.telemetry.threads import ServiceThreads
from shared.telemetry.totals import total_metrics
from shared.vault import Vault

_log = structlog.get_logger(__name__)

#: Connections that are taken before more are: their jobs are sent, and fetchers begin, while the
#: others are claimed. A claim takes some 45 µs a connection, and jobs wait for all that it takes.
_FIRST_CLAIM = 500
_RESEND_SECONDS = 1.0
_LOST_SECONDS = 1.0
_HOUSEKEEPING_SECONDS = 300.0
_ALERTS_SECONDS = 5.0
_REVOCATION_SECONDS = 5.0
_EXPIRIES_SECONDS = 3600.0
_GRANTS_SECONDS = 6 * 3600.0
#: Providers end a grant that nobody uses (Microsoft after 90 days, Google after six months).
_GRANTS_IDLE = timedelta(days=7)


@dataclass(slots=True)
class Scheduler:
    """A running scheduler. Several may run; each loop takes only what no other holds."""

    settings: SchedulerSettings
    database: Database
    store: OwnStore
    jobs: RedisJobs | RabbitmqJobs
    vault: Vault
    output: Output
    hosts: HostRules
    emitter: Emitter
    guard: Guard
    heartbeat: Heartbeat

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set; what is in hand is finished.

        Raises ThreadEnded where a part of it died: it is to be started anew.
        """
        settings = self.settings
        loops: list[tuple[str, float, Callable[[], object]]] = [
            ("resend", _RESEND_SECONDS, partial(self._resend, stop)),
            ("lost", _LOST_SECONDS, self.emitter.release_lost),
            ("guard", settings.handler_check_seconds, self.guard.check_all),
            ("housekeeping", _HOUSEKEEPING_SECONDS, self._housekeeping),
            ("alerts", _ALERTS_SECONDS, self._alerts),
            ("expiries", _EXPIRIES_SECONDS, lambda: alerting.raise_expiries(self.database)),
            ("grants", _GRANTS_SECONDS, self._keep_grants),
        ]
        if settings.revocation != "off":
            loops.append(("revocation", _REVOCATION_SECONDS, self._learn_revocations))
        threads = ServiceThreads()
        for name, seconds, work in loops:
            threads.add(name, _every, stop, name, seconds, work)
        threads.add("emit", _every, stop, "emit", settings.tick_seconds, partial(self._emit, stop))
        checks: dict[str, Check] = {
            "database": partial(schema.check, self.database),
            # Only housekeeping needs the store: a full or absent one must not stop the rest.
            "store": self.store.check_identity,
            "broker": self.jobs.check,
            "output": self.output.check_publishing,
        }
        health = report_health(
            "scheduler",
            settings,
            threads,
            stop,
            database=self.database,
            vault=self.vault,
            heartbeat=self.heartbeat,
            checks=checks,
            store=self.store,
        )
        with self.database, health, total_metrics(partial(read_totals, self.database)):
            threads.start()
            while not (ended := threads.ended(stop)) and not stop.wait(1.0):
                pass
            stop.set()
            threads.join()
        if ended:
            raise ended

    def _emit(self, stop: threading.Event) -> None:
        """Until nothing more is due; who is always behind has to end too."""
        limit = min(_FIRST_CLAIM, self.settings.claim_batch)
        while self.emitter.emit_due(limit) and not stop.is_set():
            self.heartbeat.beat()
            limit = self.settings.claim_batch
        self.heartbeat.beat()

    def _resend(self, stop: threading.Event) -> None:
        while self.emitter.resend() == self.settings.resend_batch and not stop.is_set():
            pass

    def _housekeeping(self) -> None:
        # Whichever scheduler comes first does it for all of them.
        if retention.claim_chore(
            self.database, "housekeeping", timedelta(seconds=0.9 * _HOUSEKEEPING_SECONDS)
        ):
            now = retention.earlier_now(self.database)
            self._notice_clock()
            housekeeping(self.database, self.store, now, self.settings.retention_days)

    def _notice_clock(self) -> None:
        with self.database.transaction() as session:
            late = scheduling.make_due_after_clock_change(session)
        if late:
            _log.warning(
                "clock of Postgres set back",
                mailboxes=late,
                hint="They were due in time to come and are fetched now. Keep its clock by NTP.",
            )

    def _learn_revocations(self) -> None:
        learn(self.database, self.hosts)

    def _keep_grants(self) -> None:
        """Refreshes what disabled connections were granted, so that they can be enabled again."""
        Logins(self.database, self.vault, self.hosts).keep_alive(utc_now() - _GRANTS_IDLE)

    def _alerts(self) -> None:
        alerting.raise_backlogs(
            self.database, timedelta(minutes=self.settings.backlog_alert_minutes)
        )
        alerting.raise_own_health(self.database)
        alerting.deliver_due(
            self.database,
            self.vault,
            utc_now(),
            public_url=self.settings.public_url,
            hosts=self.hosts,
        )


def _every(stop: threading.Event, name: str, seconds: float, work: Callable[[], object]) -> None:
    """Runs `work` now and then every `seconds`, whatever becomes of it, until `stop`."""
    errors = RepeatedErrors()
    while True:
        started = time.monotonic()
        try:
            work()
        except PosthouseError as error:
            # It may fail ten times a second, for as long as a broker takes nothing.
            for text in errors.to_log([str(error)]):
                _log.warning("chore failed", chore=name, error=text)
        except Exception:  # a chore that fails is done again; the thread goes on
            _log.exception("chore failed unexpectedly", chore=name)
        if stop.wait(max(0.0, seconds - (time.monotonic() - started))):
            return


def build(settings: SchedulerSettings) -> Scheduler:
    """Wires a scheduler; nothing is connected before `run`."""
    database = Database(
        settings.database_url.get_secret_value(), size=8, prepared=settings.prepared_statements
    )
    broker = build_broker(
        settings.broker_url.get_secret_value(),
        queues=(FETCH_QUEUE, FETCH_SLOW_QUEUE, DECRYPT_QUEUE),
    )
    management = settings.output_management_url
    output = open_output(
        settings.effective_output_url,
        management_url=management.get_secret_value() if management else "",
    )
    return Scheduler(
        settings=settings,
        database=database,
        store=open_own_store(settings, database),
        jobs=broker,
        vault=Vault.from_settings([key.get_secret_value() for key in settings.secret_keys]),
        output=output,
        hosts=HostRules.of(settings),
        emitter=Emitter(
            database, settings, lambda jobs: enqueue_many(broker, jobs), broker.delete_queue
        ),
        guard=Guard(database, output, settings.output_place),
        heartbeat=Heartbeat(),
    )
