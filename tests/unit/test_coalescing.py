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


@pytest.mark.parametrize("items", [[1], [1, 2, 3]], ids=["alone", "together"])
def test_what_is_done_afterwards_keeps_nobody_else(items: list[int]) -> None:
    """Others end and begin meanwhile; what fails there fails for who did the work."""
    done: list[tuple[list[int], list[int]]] = []
    begun, go_on = threading.Event(), threading.Event()

    def afterwards(some: Sequence[int], results: Sequence[int]) -> None:
        done.append((list(some), list(results)))
        if items[-1] in some and not begun.is_set():
            begun.set()
            assert go_on.wait(30)
            raise TryAgain("too late for anything but a word")

    work = Work()
    combiner = Combiner(work, afterwards=afterwards)
    with ThreadPoolExecutor(4) as threads:
        found = {1: threads.submit(combiner, 1)}
        assert work.begun.wait(30)
        for number, item in enumerate(items[1:], 1):
            found[item] = threads.submit(combiner, item)
            while combiner.waiting < number:
                pass
        work.go_on.set()
        assert begun.wait(30)
        assert threads.submit(combiner, 8).result(30) == 16
        leader = 2 if len(items) > 1 else 1
        assert [found[item].result(30) for item in items if item != leader] == [
            2 * item for item in items if item != leader
        ]
        assert not found[leader].done()
        go_on.set()
        with pytest.raises(TryAgain, match="too late"):
            found[leader].result(30)
    # In no order: who did the work has let the next one go on before.
    together = [([2, 3], [4, 6])] if len(items) > 1 else []
    assert sorted(done) == [([1], [2]), *together, ([8], [16])]


def test_what_is_tried_alone_has_its_afterwards() -> None:
    def fail(items: Sequence[int]) -> None:
        if len(items) > 1:
            raise TryAgain("not together")

    work, done = Work(fail), list[list[int]]()
    combiner = Combiner(work, afterwards=lambda items, _: done.append(list(items)))
    together(work, combiner, [1, 2, 3])
    assert sorted(done) == [[1], [2], [3]]
