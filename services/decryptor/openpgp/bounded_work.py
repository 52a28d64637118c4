"""A bound for what Sequoia does with one message.

Its binding has none: 200 octets of packed packets in packed packets, which say nothing, keep it
busy for hours, and it keeps every other thread of Python waiting meanwhile. So no thread can end
it: the system ends the process, and the mail goes the way of every mail that breaks its decryptor,
alone and then into quarantine.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

#: Processor time for one message: the largest mail takes some five seconds.
MOST_SECONDS = 30.0
#: The process has one such timer.
_one = threading.Lock()


@contextlib.contextmanager
def bounded_work() -> Iterator[None]:
    """Ends the process (SIGPROF) where what is done inside takes more than `MOST_SECONDS` of its
    processor time. One thread at a time."""
    with _one:
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
