"""Work of several threads done at once: nobody waits for others, and each fails for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from shared.coalescing import Combiner
from shared.errors import TryAgain


class Gone(TryAgain):
    """What nobody tries again."""


class Work:
    """Doubles numbers; the first call lasts until `go_on` is set."""

    def __init__(self, fail: Callable[[Sequence[int]], None] = lambda _: None) -> None:
        self.calls: list[list[int]] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self._fail = fail

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        if not self.begun.is_set():
            self.begun.set()
            assert self.go_on.wait(30)
        self._fail(items)
        return [2 * item for item in items]


def together(
    work: Work, combiner: Combiner[int, int], items: Sequence[int]
) -> dict[int, Future[int]]:
    """The first item's work runs until all others wait for its end."""
    with ThreadPoolExecutor(len(items)) as threads:
        found = {items[0]: threads.submit(combiner, items[0])}
        assert work.begun.wait(30)
        for number, item in enumerate(items[1:], 1):
            found[item] = threads.submit(combiner, item)
            while combiner.waiting < number and not found[item].done():
                pass
        work.go_on.set()
    return found


def test_who_comes_alone_begins_at_once_and_the_others_go_together() -> None:
    work = Work()
    found = together(work, Combiner(work), [1, 2, 3, 4])
    assert {item: one.result() for item, one in found.items()} == {1: 2, 2: 4, 3: 6, 4: 8}
    assert work.calls == [[1], [2, 3, 4]]


def test_no_more_go_together_than_may() -> None:
    work = Work()
    combiner = Combiner(work, most=3, largest=10, size=lambda item: item)
    found = together(work, combiner, [1, 2, 2, 2, 9, 3, 20, 1])
    assert all(one.result() == 2 * item for item, one in found.items())
    assert work.calls == [[1], [2, 2, 2], [9], [3], [20], [1]]


def test_where_one_fails_the_others_do_not() -> None:
    def fail(items: Sequence[int]) -> None:
        if 3 in items:
            raise TryAgain("not with a three")

    work = Work(fail)
    found = together(work, Combiner(work), [1, 2, 3, 4])
    assert [found[item].result() for item in (1, 2, 4)] == [2, 4, 8]
    with pytest.raises(TryAgain):
        found[3].result()
    assert work.calls[:2] == [[1], [2, 3, 4]]
    assert sorted(work.calls[2:]) == [[2], [3], [4]]


def test_what_must_not_be_repeated_fails_for_each_with_an_error_of_its_own() -> None:
    def fail(items: Sequence[int]) -> None:
        if len(items) > 1:
            raise Gone("it is not known what was done", retry_after=3)

    work = Work(fail)
    found = together(work, Combiner(work, final=(Gone,)), [1, 2, 3])
    errors = [found[item].exception() for item in (2, 3)]
    assert work.calls == [[1], [2, 3]]
    assert errors[0] is not errors[1]
    for error in errors:
        assert isinstance(error, Gone)
        assert (str(error), error.retry_after) == ("it is not known what was done", 3)
    first, second = errors
    assert isinstance(first, Gone)
    assert isinstance(second, Gone)
    first.transcript = ("of one mailbox",)
    assert second.transcript == ()


def test_as_many_work_at_the_same_time_as_may() -> None:
    both = threading.Barrier(2)

    def work(items: Sequence[int]) -> list[int]:
        both.wait(30)
        return list(items)

    combiner = Combiner(work, leaders=2)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(combiner, [1, 2])) == [1, 2]
