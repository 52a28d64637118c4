"""What became of an event in a callback: what authors raise, and what their hooks are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from posthouse.event import MailEvent

#: How the reason of a dead letter begins that nobody rejected: it was given too often.
GIVEN_UP = ("gave up after", "not handled in")


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


class Reject(Exception):
    """Raise it in a callback: this event never; it goes to the dead letters with the reason."""


class TimedOut(Exception):
    """The callback took longer than the consumer's `timeout_s`. Raised inside the callback."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call of the callback, as `Consumer(on_outcome=…)` is told of it.

    `result`: `acknowledged`; `retried` (comes again in `again_in_s` seconds, after `Retry`);
    `failed` (the same, after any other exception); `rejected` (after `Reject`) and `gave-up` (the
    last of `max_deliveries` failed): both go to the dead letters. `attempt` counts from 1.
    """

    event: MailEvent
    result: Literal["acknowledged", "retried", "failed", "rejected", "gave-up"]
    attempt: int
    duration_s: float
    error: BaseException | None = None
    again_in_s: float | None = None
