"""How one attempt to hand an event to the endpoint went, whatever the protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum


class ForwardVerdict(Enum):
    """What follows from an attempt."""

    DELIVERED = "delivered"
    #: The endpoint does not want this event now; others may pass.
    REFUSED = "refused"
    #: The endpoint cannot take any event now.
    UNAVAILABLE = "unavailable"
    #: The event is larger than the endpoint takes.
    TOO_LARGE = "too-large"
    #: The endpoint wants nothing any more, until a person says otherwise.
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOutcome:
    """One attempt. `status`: HTTP's, None where no answer came; `answer`: its first 1,024 octets;
    `retry_after_s`: how long the endpoint asks to be left alone."""

    verdict: ForwardVerdict
    seconds: float = 0.0
    status: int | None = None
    detail: str = ""
    answer: str = ""
    retry_after_s: float | None = None


def unavailable(started: float, detail: str) -> ForwardOutcome:
    """The endpoint takes nothing now. `started`: time.monotonic."""
    return ForwardOutcome(
        verdict=ForwardVerdict.UNAVAILABLE, seconds=time.monotonic() - started, detail=detail[:500]
    )


def delivered(started: float, answer: str = "") -> ForwardOutcome:
    """The endpoint has it. `started`: time.monotonic; `answer`: what it said."""
    return ForwardOutcome(
        verdict=ForwardVerdict.DELIVERED, seconds=time.monotonic() - started, answer=answer
    )


def too_large(started: float, detail: str) -> ForwardOutcome:
    """The event is larger than the endpoint takes. `started`: time.monotonic."""
    return ForwardOutcome(
        verdict=ForwardVerdict.TOO_LARGE, seconds=time.monotonic() - started, detail=detail
    )
