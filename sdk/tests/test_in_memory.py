"""What the consumer makes of a callback's behaviour, with the aids that handlers' tests use."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from posthouse import Consumer, MailEvent, Outcome, Reject, Retry
from posthouse.source import Held
from posthouse.testing import make_event, run_in_memory


def test_events_are_handled_in_order_and_acknowledged() -> None:
    events = [make_event(subject=str(n)) for n in range(40)]
    seen: list[str] = []
    report = run_in_memory(lambda event: seen.append(event.headers.subject), events)
    assert seen == [str(n) for n in range(40)]
    assert report.acknowledged == [event.id for event in events]
    assert not report.dead


def test_retry_comes_again_and_reject_does_not() -> None:
    tries: list[str] = []

    def handle(event: MailEvent) -> None:
        tries.append(event.headers.subject)
        if event.headers.subject == "later" and tries.count("later") < 3:
            raise Retry(3600)
        if event.headers.subject == "never":
            raise Reject("no such customer")

    later, never = make_event(subject="later"), make_event(subject="never")
    report = run_in_memory(handle, [later, never])
    assert tries.count("later") == 3
    assert tries.count("never") == 1
    assert report.acknowledged == [later.id]
    assert report.dead == [(never.id, "no such customer")]
    assert report.retried == [(later.id, 1), (later.id, 1)]


def test_not_now_uses_up_no_delivery_unless_asked_to() -> None:
    tries: list[str] = []

    def handle(event: MailEvent) -> None:
        tries.append(event.id)
        if len(tries) < 30:
            raise Retry(3600)

    event = make_event()
    assert run_in_memory(handle, [event], max_deliveries=2).acknowledged == [event.id]

    def counted(event: MailEvent) -> None:
        raise Retry(3600, "the other side is away", counts=True)

    assert run_in_memory(counted, [event], max_deliveries=2).dead == [
        (event.id, "gave up after 2 deliveries: Retry: the other side is away")
    ]


@pytest.mark.parametrize("waits", [False, True])
def test_a_callback_that_takes_too_long_is_told_in_words(waits: bool) -> None:
    async def wait(event: MailEvent) -> None:
        await asyncio.sleep(60)

    def work(event: MailEvent) -> None:
        while True:
            pass

    told: list[Outcome] = []
    report = run_in_memory(
        wait if waits else work,
        [make_event()],
        timeout_s=0.05,
        max_deliveries=1,
        on_outcome=told.append,
    )
    assert [one.reason for one in report.dead] == [
        "gave up after 1 deliveries: TimedOut: it took longer than 0.05 s"
    ]
    assert [(one.result, str(one.error)) for one in told] == [
        ("gave-up", "it took longer than 0.05 s")
    ]


def test_it_says_that_it_waits_for_events(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever starts a handler sees that it runs, before a mail comes."""
    with caplog.at_level("INFO", "posthouse"):
        run_in_memory(lambda event: None, [make_event()])
    assert "waiting for the events of test" in caplog.messages


def test_an_error_without_words_is_told_by_its_name() -> None:
    def handle(event: MailEvent) -> None:
        raise ValueError

    report = run_in_memory(handle, [make_event()], max_deliveries=1)
    assert [one.reason for one in report.dead] == ["gave up after 1 deliveries: ValueError"]


def test_an_event_that_is_put_off_for_ever_ends_a_run_in_memory() -> None:
    def handle(event: MailEvent) -> None:
        raise Retry()

    with pytest.raises(RuntimeError, match="put off again and again"):
        run_in_memory(handle, [make_event()])


def test_an_event_that_always_fails_ends_with_its_last_error() -> None:
    calls = []

    def handle(event: MailEvent) -> None:
        calls.append(event.id)
        raise ValueError(f"boom {len(calls)}")

    event = make_event()
    report = run_in_memory(handle, [event], max_deliveries=3)
    assert len(calls) == 3
    assert report.dead[0][0] == event.id
    assert "ValueError: boom 3" in report.dead[0][1]


def test_a_bad_event_does_not_stop_the_good_ones() -> None:
    def handle(event: MailEvent) -> None:
        if event.headers.subject == "bad":
            raise SystemExit(3)

    good = [make_event(subject="good") for _ in range(5)]
    report = run_in_memory(handle, [make_event(subject="bad"), *good], max_deliveries=2)
    assert sorted(report.acknowledged) == sorted(event.id for event in good)
    assert len(report.dead) == 1


def test_seen_ids_are_skipped_and_handled_ones_are_added() -> None:
    first, second = make_event(), make_event()
    seen = {first.id}
    handled: list[str] = []
    report = run_in_memory(lambda event: handled.append(event.id), [first, second], seen=seen)
    assert handled == [second.id]
    assert seen == {first.id, second.id}
    assert sorted(report.acknowledged) == sorted([first.id, second.id])


def test_the_same_event_is_never_in_two_hands_at_once() -> None:
    """A broker may give an event again while its callback is still at work on it."""
    event = make_event()
    inside, most = [], []
    lock = threading.Lock()

    def handle(_: MailEvent) -> None:
        with lock:
            inside.append(1)
            most.append(len(inside))
        threading.Event().wait(0.05)
        with lock:
            inside.pop()

    report = run_in_memory(handle, [event] * 5, concurrency=3)
    assert max(most) == 1
    assert report.acknowledged == [event.id] * 5


def test_concurrency_is_what_was_asked_for() -> None:
    together = threading.Barrier(4, timeout=20)
    report = run_in_memory(
        lambda _: together.wait() and None, [make_event() for _ in range(8)], concurrency=4
    )
    assert len(report.acknowledged) == 8


@pytest.mark.parametrize("url", ["", "http://x", "localhost"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="redis://"):
        Consumer(url, "tickets", verify=False)


@pytest.mark.parametrize("name", ["", "A", "a b", "a:b", "a" * 65, "tickets\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Consumer("redis://localhost", name, verify=False)


def test_a_bare_install_imports_and_says_what_is_missing() -> None:
    """Nothing but the standard library: no site-packages."""
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import posthouse
from posthouse.testing import make_event, run_in_memory
assert run_in_memory(lambda event: None, [make_event()]).acknowledged
for url, extra in (("redis://x", "posthouse[redis]"), ("amqp://x", "posthouse[rabbitmq]")):
    try:
        posthouse.Consumer(url, "tickets", verify=False)
    except ImportError as error:
        assert extra in str(error), error
    else:
        raise SystemExit("imported " + url)
"""
    source = Path(__file__).parent.parent / "src"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


class _Returning:
    """A broker that gives one event again and again, and counts as RabbitMQ does.

    Before 4.3 it counts whatever comes back, from then on only what failed.
    """

    longest_delay_s = 0.0
    keeps_held = False

    def __init__(self, event: MailEvent, *, counts_all: bool) -> None:
        self._event, self._counts_all = event, counts_all
        self._deliveries, self._is_here = 0, True
        self.dead_reason = ""

    def receive(self, room: int, wait_s: float) -> list[Held]:
        if not (room and self._is_here):
            return []
        self._is_here = False
        return [Held("token", self._event.to_json(), self._deliveries + 1)]

    def again(self, held: Held, *, counts: bool) -> Held | None:
        self._deliveries += counts or self._counts_all
        self._is_here = True
        return None

    def dead_letter(self, held: Held, reason: str) -> None:
        self.dead_reason = reason

    def acknowledge(self, done: Sequence[Held]) -> None: ...
    def keep(self, held: Sequence[Held]) -> None: ...
    def give_back(self, held: Sequence[Held]) -> None: ...
    def close(self) -> None: ...


@pytest.mark.parametrize("counts_all", [True, False])
def test_not_now_counts_for_nothing_whatever_the_broker_counts(counts_all: bool) -> None:
    event, tries = make_event(), []
    source = _Returning(event, counts_all=counts_all)
    stop = threading.Event()

    def handle(event: MailEvent) -> None:
        tries.append(event.id)
        if len(tries) % 10:
            raise Retry(0.0)
        if len(tries) == 30:
            stop.set()
        raise ValueError("boom")

    consumer = Consumer(
        "memory://", "test", max_deliveries=3, retry_delay_s=0.0, verify=False, source=source
    )
    consumer.run(handle, stop=stop)
    # Nine times not now for each failure: the third one is the last.
    assert source.dead_reason.startswith("gave up after 3 deliveries")
    assert len(tries) == 30
