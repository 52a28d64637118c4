"""How long servers may keep one piece of work waiting, over all that they answer.

    with bounded(WaitBudget(300.0)):
        mailbox = open_mailbox(…)
        …

Each wait and each answer has a bound of its own; a server that keeps to all of them, an octet now
and then or every answer just in time, would hold whoever asks for hours. So the waits of a piece of
work are paid from one budget, whatever sessions, answers and threads they are spread over. What a
server sends fills it up again: a line that is slow, or a mail that is huge, is never cut.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import inf
from typing import Final

from shared.context_values import ContextValue
from shared.mailbox.failures import SessionLost

#: Octets that earn a second: whoever sends as many in each second may go on for ever.
SLOWEST: Final = 4096


class WaitBudget:
    """Seconds that may be waited for servers; those that several threads wait at once count once.

    `octets_a_second`: so many octets received earn a second (0: they earn nothing). `request_s`:
    what each request earns, as a line may be long: nobody but us makes requests.
    """

    def __init__(
        self, seconds: float, *, octets_a_second: int = SLOWEST, request_s: float = 0.0
    ) -> None:
        self.seconds = seconds
        #: Seconds for the next octet of an answer, where that is less than usual.
        self.longest_wait_s = inf
        self._octets_a_second = octets_a_second
        self._request_s = request_s
        self._mutex = threading.Lock()
        self._left = seconds
        self._waiting = 0
        self._since = 0.0

    @property
    def left(self) -> float:
        """Seconds; zero or less once it is spent."""
        with self._mutex:
            return self._left - (time.monotonic() - self._since if self._waiting else 0.0)

    def requested(self) -> None:
        """A request goes out."""
        if self._request_s:
            with self._mutex:
                self._left += self._request_s

    def begin(self) -> None:
        """A thread waits for a server from now on."""
        with self._mutex:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting += 1

    def end(self, octets: int) -> None:
        """It waits no longer; so many octets came."""
        with self._mutex:
            self._waiting -= 1
            if not self._waiting:
                self._left -= time.monotonic() - self._since
            if self._octets_a_second:
                self._left += octets / self._octets_a_second

    @contextmanager
    def hurried(self, seconds: float | None) -> Iterator[None]:
        """Waits inside for an octet take no longer than so many seconds (None: as usual)."""
        self.longest_wait_s = inf if seconds is None else seconds
        try:
            yield
        finally:
            self.longest_wait_s = inf

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens inside waits for a server."""
        self.begin()
        try:
            yield
        finally:
            self.end(0)


class ServerTooSlow(SessionLost):
    """A server kept a piece of work waiting until its budget was spent.

    `about_server`: not one answer alone took most of it, so that no single mail is the cause.
    """

    code = "too-slow"

    def __init__(
        self, seconds: float, *, about_server: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(
            f"The server is too slow: {seconds:g} seconds were waited for it, beyond what a slow "
            "line takes for what it sent.",
            hint="Each answer came just in time, or an octet now and then, and all of them "
            "together took too long. What was fetched before is safe, and the rest is tried again "
            "by itself. If it stays: the server is overloaded, or holds connections up on purpose; "
            "the protocol log shows what it answered. POSTHOUSE_READ_TIMEOUT_SECONDS gives all "
            "servers longer.",
            retry_after=retry_after,
            throttled=about_server,
        )


_CURRENT: Final = ContextValue[WaitBudget]("wait budget")


def current() -> WaitBudget | None:
    """The budget of the work that this thread does; None where nobody bounds it."""
    return _CURRENT.get()


def hurried(seconds: float | None) -> AbstractContextManager[None]:
    """As `WaitBudget.hurried`, of the work that this thread does."""
    work = _CURRENT.get()
    return nullcontext() if work is None else work.hurried(seconds)


def bounded(budget: WaitBudget) -> AbstractContextManager[WaitBudget]:
    """What waits for a server inside the block pays for it; raises ServerTooSlow once spent."""
    return _CURRENT.bound(budget)
