"""The decryptor: opens mails and hands them over. Scales by replicas."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import structlog

from services.decryptor.decrypt_job import JOBS_A_THREAD, Claims, Decrypting
from services.decryptor.event_signing_keys import EventSigningKeys
from services.decryptor.keyring import Keyring
from services.decryptor.mail_facts import MailFactsReader
from services.decryptor.opening_batches import SecuredMails
from services.decryptor.private_folder import PrivateFolder
from services.decryptor.publishing import Publisher
from services.decryptor.settings import DecryptorSettings
from shared.health_reporting import report_health
from shared.jobs import DECRYPT_ACTOR, DECRYPT_QUEUE
from shared.mail_security import Security
from shared.memory_tuning import keep_freed, spare_from_collection
from shared.queueing.broker import RabbitmqJobs, RedisJobs, build_broker
from shared.queueing.output import Output
from shared.queueing.output.open import open_output
from shared.queueing.worker import pulse_of, run_worker
from shared.storage import schema
from shared.storage.pool import Database
from shared.store_identity import OwnStore, open_own_store
from shared.telemetry import metrics
from shared.telemetry.health import Check, Heartbeat
from shared.telemetry.threads import ServiceThreads
from shared.vault import Vault

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Decryptor:
    """A running decryptor."""

    settings: DecryptorSettings
    database: Database
    store: OwnStore
    vault: Vault
    output: Output
    jobs: RedisJobs | RabbitmqJobs
    decrypting: Decrypting
    folder: PrivateFolder
    heartbeat: Heartbeat

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set; what is in hand is published.

        Raises ThreadEnded where a part of it died: it is to be started anew.
        """
        keep_freed()
        spare_from_collection()
        drained = threading.Event()
        threads = ServiceThreads()
        threads.add("claims", self.decrypting.claims.run, drained)
        threads.add(
            DECRYPT_QUEUE,
            run_worker,
            self.jobs,
            {DECRYPT_ACTOR: self.decrypting.run},
            queue=DECRYPT_QUEUE,
            threads=JOBS_A_THREAD * self.settings.decrypt_threads,
            stop=stop,
        )
        checks: dict[str, Check] = {
            "database": partial(schema.check, self.database),
            "store": self.store.check,
            "broker": self.jobs.check,
            "output": self.output.check_publishing,
            "mails": self.decrypting.missing.check,
        }
        health = report_health(
            "decryptor",
            self.settings,
            threads,
            stop,
            database=self.database,
            vault=self.vault,
            heartbeat=self.heartbeat,
            checks=checks,
            store=self.store,
        )
        _ = self.folder.path  # removes what an earlier one left, and says so if it cannot be made
        with closing(self.folder), self.database, health:
            threads.start()
            while not (ended := threads.ended(stop)) and not stop.wait(1.0):
                if pulse_of(self.jobs).idle_s < self.heartbeat.stale_after:
                    self.heartbeat.beat()
            stop.set()
            threads.join([DECRYPT_QUEUE])
            drained.set()
            threads.join()
            self.output.close()
        if ended:
            raise ended


def build(settings: DecryptorSettings) -> Decryptor:
    """Wires a decryptor; nothing is connected before `run`."""
    database = Database(
        settings.database_url.get_secret_value(),
        size=2 * settings.decrypt_threads + 4,
        prepared=settings.prepared_statements,
    )
    store = open_own_store(settings, database)
    vault = Vault.from_settings([key.get_secret_value() for key in settings.secret_keys])
    output = open_output(settings.effective_output_url)
    folder = PrivateFolder(settings.spool_dir)
    decrypting = Decrypting(
        database=database,
        store=store,
        secured=SecuredMails(
            store,
            Keyring(
                database,
                vault,
                system_trust=settings.trust_system,
                revocation=settings.revocation,
            ),
            settings,
            folder,
            observe,
        ),
        publisher=Publisher(
            database,
            store,
            output,
            settings.public_url,
            settings.inline_max_bytes,
            MailFactsReader(settings.text_max_bytes, folder),
            EventSigningKeys(vault),
            settings.alert_unwanted,
        ),
        settings=settings,
        claims=Claims(database, settings.claim_seconds),
        reached=lambda _step: None,
    )
    return Decryptor(
        settings=settings,
        database=database,
        store=store,
        vault=vault,
        output=output,
        jobs=build_broker(settings.broker_url.get_secret_value(), queues=(DECRYPT_QUEUE,)),
        decrypting=decrypting,
        folder=folder,
        heartbeat=Heartbeat(),
    )


def observe(security: Security, seconds: float) -> None:
    """Counts one opened mail."""
    metrics.DECRYPTED_MESSAGES.labels(security.status).inc()
    if security.status != "none" or security.signature != "none":
        metrics.DECRYPT_SECONDS.observe(seconds)
    if security.signature != "none":
        metrics.SIGNATURES.labels(security.signature).inc()
