"""Consuming a handler's queue: every mail at least once, acknowledged when it was handled.

    from posthouse import Consumer, Reject, Retry

    def handle(event):
        ...                      # returning acknowledges; raising tries again later

    # or: async def handle(event): ...

    Consumer("redis://localhost:6379/0", "tickets").run(handle)

The same consumer works on Redis and on RabbitMQ. It never creates a queue: it waits until
Posthouse has, also after the broker was restarted or lost everything.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator, MutableSet, Sequence
from contextlib import contextmanager

from posthouse.callbacks import Callback, Caller
from posthouse.consumer_loop import Loop, Options
from posthouse.ordering import OrderKey
from posthouse.outcome import Outcome
from posthouse.signing import MAX_AGE_S, Verifier
from posthouse.source import Source
from posthouse.source_opening import open_source
from posthouse.token_check import check_token

_log = logging.getLogger("posthouse")


class Consumer:
    """Takes events of one handler's queue and calls back for each.

    `url`: see `posthouse.broker_address`. `concurrency`: callbacks at a time, each in a
    thread; `prefetch`: events that wait here beside them. An event whose callback raises (anything
    but `Retry` and `Reject`) comes again after `retry_delay_s` seconds, doubled with every attempt
    up to 15 minutes; after `max_deliveries` it goes to the dead letters. `stale_after_s` (Redis):
    an event held by a consumer that showed no sign of life for so long is taken over; callbacks
    may take as long as they like, or `timeout_s` seconds: then a coroutine is cancelled, a function
    is interrupted by `TimedOut` (at its next instruction, not in a call that waits without end),
    and that is a failure. When the consumer stops, callbacks get `stop_timeout_s` to end in; `run`
    returns then whatever they do, and their threads do not hold the process.

    `on_outcome` is called after every call of the callback, in the thread of `run`, with an
    `Outcome`: for metrics and reports of errors. What it raises is logged.

    `order_by`, such as `lambda event: event.connection.id`: of the events for which it gives the
    same, one at a time is handled, in the order of the queue; one that comes again later holds up
    those behind it, up to `prefetch` of which wait here. That is the order within one consumer:
    over several processes there is none, nor across a retry of more than ten minutes on RabbitMQ.

    A repeat that the broker makes of an event this process has handled (its acknowledgement was
    lost) is not handled again. For repeats over processes give `seen`, a set that lasts: an event
    whose `idempotency_key` is in it is acknowledged unhandled. What is delivered again on purpose
    has another key and is handled.

    Every event has to be signed with `signing_key` (one or several; default: the environment's
    POSTHOUSE_SIGNING_KEY) not longer than `max_age_s` ago; what is not goes to the dead letters
    with the reason, and no callback sees it. `verify=False` takes whatever is in the queue. Raises
    ValueError without a key.
    """

    def __init__(
        self,
        url: str,
        handler: str,
        *,
        concurrency: int = 1,
        prefetch: int = 16,
        max_deliveries: int = 10,
        retry_delay_s: float = 5.0,
        stale_after_s: float = 60.0,
        stop_timeout_s: float = 30.0,
        seen: MutableSet[str] | None = None,
        signing_key: str | Sequence[str] | None = None,
        verify: bool = True,
        max_age_s: float = MAX_AGE_S,
        timeout_s: float | None = None,
        on_outcome: Callable[[Outcome], object] | None = None,
        order_by: OrderKey | None = None,
        posthouse_url: str | None = None,
        handler_token: str | None = None,
        source: Source | None = None,
    ) -> None:
        self._handler = handler
        self._source = source or open_source(
            url, handler, prefetch=concurrency + prefetch, stale_after_s=stale_after_s
        )
        self._has_posthouse = source is None  # a source in memory has none to ask
        self._token, self._posthouse_url = handler_token, posthouse_url
        self._verifier = Verifier(handler, signing_key, max_age_s=max_age_s) if verify else None
        self._options = Options(
            concurrency=concurrency,
            prefetch=prefetch,
            max_deliveries=max_deliveries,
            retry_delay_s=retry_delay_s,
            stale_after_s=stale_after_s,
            stop_timeout_s=stop_timeout_s,
            timeout_s=timeout_s,
            seen=seen,
            on_outcome=on_outcome,
            order_by=order_by,
        )
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ends `run` soon: running callbacks finish, the rest goes back. From any thread."""
        self._stop.set()

    def run(self, callback: Callback, *, stop: threading.Event | None = None) -> None:
        """Calls back for every event until `stop` (the event or the method), SIGTERM or SIGINT.

        `callback` is a function or a coroutine function (`async def`). Coroutines, up to
        `concurrency` at a time, run on one event loop that lives until `run` returns; it is not
        the loop that `run` may have been called from. Raises TypeError at once for what cannot
        handle an event: a generator, or a function with other arguments.

        Does not end because the broker is away or the queue is missing: it waits. Raises
        AccessRefused where the user, the password or the rights are not enough, and at the start
        where `handler_token` (default: POSTHOUSE_HANDLER_TOKEN) is not that of this handler.
        """
        self._stop = stop or self._stop
        with _signals(self._stop.set):
            self._consume(Caller(callback, timeout_s=self._options.timeout_s))

    async def run_async(self, callback: Callback) -> None:
        """As `run`, from a program with an event loop: coroutines run on that loop, beside its
        other tasks and with their clients and pools; functions run in threads.

        Ends after `stop`, or when its task is cancelled, in order: running callbacks finish.
        """
        loop = asyncio.get_running_loop()
        caller = Caller(callback, timeout_s=self._options.timeout_s, loop=loop)
        ended: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if ended.cancelled():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)

        def consume() -> None:
            failure: BaseException | None = None
            try:
                self._consume(caller)
            except BaseException as error:  # raised where it is awaited
                failure = error
            loop.call_soon_threadsafe(settle, failure)

        threading.Thread(target=consume, name="posthouse-consumer", daemon=True).start()
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            self.stop()
            await ended
            raise

    def _consume(self, caller: Caller) -> None:
        try:
            if self._has_posthouse:
                check_token(self._handler, token=self._token, posthouse_url=self._posthouse_url)
            _log.info("waiting for the events of %s", self._handler)
            Loop(self._source, self._options, self._verifier, caller, self._stop).run()
        finally:
            caller.close()
            self._source.close()


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT stop the consumer, where it runs in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, lambda *_: stop()) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
