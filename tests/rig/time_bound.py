"""A bound on the work for one hostile value, in processor time of this thread."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def within_a_second() -> Iterator[None]:
    """Fails where the block takes longer.

    Without collecting garbage: that goes over everything that the tests before have left, which
    takes seconds in a process that ran thousands of them, and is no work of the block.
    """
    gc.disable()
    try:
        began = time.thread_time()
        yield
        assert time.thread_time() - began < 1
    finally:
        gc.enable()
