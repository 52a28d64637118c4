"""The forwarder: consumes the queues of handlers that are forwarded, and passes each event on.

Any number of replicas work side by side, without a leader: the broker gives each event to one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from services.forwarder.attempt_log import AttemptLog
from services.forwarder.forward_worker import ForwardWorker
from services.forwarder.forward_workers import ForwardWorkers
from services.forwarder.retries import Retries
from services.forwarder.settings import ForwarderSettings
from shared.allowed_hosts import HostRules
from shared.health_reporting import report_health
from shared.open_files import raise_open_files_limit
from shared.queueing.output import Output
from shared.queueing.output.open import open_output
from shared.storage import schema
from shared.storage.forwards import SealedForward
from shared.storage.pool import Database
from shared.telemetry.health import Check, Heartbeat
from shared.telemetry.threads import ServiceThreads
from shared.vault import Vault


@dataclass(slots=True)
class Forwarder:
    """A running forwarder."""

    settings: ForwarderSettings
    database: Database
    vault: Vault
    output: Output
    workers: ForwardWorkers
    log: AttemptLog
    heartbeat: Heartbeat
    #: Told of each step of a delivery.
    reached: Callable[[str], object] = lambda _step: None

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set; attempts on their way end, and what they came to is kept.

        Raises ThreadEnded where a part of it died: it is to be started anew.
        """
        sent = threading.Event()
        threads = ServiceThreads()
        threads.add("workers", self.workers.run, stop)
        threads.add("log", self.log.run, sent)
        checks: dict[str, Check] = {
            "database": partial(schema.check, self.database),
            "output": self.output.check,
        }
        health = report_health(
            "forwarder",
            self.settings,
            threads,
            stop,
            database=self.database,
            vault=self.vault,
            heartbeat=self.heartbeat,
            checks=checks,
        )
        raise_open_files_limit()  # each worker has connections to the broker and to its endpoint
        with self.database, health:
            threads.start()
            while not (ended := threads.ended(stop)) and not stop.wait(1.0):
                pass
            stop.set()
            threads.join(["workers"])
            sent.set()
            threads.join()
            self.output.close()
        if ended:
            raise ended


def build(settings: ForwarderSettings) -> Forwarder:
    """Wires a forwarder; nothing is connected before `run`."""
    database = Database(
        settings.database_url.get_secret_value(), size=8, prepared=settings.prepared_statements
    )
    vault = Vault.from_settings([key.get_secret_value() for key in settings.secret_keys])
    hosts = HostRules.of(settings)
    retries, log, heartbeat = Retries(database), AttemptLog(database), Heartbeat()

    def worker(forward: SealedForward, workers: ForwardWorkers) -> ForwardWorker:
        return ForwardWorker(
            forward,
            settings=settings,
            vault=vault,
            hosts=hosts,
            retries=retries,
            log=log,
            gone=workers.pause,
            gave_up=workers.alert_given_up,
            reached=lambda step: forwarder.reached(step),
        )

    forwarder = Forwarder(
        settings=settings,
        database=database,
        vault=vault,
        output=open_output(settings.effective_output_url),
        workers=ForwardWorkers(
            database,
            retries,
            worker,
            settings.forward_check_seconds,
            heartbeat.beat,
            # What a dead forwarder had in hand is there to be taken over before its lease ends.
            2 * settings.forward_stale_seconds,
        ),
        log=log,
        heartbeat=heartbeat,
    )
    return forwarder
