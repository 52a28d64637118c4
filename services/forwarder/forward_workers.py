"""A worker for every handler that is forwarded, as Postgres says now."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable

import structlog

from services.forwarder.forward_worker import ForwardWorker
from services.forwarder.retries import Retries
from shared.alerts.handlers import ForwardGaveUp, ForwardPaused
from shared.clock import utc_now
from shared.errors import PosthouseError
from shared.forwards import ForwardOrder
from shared.storage import alerts, forwards
from shared.storage.forwards import SealedForward
from shared.storage.pool import Database
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)


class ForwardWorkers:
    """Starts, stops and replaces workers. `run` on a thread of its own.

    A handler whose mails go in order is sent for by one forwarder at a time, which says so in
    Postgres for `lease_s`. It says so again after a quarter of that, and stops by itself when it
    could not for half of it, so that another never begins beside it.
    """

    def __init__(
        self,
        database: Database,
        retries: Retries,
        make: Callable[[SealedForward, ForwardWorkers], ForwardWorker],
        every_s: float,
        beat: Callable[[], None],
        lease_s: float,
    ) -> None:
        self._database = database
        self._retries = retries
        self._make = make
        self._every_s = every_s
        self._beat = beat
        self._lease_s = lease_s
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._leased_since = 0.0  # time.monotonic
        self._workers: dict[int, ForwardWorker] = {}

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; then attempts on their way end."""
        while True:
            try:
                self._retries.refresh()
                self._reconcile()
                self._beat()
            except PosthouseError as error:
                # Those that run go on: what they need of Postgres, they ask for themselves.
                _log.warning("forwards not looked up", error=str(error))
                self._stop_unleased()
            if stop.wait(self._every_s):
                break
        for worker in self._workers.values():
            worker.stop()
        for worker in self._workers.values():
            worker.join()
        try:
            with self._database.transaction() as session:
                forwards.release_sending(session, self._owner)
        except PosthouseError as error:
            _log.warning("leases of forwards not given back", error=str(error))

    def _reconcile(self) -> None:
        asked_at = time.monotonic()
        with self._database.transaction() as session:
            found = forwards.sealed(session)
            wanted = {one.handler_id: one for one in found if one.paused_at is None}
            ordered = {number for number, one in wanted.items() if _is_ordered(one)}
            others = ordered and ordered - forwards.lease_sending(
                session, sorted(ordered), self._owner, self._lease_s
            )
        self._leased_since = asked_at
        for handler_id in others:
            del wanted[handler_id]
        for handler_id, worker in list(self._workers.items()):
            if wanted.get(handler_id) != worker.forward:
                worker.stop()
            if not worker.is_alive:
                del self._workers[handler_id]
        for handler_id, forward in wanted.items():
            if handler_id not in self._workers:
                worker = self._workers[handler_id] = self._make(forward, self)
                worker.start()
        working = sum(worker.breaker.is_closed for worker in self._workers.values())
        metrics.FORWARD_WORKERS.labels("working").set(working)
        metrics.FORWARD_WORKERS.labels("waiting").set(len(self._workers) - working)

    def _stop_unleased(self) -> None:
        """Sends no more in order when it was not said for long that this forwarder does."""
        if time.monotonic() - self._leased_since > self._lease_s / 2:
            for worker in self._workers.values():
                if _is_ordered(worker.forward):
                    worker.stop()

    def pause(self, handler_id: int, reason: str) -> None:
        """For every forwarder, and told to people, once. Raises DatabaseUnavailable."""
        worker = self._workers.get(handler_id)
        with self._database.transaction() as session:
            forward = forwards.of_handler(session, handler_id)
            if forward is not None and forwards.pause(session, handler_id, "forwarder", reason):
                name = worker.forward.name if worker else str(handler_id)
                alerts.raise_transition(
                    session,
                    ForwardPaused(
                        handler_id=handler_id, name=name, place=forward.place, reason=reason
                    ),
                )
        if worker is not None:
            worker.stop()

    def alert_given_up(self, handler_id: int, reason: str) -> None:
        """People are told of dead letters, once a day a handler. Raises DatabaseUnavailable."""
        worker = self._workers.get(handler_id)
        with self._database.transaction() as session:
            forward = forwards.of_handler(session, handler_id)
            if forward is not None:
                alert = ForwardGaveUp(
                    handler_id=handler_id,
                    name=worker.forward.name if worker else str(handler_id),
                    place=forward.place,
                    reason=reason,
                    day=f"{utc_now():%Y-%m-%d}",
                )
                alerts.raise_transition(session, alert)


def _is_ordered(forward: SealedForward) -> bool:
    return forward.options.order is ForwardOrder.CONNECTION
