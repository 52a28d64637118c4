"""Reports the state of this process to Postgres every few seconds, for the pages."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import uuid
from collections.abc import Mapping

import structlog

from shared.errors import PosthouseError
from shared.storage import services
from shared.storage.pool import Database, DatabaseCannotWrite
from shared.store_identity import OwnStore
from shared.telemetry.health import Check, Readiness
from shared.telemetry.service_lifecycle import release

_log = structlog.get_logger(__name__)

#: Seconds between two heartbeats.
_EVERY_S = 10.0


class HeartbeatWriter:
    """`run` on a thread of its own; the checks are those of the service's readiness, and more that
    people should hear of. `store` None: the service needs none."""

    def __init__(
        self, name: str, database: Database, store: OwnStore | None, checks: Mapping[str, Check]
    ) -> None:
        self._name = name
        self._database = database
        self._store = store
        self._readiness = Readiness(checks)
        self._logged: dict[str, str] = {}
        self._instance = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"

    def run(self, stop: threading.Event) -> None:
        """Until `stop`. What cannot be written shows by being old."""
        while True:
            try:
                self._beat()
            except PosthouseError as error:
                _log.warning("heartbeat not written", error=str(error))
            except Exception:  # a process that says nothing counts as dead
                _log.exception("heartbeat not written")
            if stop.wait(_EVERY_S):
                self._readiness.close()
                return

    def _beat(self) -> None:
        failing = self._readiness.failures()
        if refusal := self._still_refused():
            failing["database"] = str(refusal)
        self._log_change(failing)
        try:
            space = self._store.space() if self._store is not None else None
        except PosthouseError:
            space = None  # the check of the store says why
        with self._database.transaction() as session:
            services.record_heartbeat(
                session,
                instance=self._instance,
                name=self._name,
                version=release(),
                failing=failing,
                space=space,
            )

    def _log_change(self, failing: dict[str, str]) -> None:
        """`/readyz` tells states alone; the reasons are here, and on the overview."""
        if failing != self._logged:
            _log.log(
                logging.WARNING if failing else logging.INFO, "checks changed", failing=failing
            )
        self._logged = failing

    def _still_refused(self) -> DatabaseCannotWrite | None:
        """What Postgres last refused to write for want of space or as it only reads, if it would
        again. A heartbeat alone would not tell: it fits where a batch of mails does not."""
        refusal = self._database.refusal
        if refusal is not None:
            self._database.refusal = None
            with contextlib.suppress(DatabaseCannotWrite), self._database.transaction() as session:
                services.try_to_write(session)
        return self._database.refusal
