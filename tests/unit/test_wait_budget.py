"""A budget of waits: what is spent, by how many at once, and what earns."""

from __future__ import annotations

import contextvars
import socket
import threading
from collections.abc import Iterator

import httpcore
import pytest

from services.fetcher.lane_wait_budgets import Lane
from services.fetcher.settings import FetcherSettings
from shared.mailbox import wait_budget
from shared.mailbox.net.https_transport import _ResponseStream
from shared.mailbox.net.stream import Stream
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.wait_budget import ServerTooSlow, WaitBudget, bounded


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("shared.mailbox.wait_budget.time.monotonic", lambda: now[0])
    return now


def test_only_waits_are_paid_for(clock: list[float]) -> None:
    budget = WaitBudget(10)
    clock[0] += 100  # our own work
    assert budget.left == 10
    budget.begin()
    clock[0] += 4
    assert budget.left == 6, "a wait that goes on counts already"
    budget.end(0)
    clock[0] += 100
    assert budget.left == 6


def test_waits_side_by_side_count_once(clock: list[float]) -> None:
    budget = WaitBudget(10)
    budget.begin()
    clock[0] += 2
    budget.begin()
    clock[0] += 2
    budget.end(0)
    clock[0] += 2
    budget.end(0)
    assert budget.left == 4


def test_octets_and_requests_earn(clock: list[float]) -> None:
    slow = WaitBudget(10, request_s=1)
    slow.requested()
    slow.begin()
    clock[0] += 10
    slow.end(8192)
    assert slow.left == 3
    fixed = WaitBudget(10, octets_a_second=0)
    fixed.requested()
    fixed.begin()
    fixed.end(1 << 30)
    assert fixed.left == 10


def test_work_in_another_context_has_a_budget_of_its_own() -> None:
    elsewhere = contextvars.copy_context()
    with bounded(WaitBudget(1)) as budget:
        assert wait_budget.current() is budget
        assert elsewhere.run(wait_budget.current) is None
        with bounded(WaitBudget(2)) as inner:
            assert wait_budget.current() is inner
        assert wait_budget.current() is budget
    assert wait_budget.current() is None


# ---- who pays


SETTINGS = FetcherSettings.model_construct(slice_seconds=20.0, read_timeout_seconds=60.0)


def test_the_slow_lane_waits_for_a_line_over_a_satellite(clock: list[float]) -> None:
    """Each of ten thousand small mails takes a round trip of nine tenths of a second."""
    lanes = {lane: lane.budget(SETTINGS) for lane in Lane}
    for budget in lanes.values():
        for _ in range(10_000):
            budget.requested()
            budget.begin()
            clock[0] += 0.9
            budget.end(400)
    assert lanes[Lane.SLOW].left > 0
    assert lanes[Lane.COMMON].left < 0, "there others wait behind it"


def test_a_large_mail_over_a_slow_line_goes_on_in_the_slow_lane(clock: list[float]) -> None:
    """100 kB a second for five minutes."""
    lanes = {lane: lane.budget(SETTINGS) for lane in Lane}
    for budget in lanes.values():
        for _ in range(300):
            budget.begin()
            clock[0] += 1
            budget.end(100_000)
    assert lanes[Lane.SLOW].left > 0
    assert lanes[Lane.COMMON].left < 0, "there others wait behind it"


def test_the_slow_lane_waits_for_five_silent_answers_and_no_more(clock: list[float]) -> None:
    budget = Lane.SLOW.budget(SETTINGS)
    for number in range(5):
        assert budget.left > 0, number
        budget.requested()
        budget.begin()
        clock[0] += 61.5
        budget.end(0)
    assert budget.left < 0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


#: Octets that a server may drip before a test takes a bound for lost: some seconds of them.
MANY = 200


def drip(theirs: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(0.02):
        theirs.sendall(b"x")


@pytest.mark.parametrize("over", ["mail protocol", "HTTPS"])
def test_a_request_earns_and_an_answer_is_paid_from_the_budget_of_the_work(
    over: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    """The answer alone keeps to all of its own bounds for five seconds."""
    ours, theirs = ends
    stop = threading.Event()
    dripping = threading.Thread(target=drip, args=(theirs, stop))
    with bounded(WaitBudget(0.3, octets_a_second=0, request_s=50)) as work:
        stream = Stream(ours, Transcript(), 1.0) if over == "mail protocol" else None
        answers = _ResponseStream(ours, 5.0)
        if stream is not None:
            stream.send(b"A1 NOOP\r\n")
        else:
            answers.write(b"GET / HTTP/1.1\r\n\r\n")
        assert 50 < work.left <= 50.3
    dripping.start()
    try:
        with bounded(WaitBudget(0.3)), pytest.raises(ServerTooSlow):
            if stream is not None:
                stream.line()
            for _ in range(MANY if stream is None else 0):
                answers.read(1, 30.0)
    finally:
        stop.set()
        dripping.join()


def test_an_answer_over_https_has_a_bound_of_its_own(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    stop = threading.Event()
    dripping = threading.Thread(target=drip, args=(theirs, stop))
    answers = _ResponseStream(ours, 0.3)
    dripping.start()
    try:
        with pytest.raises(httpcore.ReadTimeout):
            for _ in range(MANY):
                answers.read(1, 30.0)
    finally:
        stop.set()
        dripping.join()
