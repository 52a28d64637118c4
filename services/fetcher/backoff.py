"""What follows from a failed run: how the connection looks, and when it is tried again."""

from __future__ import annotations

import random

from shared.clock import utc_now
from shared.connections import Failure, Health
from shared.errors import NeedsAuthorisation, NeedsPerson, PosthouseError, TryAgain
from shared.untrusted_text import storable

#: Seconds. Nothing waits longer than this for its next attempt.
LONGEST_DELAY = 30 * 60
#: A refused login is tried rarely from the start: servers lock accounts after a few attempts.
FIRST_DELAY_NEEDS_PERSON = 10 * 60
_LOG_LINES = 60
_LOG_CHARACTERS = 400


def health_after(error: PosthouseError) -> Health:
    return Health.NEEDS_AUTHORISATION if isinstance(error, NeedsAuthorisation) else Health.FAILING


def retry_delay(error: PosthouseError, failures: int, interval_minutes: int) -> float:
    """Seconds until the next attempt, after `failures` earlier ones in a row.

    Doubles from the interval (a person's mistake: from ten minutes) up to half an hour, with
    jitter of a quarter, so that what failed together does not come back together. A server's
    Retry-After is honoured, also beyond the half hour up to a day.
    """
    first = interval_minutes * 60.0
    if isinstance(error, NeedsPerson):
        first = max(first, FIRST_DELAY_NEEDS_PERSON)
    delay: float = min(LONGEST_DELAY, first * 2.0 ** min(failures, 10)) * random.uniform(0.75, 1.0)  # noqa: S311 (jitter)
    if isinstance(error, TryAgain) and error.retry_after is not None:
        delay = max(delay if failures else 0.0, min(error.retry_after, 86_400.0))
    return delay


def described(error: PosthouseError) -> Failure:
    """The failure as the administrator reads it: words, step, what to do, the protocol log."""
    return Failure(
        code=error.code,
        step=getattr(error, "step", "") or "",
        message=storable(str(error)[:2000]),
        hint=storable(error.hint[:2000]),
        log=tuple(
            storable(line[:_LOG_CHARACTERS]) for line in list(error.transcript)[-_LOG_LINES:]
        ),
        at=utc_now(),
    )
