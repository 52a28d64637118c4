"""Work at mail servers on behalf of somebody who waits: few threads, and an end to every wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final, TypeVar

from shared.errors import TryAgain

T = TypeVar("T")
#: Nobody waits longer for a mail server, in seconds.
PATIENCE: Final = 20.0


class MailServerSlow(TryAgain):
    """The mail server did not answer while somebody waited for it."""

    code = "mail-server-slow"


class MailWork:
    """Runs calls to mail servers in `threads` threads of its own, so that a server that hangs can
    take no thread away from pages and API. A call that nobody waits for any more ends by its own
    timeouts."""

    def __init__(self, threads: int = 16, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._free = threading.BoundedSemaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mail-work")

    def run(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """The result of `work`, or whatever it raises; MailServerSlow after `seconds`."""
        wait = self.patience if seconds is None else seconds
        if not self._free.acquire(timeout=wait / 4):
            raise TryAgain(
                "Too many mail servers are being tested at the moment.",
                hint="Try again in a minute.",
                code="busy",
                retry_after=30,
            )
        future: Future[T] = self._pool.submit(work)
        future.add_done_callback(lambda _: self._free.release())
        try:
            return future.result(timeout=wait)
        except FutureTimeout:
            if future.done():  # the work itself raised a TimeoutError
                raise
            raise MailServerSlow(
                f"The mail server did not answer within {wait:g} seconds.",
                hint="It may be overloaded, or a firewall swallows what it is sent. Try again.",
            ) from None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
