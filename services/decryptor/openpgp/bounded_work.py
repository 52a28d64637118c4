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

#: Processor time for one message, of all threads of the process: the largest mail takes some five
#: seconds, a sixtieth of a second for each megabyte that is read or written.
MOST_SECONDS = 30.0
_SECONDS_PER_OCTET = 0.2e-6
#: A small one takes milliseconds; with 2,000 recipients and 2,000 known keys 50 ms each, with all
#: the operations that it may ask for a second.
_LEAST_SECONDS = 10.0
#: The process has one such timer.
_one = threading.Lock()


@contextlib.contextmanager
def bounded_work(octets: int) -> Iterator[None]:
    """Ends the process (SIGPROF) where what is done inside takes too much of its processor time for
    a message of which so many octets are read and written at most. One thread at a time."""
    seconds = min(MOST_SECONDS, _LEAST_SECONDS + octets * _SECONDS_PER_OCTET)
    with _one:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
