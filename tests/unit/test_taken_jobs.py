"""Threads of a worker that wait for jobs cost nothing, and end at once when it stops."""

from __future__ import annotations

import queue
import threading

import pytest

from shared.queueing.worker import _TakenJobs


def test_who_waits_for_a_job_is_woken_by_one_or_by_the_end_and_by_nothing_else() -> None:
    jobs, got = _TakenJobs(), []

    def work() -> None:
        while True:
            try:
                got.append(jobs.get(timeout=0.001))
            except queue.Empty:
                return

    waiting = [threading.Thread(target=work) for _ in range(3)]
    for thread in waiting:
        thread.start()
    waiting[0].join(0.1)
    assert all(thread.is_alive() for thread in waiting), "they were woken by the clock"
    for number in (2, 1):
        jobs.put(number)
    jobs.close()
    for thread in waiting:
        thread.join(20)
    assert sorted(got) == [1, 2], "what was taken before the end is still done"
    with pytest.raises(queue.Empty):
        jobs.get()


def test_what_is_left_can_be_given_back() -> None:
    jobs = _TakenJobs()
    for number in (2, 1):
        jobs.put(number)
    assert [jobs.get_nowait(), jobs.get_nowait()] == [1, 2]
    with pytest.raises(queue.Empty):
        jobs.get_nowait()
