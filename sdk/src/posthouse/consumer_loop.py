"""The loop of a consumer: takes events, calls back, settles. One thread, that of `run`."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, MutableSet
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from posthouse.callbacks import Caller
from posthouse.delayed import Delayed, remember
from posthouse.event import InvalidEvent, MailEvent
from posthouse.ordering import Order, OrderKey
from posthouse.outcome import Outcome, Reject, Retry
from posthouse.signing import Unverified, Verifier
from posthouse.source import Held, Source, SourceLost
from posthouse.workers import TimeLimit, Workers

_log = logging.getLogger("posthouse")

#: Seconds that an idle consumer waits at the broker before it looks whether it shall stop.
_IDLE_WAIT_S = 1.0
#: Seconds between looks at the broker while callbacks are running.
_BUSY_WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a `Consumer`; see there."""

    concurrency: int
    prefetch: int
    max_deliveries: int
    retry_delay_s: float
    stale_after_s: float
    stop_timeout_s: float
    timeout_s: float | None
    seen: MutableSet[str] | None
    on_outcome: Callable[[Outcome], object] | None
    order_by: OrderKey | None

    @property
    def most(self) -> int:
        """Events that may be here at a time."""
        return self.concurrency + self.prefetch


class _Call(NamedTuple):
    """A callback that runs."""

    held: Held
    event: MailEvent
    limit: TimeLimit


class _Burial(NamedTuple):
    """A call that ended for good: the event is to be a dead letter, for this reason."""

    call: _Call
    reason: str
    outcome: Outcome


class Loop:
    """Runs until `stop`; every method but `run` is its own."""

    def __init__(
        self,
        source: Source,
        options: Options,
        verifier: Verifier | None,
        caller: Caller,
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._options = options
        self._verifier = verifier
        self._caller = caller
        self._stop = stop
        self._workers = Workers(options.concurrency)
        self._order = Order(options.order_by)
        self._delayed = Delayed(source)
        self._handled: OrderedDict[str, str] = OrderedDict()  # id: signature
        self._outcomes: queue.SimpleQueue[tuple[_Call, BaseException | None]] = queue.SimpleQueue()
        self._waiting: deque[Held] = deque()
        self._ready: deque[tuple[Held, str]] = deque()  # with its id: it waited for its turn
        self._running: dict[Any, _Call] = {}
        #: Handled, and failed for good: until the broker has taken that. Of many failures the
        #: oldest are left to come again.
        self._done: list[Held] = []
        self._burials: deque[_Burial] = deque(maxlen=options.most)
        self._bury_at = 0.0
        self._in_hand: set[str] = set()  # ids of the events that callbacks have
        self._parked: dict[str, list[Held]] = {}  # given again by the broker meanwhile
        self._kept_at = time.monotonic()
        self._away = False

    def run(self) -> None:
        """Until `stop` is set, and what runs then has ended or had its time. Raises
        AccessRefused."""
        try:
            while not self._stop.is_set():
                try:
                    self._turn()
                except SourceLost as lost:
                    self._lost(lost)
            self._wind_down()
        finally:
            self._workers.close()

    def _turn(self) -> None:
        self._settle(_BUSY_WAIT_S if self._running else 0.0)
        self._expire()
        self._wake_delayed()
        self._keep()
        wait = 0.0 if self._running or self._waiting or self._ready else self._idle_wait()
        self._waiting.extend(self._source.receive(self._room(), wait))
        if self._away:
            self._away = False
            _log.info("the queue is there again")
        while (self._ready or self._waiting) and len(self._running) < self._options.concurrency:
            held, event_id = self._ready.popleft() if self._ready else (self._waiting.popleft(), "")
            event = self._read(held)
            if event is not None:
                self._dispatch(held, event)
            else:
                self._leave(event_id)

    def _room(self) -> int:
        """How many events to ask for: none while many wait here, as each question has its price
        however few it brings."""
        here = len(self._waiting) + len(self._ready) + len(self._running) + len(self._parked)
        room = max(0, self._options.most - here - len(self._order))
        return 0 if self._waiting and 2 * room < self._options.prefetch else room

    def _read(self, held: Held) -> MailEvent | None:
        """The event, where it is one, is signed, and was not handled before."""
        try:
            if self._verifier is not None:
                self._verifier.check(held.body, held.signature)
            event = MailEvent.from_json(held.body)
        except Unverified as error:
            _log.error("an event goes to the dead letters unhandled: %s", error)
            self._source.dead_letter(held, f"not verified: {error}")
            return None
        except InvalidEvent as error:
            self._source.dead_letter(held, f"not a mail event: {error}")
            return None
        # Published again on purpose, it has another signature; the very same one is a repeat.
        before = self._handled.get(event.id)
        same = bool(held.signature) and before == held.signature
        repeated = before is not None and (held.attempt > 1 or same)
        if repeated or (
            self._options.seen is not None and event.idempotency_key in self._options.seen
        ):
            self._leave(event.id)
            self._source.acknowledge([held])
            return None
        return event

    def _dispatch(self, held: Held, event: MailEvent) -> None:
        forgiven = self._delayed.forgiven(event.id, held.attempt)
        held = replace(held, attempt=max(1, held.attempt - forgiven))
        if held.attempt > self._options.max_deliveries:
            self._leave(event.id)
            self._source.dead_letter(
                held, f"not handled in {self._options.max_deliveries} deliveries"
            )
        elif event.id in self._in_hand:
            self._parked.setdefault(event.id, []).append(held)
        else:
            try:
                its_turn = self._order.admit(held, event)
            except Exception as error:  # of the author's function
                self._failed(_Call(held, event, TimeLimit(None)), error)
            else:
                if its_turn:
                    self._call(held, event)

    def _call(self, held: Held, event: MailEvent) -> None:
        self._handled.pop(event.id, None)  # this delivery counts for itself
        self._in_hand.add(event.id)
        call = _Call(held, event, TimeLimit(self._options.timeout_s))
        self._running[held.token] = call

        def work() -> None:
            failure: BaseException | None = None
            try:
                self._caller(event, call.limit)
            except BaseException as error:  # of the author's function
                failure = error
            self._outcomes.put((call, failure))

        self._workers.submit(work)

    def _settle(self, wait_s: float) -> None:
        """Acknowledges, buries or puts off what callbacks are done with; what the broker does not
        take now, later."""
        self._collect(wait_s)
        if self._done:
            self._source.acknowledge(self._done)
            self._done.clear()
        while self._burials and time.monotonic() >= self._bury_at:
            call, reason, outcome = self._burials[0]
            try:
                self._source.dead_letter(call.held, reason)
            except SourceLost as lost:
                if not self._source.keeps_held:
                    raise
                # One without room for it may still give events, and room comes of handling them.
                _log.warning("a dead letter waits for the broker: %s", lost)
                self._bury_at = time.monotonic() + lost.pause_s
                return
            self._burials.popleft()
            self._report(outcome)

    def _collect(self, wait_s: float) -> None:
        """Takes what the callbacks that ended came to, waiting `wait_s` seconds for the first."""
        while True:
            try:
                call, failure = self._outcomes.get(timeout=wait_s) if wait_s else (
                    self._outcomes.get_nowait()
                )  # fmt: skip
            except queue.Empty:
                return
            wait_s = 0.0
            self._workers.finished()
            held, event, _ = call
            self._running.pop(held.token, None)
            self._in_hand.discard(event.id)
            self._waiting.extend(self._parked.pop(event.id, ()))
            if failure is None:
                self._remember(event, held.signature)
                self._done.append(held)
                self._report(Outcome(event, "acknowledged", held.attempt, call.limit.duration_s))
                self._leave(event.id)
            else:
                self._failed(call, failure)

    def _failed(self, call: _Call, failure: BaseException) -> None:
        held, event, limit = call
        told = Outcome(event, "failed", held.attempt, limit.duration_s, failure)
        if isinstance(failure, Reject):
            _log.warning("event %s rejected: %s", event.id, failure)
            self._leave(event.id)
            reason = str(failure) or "rejected"
            self._burials.append(_Burial(call, reason, replace(told, result="rejected")))
            return
        counts = not isinstance(failure, Retry) or failure.counts
        if counts and held.attempt >= self._options.max_deliveries:
            _log.error("event %s given up", event.id, exc_info=failure)
            self._leave(event.id)
            reason = ": ".join(filter(None, (type(failure).__name__, str(failure))))
            reason = f"gave up after {held.attempt} deliveries: {reason[:500]}"
            self._burials.append(_Burial(call, reason, replace(told, result="gave-up")))
            return
        if isinstance(failure, Retry):
            delay = failure.delay_s
            _log.info("event %s put off for %g s: %s", event.id, delay, failure)
        else:
            delay = min(self._options.retry_delay_s * 2 ** (held.attempt - 1), 900.0)
            _log.error("event %s failed, again in %g s", event.id, delay, exc_info=failure)
        self._delayed.add(
            held, event.id, delay, counts=counts, here=self._options.order_by is not None
        )
        result: Any = "retried" if isinstance(failure, Retry) else "failed"
        self._report(replace(told, result=result, again_in_s=delay))

    def _report(self, outcome: Outcome) -> None:
        if self._options.on_outcome is None:
            return
        try:
            self._options.on_outcome(outcome)
        except Exception:  # of the author's function
            _log.exception("on_outcome failed for event %s", outcome.event.id)

    def _leave(self, event_id: str) -> None:
        """Gives the turn to the next of its key."""
        if (following := self._order.leave(event_id)) is not None:
            self._ready.append(following)

    def _expire(self) -> None:
        for _, event, limit in self._running.values():
            if limit.expire():
                _log.warning("event %s takes longer than %g s", event.id, self._options.timeout_s)

    def _wake_delayed(self) -> None:
        if len(self._waiting) >= self._options.most:
            return
        for event_id, again in self._delayed.due():
            if again is None:
                self._leave(event_id)  # the broker gives it, to whom it likes
                continue
            self._waiting.append(again)
            if len(self._waiting) >= self._options.most:
                return

    def _keep(self) -> None:
        """Tells the broker that what is held is alive, so that nobody takes it over."""
        if time.monotonic() - self._kept_at < self._options.stale_after_s / 4:
            return
        self._kept_at = time.monotonic()
        calls = (*self._running.values(), *(one.call for one in self._burials))
        running = (*(call.held for call in calls), *self._done)
        self._source.keep([*running, *self._not_begun()])

    def _not_begun(self) -> list[Held]:
        parked = (held for repeats in self._parked.values() for held in repeats)
        ready = (held for held, _ in self._ready)
        return [*self._waiting, *ready, *parked, *self._order.waiting(), *self._delayed.held()]

    def _idle_wait(self) -> float:
        return self._delayed.wait_s(_IDLE_WAIT_S)

    def _remember(self, event: MailEvent, signature: str) -> None:
        if self._options.seen is not None:
            self._options.seen.add(event.idempotency_key)
        self._delayed.settled(event.id)
        remember(self._handled, event.id, signature)

    def _lost(self, lost: SourceLost) -> None:
        """The broker or the queue is away: what waits here will be given out again."""
        if not self._away:
            _log.warning("waiting for the queue: %s", lost)
        self._away = True
        if not self._source.keeps_held:
            self._waiting.clear()
            self._ready.clear()
            self._delayed.clear()
            self._parked.clear()
            self._done.clear()
            self._burials.clear()
            self._order.clear(but=self._in_hand)
        self._stop.wait(lost.pause_s)

    def _wind_down(self) -> None:
        deadline = time.monotonic() + self._options.stop_timeout_s
        try:
            while self._running and time.monotonic() < deadline:
                self._settle(_BUSY_WAIT_S)
                self._expire()
                self._keep()
                self._source.receive(0, 0.0)
            self._bury_at = 0.0
            self._settle(0.0)
            self._source.give_back(self._not_begun())
        except SourceLost as lost:
            _log.warning("stopped without the broker, which will deliver again: %s", lost)
        if self._running:
            _log.warning(
                "%d callbacks did not end in %g s: their events come again",
                len(self._running),
                self._options.stop_timeout_s,
            )
