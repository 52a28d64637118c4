"""A thread of a service that ends is not ready, and ends the service."""

from __future__ import annotations

import threading

import pytest

from shared.telemetry.threads import ServiceThreads, ThreadEnded


def test_a_thread_that_dies_is_named_with_its_cause() -> None:
    stop = threading.Event()
    threads = ServiceThreads()

    def dies() -> None:
        raise ZeroDivisionError("no way")

    threads.add("lives", stop.wait)
    threads.add("renewal", dies)
    threads.start()
    threads.join(["renewal"])
    found = threads.ended(stop)
    assert found is not None and "renewal" in str(found) and "no way" in str(found)
    with pytest.raises(ThreadEnded, match="renewal"):
        threads.check()
    stop.set()
    threads.join()


def test_threads_that_end_on_stop_are_no_failure() -> None:
    stop = threading.Event()
    threads = ServiceThreads()
    threads.add("lives", stop.wait)
    threads.start()
    assert threads.ended(stop) is None
    threads.check()
    stop.set()
    threads.join()
    assert threads.ended(stop) is None
