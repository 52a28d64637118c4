"""How a service reports its health: to probes, and to people."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from shared.heartbeats import HeartbeatWriter
from shared.queueing.undecodable_jobs import UNDECODABLE_JOBS
from shared.settings import Settings
from shared.storage import services
from shared.storage.pool import Database
from shared.store_identity import OwnStore
from shared.telemetry.health import Check, HealthServer, Heartbeat
from shared.telemetry.threads import ServiceThreads
from shared.vault import Vault


def report_health(
    name: str,
    settings: Settings,
    threads: ServiceThreads,
    stop: threading.Event,
    *,
    database: Database,
    vault: Vault,
    heartbeat: Heartbeat,
    checks: Mapping[str, Check],
    store: OwnStore | None = None,
) -> HealthServer:
    """The server for probes, to be entered; `threads` get one that writes to Postgres how this
    process is. It is ready where `checks` pass and all threads run.

    A missing key is told to people alone, and what is no job (`storage.services.REMARKS`): neither
    makes anybody unready, as all else goes on. `store`: whose free space is told; None: the service
    needs none.
    """
    checks = {**checks, "threads": threads.check}
    told = {**checks, "keys": vault.check, services.JOBS: UNDECODABLE_JOBS.check}
    writer = HeartbeatWriter(name, database, store, told)
    threads.add("heartbeat", writer.run, stop)
    return HealthServer(
        settings.health_host, settings.health_port, heartbeat=heartbeat, checks=checks
    )
