"""How many requests one mailbox gets, and when it wants to be left alone.

Graph serves four requests of an application at a mailbox at a time and answers 429 beyond
(MailboxConcurrency, "Microsoft Graph service-specific throttling limits"): three leave room for
what else the tenant runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from shared.errors import TryAgain

AT_ONCE: Final = 3


class MailboxBusy(TryAgain):
    """No permit at the mailbox became free in time, or its server asked for a longer pause."""

    code = "mailbox-busy"


class RequestLimiter(Protocol):
    """Shared by all who talk to a mailbox (`shared.storage.request_limits` over all replicas)."""

    def permits(
        self, mailbox: str, *, within: float, application: str = "", requests: int = 1
    ) -> AbstractContextManager[None]:
        """Holds a permit of the mailbox for each of `requests`, or all permits, and counts them as
        the application's. Raises TryAgain (`mailbox-busy`) after `within` seconds."""
        ...

    def pause(self, mailbox: str, seconds: float) -> None:
        """Nobody gets a permit before `seconds` have passed: what Retry-After asked for."""
        ...


class ProcessLimiter:
    """The permits of this process alone, for tools that run without Postgres. They make too few
    requests for any other limit."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._changed = threading.Condition()
        self._held: dict[str, int] = {}
        self._gathering: set[str] = set()
        self._paused: dict[str, float] = {}

    @contextmanager
    def permits(
        self, mailbox: str, *, within: float, application: str = "", requests: int = 1
    ) -> Iterator[None]:
        deadline = time.monotonic() + within
        wanted, held = min(requests, self._at_once), 0
        # One at a time gathers several permits: two would wait for each other's.
        gathering = False
        try:
            with self._changed:
                if wanted > 1:
                    self._wait(mailbox, deadline, lambda: mailbox not in self._gathering)
                    self._gathering.add(mailbox)
                    gathering = True
                while held < wanted:
                    self._wait(
                        mailbox, deadline, lambda: self._held.get(mailbox, 0) < self._at_once
                    )
                    self._held[mailbox] = self._held.get(mailbox, 0) + 1
                    held += 1
                if gathering:
                    self._gathering.discard(mailbox)
                    gathering = False
                    self._changed.notify_all()
            yield
        finally:
            with self._changed:
                if gathering:
                    self._gathering.discard(mailbox)
                if held:
                    self._held[mailbox] -= held
                    if not self._held[mailbox]:
                        del self._held[mailbox]
                self._changed.notify_all()

    def _wait(self, mailbox: str, deadline: float, free: Callable[[], bool]) -> None:
        """Until `free`, and the mailbox is not left alone. Raises MailboxBusy at `deadline`."""
        while True:
            now = time.monotonic()
            pause = self._paused.get(mailbox, 0.0) - now
            if pause <= 0 and free():
                return
            if now >= deadline or now + pause > deadline:
                raise busy(mailbox, pause)
            self._changed.wait(min(deadline - now, pause) if pause > 0 else deadline - now)

    def pause(self, mailbox: str, seconds: float) -> None:
        with self._changed:
            until = time.monotonic() + seconds
            self._paused[mailbox] = max(until, self._paused.get(mailbox, 0.0))


def busy(mailbox: str, pause: float) -> MailboxBusy:
    """The error to raise when no permit was granted."""
    if pause > 0:
        return MailboxBusy(
            f"Graph wants the mailbox {mailbox} left alone for {pause:.0f} s.", retry_after=pause
        )
    return MailboxBusy(
        f"Others make as many requests as the mailbox {mailbox} takes at a time.", retry_after=5
    )
