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

import heapq
import logging
import queue
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, MutableSet, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple, TypeVar

from posthouse.callbacks import Callback, Caller
from posthouse.event import InvalidEvent, MailEvent
from posthouse.signing import MAX_AGE_S, Unverified, Verifier
from posthouse.source import Held, Source, SourceLost, open_source

_log = logging.getLogger("posthouse")
_T = TypeVar("_T")

#: Seconds that an idle consumer waits at the broker before it looks whether it shall stop.
_IDLE_WAIT_S = 1.0
#: Seconds between looks at the broker while callbacks are running.
_BUSY_WAIT_S = 0.05
#: How the reason of a dead letter begins that nobody rejected: it was given too often.
GIVEN_UP = ("gave up after", "not handled in")
#: How many handled events are remembered, to know a repeat of the broker.
_REMEMBERED = 10_000


class Retry(Exception):
    """Raise it in a callback: not now, again in `delay_s` seconds. No failure: it does not count
    against `max_deliveries` unless `counts`.

    On RabbitMQ at most 15 minutes, as the broker takes back what is held for longer than 30.
    Before its version 4.3 it counts one delivery for every ten minutes or more that an event
    waits, and one for each consumer that stops meanwhile; it gives up after 20.
    """

    def __init__(self, delay_s: float = 30.0, reason: str = "", *, counts: bool = False) -> None:
        super().__init__(reason or f"again in {delay_s:g} s")
        self.delay_s = delay_s
        self.counts = counts


class _PutOff(NamedTuple):
    """An event that comes again at `due` (time.monotonic)."""

    due: float
    number: int
    held: Held
    event_id: str
    counts: bool


class Reject(Exception):
    """Raise it in a callback: this event never; it goes to the dead letters with the reason."""


class Consumer:
    """Takes events of one handler's queue and calls back for each.

    `url`: `redis:// rediss:// amqp:// amqps://`. `concurrency`: callbacks at a time, each in a
    thread; `prefetch`: events that wait here beside them. An event whose callback raises (anything
    but `Retry` and `Reject`) comes again after `retry_delay_s` seconds, doubled with every attempt
    up to 15 minutes; after `max_deliveries` it goes to the dead letters. `stale_after_s` (Redis):
    an event held by a consumer that showed no sign of life for so long is taken over; callbacks
    may take as long as they like.

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
        source: Source | None = None,
    ) -> None:
        self._source = source or open_source(
            url, handler, prefetch=concurrency + prefetch, stale_after_s=stale_after_s
        )
        self._verifier = Verifier(handler, signing_key, max_age_s=max_age_s) if verify else None
        self._concurrency = concurrency
        self._most = concurrency + prefetch
        self._max_deliveries = max_deliveries
        self._retry_delay_s = retry_delay_s
        self._keep_every_s = stale_after_s / 4
        self._stop_timeout_s = stop_timeout_s
        self._seen = seen
        self._handled: OrderedDict[str, str] = OrderedDict()  # id: signature
        self._stop = threading.Event()
        self._outcomes: queue.SimpleQueue[tuple[Held, MailEvent, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._waiting: deque[Held] = deque()
        self._running: dict[Any, Held] = {}
        self._in_hand: set[str] = set()  # ids of the events that callbacks have
        self._parked: dict[str, list[Held]] = {}  # given again by the broker meanwhile
        self._delayed: list[_PutOff] = []
        #: Deliveries that the broker counted and that were none, by event; and what its count was
        #: when the event was last given back without a failure.
        self._uncounted: OrderedDict[str, int] = OrderedDict()
        self._given_back: OrderedDict[str, int] = OrderedDict()
        self._numbers = count()
        self._kept_at = time.monotonic()
        self._away = False

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
        AccessRefused where the user, the password or the rights are not enough.
        """
        caller = Caller(callback)
        self._stop = stop or self._stop
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="posthouse-handler")
        with _signals(self._stop.set):
            try:
                while not self._stop.is_set():
                    try:
                        self._turn(pool, caller)
                    except SourceLost as lost:
                        self._lost(lost)
                self._wind_down()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                caller.close()
                self._source.close()

    def _turn(self, pool: ThreadPoolExecutor, caller: Caller) -> None:
        busy = bool(self._running)
        self._settle(_BUSY_WAIT_S if busy else 0.0)
        self._wake_delayed()
        self._keep()
        room = max(0, self._most - len(self._waiting) - len(self._running) - len(self._parked))
        wait = 0.0 if self._running or self._waiting else self._idle_wait()
        self._waiting.extend(self._source.receive(room, wait))
        if self._away:
            self._away = False
            _log.info("the queue is there again")
        while self._waiting and len(self._running) < self._concurrency:
            self._dispatch(self._waiting.popleft(), pool, caller)

    def _dispatch(self, held: Held, pool: ThreadPoolExecutor, caller: Caller) -> None:
        try:
            if self._verifier is not None:
                self._verifier.check(held.body, held.signature)
            event = MailEvent.from_json(held.body)
        except Unverified as error:
            _log.error("an event is put aside unhandled: %s", error)
            self._source.bury(held, f"not verified: {error}")
            return
        except InvalidEvent as error:
            self._source.bury(held, f"not a mail event: {error}")
            return
        # Published again on purpose, it has another signature; the very same one is a repeat.
        before = self._handled.get(event.id)
        same = bool(held.signature) and before == held.signature
        repeated = before is not None and (held.attempt > 1 or same)
        if repeated or (self._seen is not None and event.idempotency_key in self._seen):
            self._source.acknowledge([held])
            return
        held = replace(held, attempt=max(1, held.attempt - self._forgiven(event.id, held.attempt)))
        if held.attempt > self._max_deliveries:
            self._source.bury(held, f"not handled in {self._max_deliveries} deliveries")
            return
        if event.id in self._in_hand:
            self._parked.setdefault(event.id, []).append(held)
            return
        self._handled.pop(event.id, None)  # this delivery counts for itself
        self._in_hand.add(event.id)
        self._running[held.token] = held

        def work() -> None:
            failure: BaseException | None = None
            try:
                caller(event)
            except BaseException as error:
                failure = error
            self._outcomes.put((held, event, failure))

        pool.submit(work)

    def _settle(self, wait_s: float) -> None:
        """Acknowledges, buries or puts off what callbacks are done with."""
        done: list[Held] = []
        while True:
            try:
                held, event, failure = self._outcomes.get(timeout=wait_s) if wait_s else (
                    self._outcomes.get_nowait()
                )  # fmt: skip
            except queue.Empty:
                break
            wait_s = 0.0
            self._running.pop(held.token, None)
            self._in_hand.discard(event.id)
            self._waiting.extend(self._parked.pop(event.id, ()))
            if failure is None:
                self._remember(event, held.signature)
                done.append(held)
            else:
                self._failed(held, event.id, failure)
        if done:
            self._source.acknowledge(done)

    def _failed(self, held: Held, event_id: str, failure: BaseException) -> None:
        if isinstance(failure, Reject):
            _log.warning("event %s rejected: %s", event_id, failure)
            self._source.bury(held, str(failure) or "rejected")
            return
        counts = not isinstance(failure, Retry) or failure.counts
        if counts and held.attempt >= self._max_deliveries:
            _log.error("event %s given up", event_id, exc_info=failure)
            reason = f"{type(failure).__name__}: {failure}"
            self._source.bury(held, f"gave up after {held.attempt} deliveries: {reason[:500]}")
            return
        if isinstance(failure, Retry):
            delay = failure.delay_s
            _log.info("event %s put off for %g s: %s", event_id, delay, failure)
        else:
            delay = min(self._retry_delay_s * 2 ** (held.attempt - 1), 900.0)
            _log.error("event %s failed, again in %g s", event_id, delay, exc_info=failure)
        due = time.monotonic() + min(delay, self._source.longest_delay_s)
        if counts or self._source.keeps_held:
            held = replace(held, body=b"")  # it may wait for days: not with its bytes
        heapq.heappush(self._delayed, _PutOff(due, next(self._numbers), held, event_id, counts))

    def _wake_delayed(self) -> None:
        while self._delayed and self._delayed[0].due <= time.monotonic():
            if len(self._waiting) >= self._most:
                return
            put_off = heapq.heappop(self._delayed)
            again = self._source.again(put_off.held, counts=put_off.counts)
            if again is not None:
                self._waiting.append(again)
            elif not put_off.counts:
                counted = put_off.held.attempt + self._uncounted.get(put_off.event_id, 0)
                _remember(self._given_back, put_off.event_id, counted)

    def _forgiven(self, event_id: str, counted: int) -> int:
        """How many of the `counted` deliveries were none. Not every broker counts what is given
        back."""
        before = self._given_back.pop(event_id, None)
        if before is not None and counted > before:
            _remember(self._uncounted, event_id, self._uncounted.pop(event_id, 0) + 1)
        return self._uncounted.get(event_id, 0)

    def _keep(self) -> None:
        """Tells the broker that what is held is alive, so that nobody takes it over."""
        if time.monotonic() - self._kept_at < self._keep_every_s:
            return
        self._kept_at = time.monotonic()
        self._source.keep([*self._running.values(), *self._not_begun()])

    def _not_begun(self) -> list[Held]:
        parked = (held for repeats in self._parked.values() for held in repeats)
        # Whose attempt failed has it behind it; the others' is still to come.
        put_off = (
            replace(one.held, attempt=one.held.attempt + one.counts) for one in self._delayed
        )
        return [*self._waiting, *parked, *put_off]

    def _idle_wait(self) -> float:
        if not self._delayed:
            return _IDLE_WAIT_S
        return max(0.0, min(_IDLE_WAIT_S, self._delayed[0].due - time.monotonic()))

    def _remember(self, event: MailEvent, signature: str) -> None:
        if self._seen is not None:
            self._seen.add(event.idempotency_key)
        self._uncounted.pop(event.id, None)
        _remember(self._handled, event.id, signature)

    def _lost(self, lost: SourceLost) -> None:
        """The broker or the queue is away: what waits here will be given out again."""
        if not self._away:
            _log.warning("waiting for the queue: %s", lost)
        self._away = True
        if not self._source.keeps_held:
            self._waiting.clear()
            self._delayed.clear()
            self._parked.clear()
        self._stop.wait(lost.pause_s)

    def _wind_down(self) -> None:
        deadline = time.monotonic() + self._stop_timeout_s
        try:
            while self._running and time.monotonic() < deadline:
                self._settle(_BUSY_WAIT_S)
                self._keep()
                self._source.receive(0, 0.0)
            self._settle(0.0)
            self._source.give_back(self._not_begun())
        except SourceLost as lost:
            _log.warning("stopped without the broker, which will deliver again: %s", lost)
        if self._running:
            _log.warning("%d callbacks did not end in time", len(self._running))


def _remember(known: OrderedDict[str, _T], event_id: str, value: _T) -> None:
    known[event_id] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


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
