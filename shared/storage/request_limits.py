"""How many requests a mailbox gets, at once and by the minute, over all processes
(`shared.mailbox.net.request_limits`).

A process keeps the permits that it has at a mailbox and the requests that it took for it, so a
request costs no statement as long as nobody else wants a permit there. Once a second it looks who
does: from then on it gives each permit back after its request, and whoever waits longest is served.

Source: "Microsoft Graph service-specific throttling limits" (learn.microsoft.com/graph), Outlook
service limits, for each application and mailbox, and global limits, for each application.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from shared.errors import PosthouseError
from shared.storage.held_request_permits import HeldPermits
from shared.storage.pool import Database
from shared.storage.request_budgets import RequestBudgets, RequestLimit

_log = structlog.get_logger(__name__)

OF_MAILBOX: Final = RequestLimit(10_000, 600.0, in_advance=4000, at_a_time=50, processes=10)
OF_APPLICATION: Final = RequestLimit(130_000, 10.0, in_advance=10_000, at_a_time=200, processes=100)
#: Seconds between two looks after the permits that are held.
_TICK: Final = 1.0


class PostgresLimiter:
    """`at_once` permits a mailbox; thread-safe. `run` has a thread of its own."""

    def __init__(
        self,
        database: Database,
        at_once: int = 3,
        *,
        of_mailbox: RequestLimit = OF_MAILBOX,
        of_application: RequestLimit = OF_APPLICATION,
    ) -> None:
        self._permits = HeldPermits(database, at_once)
        self._of_mailbox = RequestBudgets(database, of_mailbox)
        self._of_application = RequestBudgets(database, of_application)

    @contextmanager
    def permits(
        self, mailbox: str, *, within: float, application: str = "", requests: int = 1
    ) -> Iterator[None]:
        """Counts `requests` at the mailbox and for the application, and holds a permit for each of
        them, or all permits. Raises NoPermit or NoRequestsLeft after `within` seconds."""
        key = mailbox.lower()
        deadline = time.monotonic() + within
        self._of_mailbox.spend(f"mailbox {key}", requests, within)
        if application:
            left = deadline - time.monotonic()
            self._of_application.spend(f"application {application}", requests, left)
        with self._permits.use(key, requests, deadline):
            yield

    def pause(self, mailbox: str, seconds: float) -> None:
        """Nobody gets a permit before `seconds` have passed."""
        self._permits.pause(mailbox.lower(), seconds)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`: says that this process lives, and gives back what others wait for."""
        while not stop.wait(_TICK):
            try:
                self._permits.look_after()
            except PosthouseError as error:
                _log.warning("permits at mailboxes not maintained", error=str(error))
        try:
            self._permits.release_all()
        except PosthouseError as error:
            _log.warning("permits of an ended process not given back", error=str(error))
