"""Work at mail servers on behalf of somebody who waits: few threads, and an end to every wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextvars import copy_context
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from services.admin import work_progress
from services.admin.work_progress import Watch
from shared.errors import PosthouseError, TryAgain
from shared.mailbox.interrupting import Interruption, interruptible

T = TypeVar("T")
#: Nobody waits longer for a mail server, in seconds.
TIMEOUT_S: Final = 20.0
#: Requests that wait for a mail server at the same time, apart from all others.
_WAITING: Final = 32
_NOBODY: Final = "Nobody waited for the mail server any more."


class MailServerSlow(TryAgain):
    """The mail server did not answer while somebody waited for it."""

    code = "mail-server-slow"


class GivenUp(TryAgain):
    """Who waited has gone: what was found must not lead to anything."""

    code = "given-up"


class MailServerWork:
    """Runs calls to mail servers in `threads` threads of its own, so that a server that hangs can
    take no thread away from pages and API. A call that nobody waits for any more is interrupted:
    its sessions end."""

    def __init__(self, threads: int = 16, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._free = threading.BoundedSemaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mail-work")

    def run(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """The result of `work`, or whatever it raises; MailServerSlow after `seconds`."""
        wait = self.timeout_s if seconds is None else seconds
        if not self._free.acquire(timeout=wait / 4):
            raise TryAgain(
                "Too many mail servers are being tested at the moment.",
                hint="Try again in a minute.",
                code="busy",
                retry_after=30,
            )
        waiting = work_progress.current() or Watch()
        interruption = Interruption()

        def interrupted() -> T:
            with interruptible(interruption):
                return work()

        future: Future[T] = self._pool.submit(copy_context().run, interrupted)
        future.add_done_callback(lambda _: self._free.release())
        waiting.begin(interruption)
        try:
            result = future.result(timeout=wait)
        except FutureTimeout:
            if future.done():  # the work itself raised a TimeoutError
                raise
            interruption.interrupt()
            raise MailServerSlow(
                f"The mail server did not answer within {wait:g} seconds.",
                hint="It may be overloaded, or a firewall swallows what it is sent. Try again.",
            ) from None
        except PosthouseError as error:
            if waiting.given_up:
                raise GivenUp(_NOBODY) from error
            raise
        finally:
            waiting.end(interruption)
        if waiting.given_up:
            raise GivenUp(_NOBODY)
        return result

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def run_in_mail_threads(request: Request, work: Callable[[], T]) -> T:
    """Runs what may wait for a mail server, so that the other routes keep their threads."""
    limiter: CapacityLimiter | None = getattr(request.app.state, "waiting", None)
    if limiter is None:
        limiter = request.app.state.waiting = CapacityLimiter(_WAITING)
    return await to_thread.run_sync(work, limiter=limiter)
