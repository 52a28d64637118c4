"""Keeps the leases of a fetcher alive while it works, and gives them back."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from shared.errors import PosthouseError
from shared.storage import leases
from shared.storage.leases import Lease
from shared.storage.pool import Database, Session

_log = structlog.get_logger(__name__)


class LeaseRenewer:
    """Renews what this process holds every third of its time to live. Thread-safe."""

    def __init__(self, database: Database, owner: str, ttl: float) -> None:
        self._database = database
        self.owner = owner
        self.ttl = ttl
        self._lock = threading.Lock()
        self._held: set[Lease] = set()

    def hold(self, taken: Sequence[Lease]) -> None:
        """Renews leases that were taken for this owner, for `ttl` seconds."""
        with self._lock:
            self._held.update(taken)

    def release(self, session: Session, given_back: Sequence[Lease]) -> set[Lease]:
        """Gives them back; returns those that were still held. Of a run without its lease nothing
        is to be recorded: its connection was edited, or another run goes on from there."""
        self.forget(given_back)
        return leases.release(session, given_back)

    def forget(self, given_back: Sequence[Lease]) -> None:
        """Stops renewing: for leases that are lost, or whose release could not be said."""
        with self._lock:
            self._held.difference_update(given_back)

    def run(self, stop: threading.Event) -> None:
        """Renews until `stop` is set, which is to be after the last run has ended."""
        while not stop.wait(self.ttl / 3):
            with self._lock:
                held = list(self._held)
            if not held:
                continue
            try:
                with self._database.transaction() as session:
                    still = leases.renew(session, held, self.ttl)
            except PosthouseError as error:
                _log.warning("leases not renewed", leases=len(held), error=str(error))
                continue
            except Exception:  # without this thread every run would lose its mailbox
                _log.exception("leases not renewed", leases=len(held))
                continue
            with self._lock:  # others were given back meanwhile
                lost = [lease for lease in held if lease not in still and lease in self._held]
                self._held.difference_update(lost)
            if lost:
                _log.warning("leases lost", lease_keys=[lease.mailbox for lease in lost])
