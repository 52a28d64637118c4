"""The threads in which callbacks run, and the time that one may take.

A thread that does not end cannot be ended from outside. So they are daemons: the process ends with
its main thread, however long a callback hangs, and the broker gives its event to another consumer.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable

from posthouse.outcome import TimedOut

_Job = Callable[[], None]


class Workers:
    """Up to `most` daemon threads, made as they are needed, that run jobs which raise nothing."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._unfinished = 0

    def submit(self, job: _Job) -> None:
        """From one thread only, with at most `most` jobs unfinished; then none waits."""
        self._unfinished += 1
        if self._unfinished > self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._work, name="posthouse-handler", daemon=True).start()
        self._jobs.put(job)

    def finished(self) -> None:
        """Says that a job's result was taken; its thread is free."""
        self._unfinished -= 1

    def close(self) -> None:
        """Ends the threads that are idle now, and the others when their job ends."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def too_long(seconds: float) -> TimedOut:
    """With words, as they stand in logs and in the reason of a dead letter."""
    return TimedOut(f"it took longer than {seconds:g} s")


class TimeLimit:
    """Interrupts the thread that runs in it: `expire`, called by another, raises TimedOut there.

    Python raises between two instructions. A call that waits in C (a socket without a time-out of
    its own, `time.sleep`) is interrupted only when it returns. Nothing is raised after the end of
    the block, nor more than once.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._began = 0.0
        self._thread = 0
        self._lock = threading.Lock()
        self._over = False

    @property
    def duration_s(self) -> float:
        return time.monotonic() - self._began if self._began else 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()
        self._thread = threading.get_ident()

    def __exit__(self, _: object, error: object, __: object) -> None:
        with self._lock:
            self._over = True
        if isinstance(error, TimedOut) and not error.args and self._seconds is not None:
            error.args = too_long(self._seconds).args  # the interpreter made it, without words
        if self._seconds is not None:
            _raise_in(self._thread, None)  # what was asked for and not raised yet

    def expire(self) -> bool:
        """Raises TimedOut in the block where its time is over. True where it was raised now."""
        if self._seconds is None or not self._began or self.duration_s < self._seconds:
            return False
        with self._lock:
            if self._over:
                return False
            self._over = True
            _raise_in(self._thread, TimedOut)
            return True


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Asks the interpreter to raise `error` in `thread`; None takes the request back."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    )
