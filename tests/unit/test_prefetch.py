"""While one thing is kept the next one is read; what fails takes nothing else with it."""

from __future__ import annotations

import threading

import pytest

from services.fetcher.prefetch import pipelined


class Found:
    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def __enter__(self) -> Found:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class Work:
    """Reads and keeps numbers; fails where it is told to."""

    def __init__(self, *, fail_read: int = 0, fail_keep: int = 0) -> None:
        self.read_ones: list[Found] = []
        self.kept: list[int] = []
        self._fail_read, self._fail_keep = fail_read, fail_keep

    def read(self, number: int) -> Found:
        if number == self._fail_read:
            raise ConnectionError(f"not read: {number}")
        self.read_ones.append(Found(number))
        return self.read_ones[-1]

    def keep(self, found: Found) -> int:
        with found:
            if found.number == self._fail_keep:
                raise OSError(f"not kept: {found.number}")
            self.kept.append(found.number)
            return found.number


def never() -> bool:
    return False


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_all_are_kept_in_order(count: int) -> None:
    work, items = Work(), list(range(1, count + 1))
    assert list(pipelined(items, work.read, work.keep, never)) == items
    assert work.kept == items
    assert all(found.closed for found in work.read_ones)


def test_the_next_one_is_read_while_one_is_kept() -> None:
    second_is_read = threading.Event()

    def read(number: int) -> Found:
        if number == 2:
            second_is_read.set()
        return Found(number)

    def keep(found: Found) -> bool:
        return found.number == 2 or second_is_read.wait(30)

    assert list(pipelined([1, 2], read, keep, never)) == [True, True]


def test_behind_one_that_was_not_kept_none_is() -> None:
    work = Work(fail_keep=2)
    with pytest.raises(OSError, match="not kept: 2"):
        list(pipelined([1, 2, 3, 4], work.read, work.keep, never))
    assert work.kept == [1]
    assert all(found.closed for found in work.read_ones), "nothing half-written stays"


def test_what_was_read_before_a_failure_is_kept() -> None:
    work = Work(fail_read=3)
    with pytest.raises(ConnectionError, match="not read: 3"):
        list(pipelined([1, 2, 3, 4], work.read, work.keep, never))
    assert work.kept == [1, 2]


def test_a_failure_to_keep_is_told_before_one_to_read() -> None:
    work = Work(fail_read=2, fail_keep=1)
    with pytest.raises(OSError, match="not kept: 1"):
        list(pipelined([1, 2, 3], work.read, work.keep, never))


def test_nothing_is_read_once_it_ended() -> None:
    work = Work()
    ended = iter([False, False, True])
    assert list(pipelined([1, 2, 3, 4], work.read, work.keep, lambda: next(ended))) == [1, 2]
    assert [found.number for found in work.read_ones] == [1, 2]


def test_who_stops_listening_waits_for_what_is_in_hand() -> None:
    work = Work()
    row = pipelined([1, 2, 3], work.read, work.keep, never)
    assert next(row) == 1
    row.close()
    assert work.kept == [1, 2]
    assert all(found.closed for found in work.read_ones)
