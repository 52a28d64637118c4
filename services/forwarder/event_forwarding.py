"""What is done with one event of a forwarded handler: sent, and acknowledged when it was taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from posthouse import MailEvent, Reject, Retry
from services.forwarder.attempt_log import AttemptLog
from services.forwarder.circuit_breaker import CircuitBreaker
from services.forwarder.retries import Retries
from shared.clock import utc_now
from shared.errors import PosthouseError
from shared.forwarding.event_size import fitted
from shared.forwarding.outcome import ForwardOutcome, ForwardVerdict
from shared.forwards import Endpoint
from shared.quantities import counted
from shared.storage.forwards import ForwardAttempt
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: Seconds until an event that was not taken is tried again: the first time, and the longest.
FIRST_S: Final = 5.0
LONGEST_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventForwarding:
    """The callback of one handler's consumer; called in several threads.

    `send(key, event)` makes one attempt, which a receiver knows by its key; `gone(reason)`
    pauses the handler on every forwarder and tells people, or raises; `gave_up(reason)` tells
    people of dead letters, or raises.
    """

    handler_id: int
    endpoint: Endpoint
    public_url: str
    send: Callable[[str, bytes], ForwardOutcome]
    breaker: CircuitBreaker
    retries: Retries
    log: AttemptLog
    gone: Callable[[str], None]
    gave_up: Callable[[str], None]
    #: Told of each step; the tests end the process at one.
    reached: Callable[[str], object] = lambda _step: None

    def __call__(self, event: MailEvent) -> None:
        """Returns when the endpoint has confirmed; else raises Retry, or Reject where
        `retry_for_seconds` are over."""
        wait_s = self.retries.wait_s(self.handler_id, event.idempotency_key)
        if wait_s > 0:
            raise Retry(wait_s, "not due yet")
        if not self.breaker.enter():
            raise Retry(0.1, "the forwarder stops")
        self.reached("taken")
        try:
            outcome = self._attempt(event)
        except BaseException:
            self.breaker.failed(None)
            raise
        self.reached("answered")
        if outcome.verdict is ForwardVerdict.DELIVERED:
            self._delivered(event, outcome)
        elif outcome.verdict is ForwardVerdict.GONE:
            self._gone(event, outcome)
        else:
            self._failed(event, outcome)

    def _attempt(self, event: MailEvent) -> ForwardOutcome:
        outcome = self.send(event.idempotency_key, self._fitted(event, by_reference=False))
        if outcome.verdict is ForwardVerdict.TOO_LARGE:
            self._note(event, outcome, "failed")
            outcome = self.send(event.idempotency_key, self._fitted(event, by_reference=True))
        return outcome

    def _fitted(self, event: MailEvent, *, by_reference: bool) -> bytes:
        return fitted(
            event.received,
            event.id,
            self.endpoint,
            self.handler_id,
            self.public_url,
            by_reference=by_reference,
        )

    def _delivered(self, event: MailEvent, outcome: ForwardOutcome) -> None:
        self.breaker.taken()
        self._note(event, outcome, "delivered")
        if self.retries.has(self.handler_id, event.idempotency_key):
            self._settle(event)

    def _gone(self, event: MailEvent, outcome: ForwardOutcome) -> None:
        self.breaker.failed(None)
        self._note(event, outcome, "paused")
        try:
            self.gone("The endpoint answered 410 Gone.")
        except PosthouseError as error:
            _log.warning("forward not paused yet", handler_id=self.handler_id, error=str(error))
        raise Retry(FIRST_S, "the endpoint answered 410 Gone")

    def _failed(self, event: MailEvent, outcome: ForwardOutcome) -> None:
        if outcome.verdict is ForwardVerdict.UNAVAILABLE:
            self.breaker.failed(outcome.retry_after_s)
        else:
            self.breaker.refused()
        try:
            waiting = self.retries.failed(
                self.handler_id, event.idempotency_key, first_s=FIRST_S, longest_s=LONGEST_S
            )
        except PosthouseError as error:
            # It is not known for how long this event has failed: it is not given up either.
            _log.warning("failed attempt not counted", error=str(error))
            self._note(event, outcome, "failed")
            raise Retry(max(FIRST_S, outcome.retry_after_s or 0.0), outcome.detail) from error
        if waiting.failing_s >= self.endpoint.options.retry_for_seconds:
            over = f"Given up after {counted(waiting.attempts, 'attempt')}: {outcome.detail}"
            self._note(event, replace(outcome, detail=over), "dead")
            self._settle(event)
            try:
                self.gave_up(over)
            except PosthouseError as error:
                # The next one that is given up tells of it; a dead letter is counted anyway.
                _log.warning("alert not raised yet", handler_id=self.handler_id, error=str(error))
            raise Reject(over)
        self._note(event, outcome, "failed")
        self.reached("counted")
        raise Retry(max(waiting.wait_s, outcome.retry_after_s or 0.0), outcome.detail)

    def _settle(self, event: MailEvent) -> None:
        self.retries.forget(self.handler_id, event.idempotency_key)
        self.log.forget(self.handler_id, event.idempotency_key)

    def _note(self, event: MailEvent, outcome: ForwardOutcome, word: str) -> None:
        kind = self.endpoint.kind.value
        metrics.FORWARDED_EVENTS.labels(kind, word).inc()
        metrics.FORWARD_SECONDS.labels(kind).observe(outcome.seconds)
        attempt = ForwardAttempt(
            event_id=event.id,
            at=utc_now() - timedelta(seconds=outcome.seconds),
            seconds=outcome.seconds,
            outcome=word,
            status=outcome.status,
            detail=outcome.detail,
            answer=outcome.answer,
        )
        self.log.add(self.handler_id, attempt)
