"""What the errors of this package have in common."""

from __future__ import annotations


class PosthouseError(Exception):
    """What this package raises of itself. Each is also what Python calls its sort: `OSError` what
    may pass, `ValueError` what is not as it should be, `LookupError` what is not there.

    What a callback raises to say what becomes of an event (`Retry`, `Reject`), and `TimedOut`,
    which ends it, are none.
    """
