"""What an author asks of the consumer: time limits, outcomes, order, an event loop of his own.

For an administrator: what takes too long is a failure like any other; after `max_deliveries` it is
a dead letter of the handler with "TimedOut" as the reason (page, alert, metric as in
test_consumer.py).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from posthouse import Consumer, MailEvent, Outcome, Reject, Retry
from posthouse.event_data import Connection
from posthouse.testing import make_event
from shared.queueing.output import Output
from tests.integration.queueing.conftest import (
    SIGNING_KEY,
    Consumers,
    Server,
    eventually,
    make_queue,
)
from tests.integration.queueing.test_consumer import send


def _busy(event: MailEvent) -> None:
    while True:  # waits without end, in Python
        time.sleep(0.01)


async def _hanging(event: MailEvent) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("callback", [_busy, _hanging], ids=["function", "coroutine"])
def test_a_callback_that_takes_too_long_ends_among_the_dead_letters(
    server: Server,
    output: Output,
    handler: str,
    consumers: Consumers,
    callback: Callable[[MailEvent], object],
) -> None:
    make_queue(output, handler)
    done: list[str] = []
    slow, quick = make_event(subject="slow"), make_event(subject="quick")

    def handle(event: MailEvent) -> object:
        if event.id == slow.id:
            return callback(event)
        return done.append(event.id)

    consumers.start(server.url, handler, handle, timeout_s=0.3, max_deliveries=2)
    send(output, handler, slow, quick)
    eventually(lambda: output.inspect(handler).dead == 1)
    (letter,) = output.dead(handler)
    assert "TimedOut" in letter.reason
    assert done == [quick.id]
    eventually(lambda: output.inspect(handler).drained)


def test_every_call_has_an_outcome(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    outcomes: list[Outcome] = []
    calls: dict[str, int] = defaultdict(int)

    def handle(event: MailEvent) -> None:
        calls[event.headers.subject] += 1
        first = calls[event.headers.subject] == 1
        match event.headers.subject:
            case "reject":
                raise Reject("not for us")
            case "later" if first:
                raise Retry(0.1)
            case "fails once" if first:
                raise RuntimeError("at first")
            case "fails":
                raise RuntimeError("always")

    def hook(outcome: Outcome) -> None:
        outcomes.append(outcome)
        raise ZeroDivisionError  # a hook's own fault harms nothing

    consumers.start(server.url, handler, handle, max_deliveries=2, on_outcome=hook)
    subjects = ("fine", "reject", "later", "fails once", "fails")
    send(output, handler, *(make_event(subject=subject) for subject in subjects))
    eventually(lambda: len(outcomes) == 8)
    seen = defaultdict(list)
    for one in outcomes:
        seen[one.event.headers.subject].append(one.result)
    assert seen == {
        "fine": ["acknowledged"],
        "reject": ["rejected"],
        "later": ["retried", "acknowledged"],
        "fails once": ["failed", "acknowledged"],
        "fails": ["failed", "gave-up"],
    }
    assert all((one.error is None) == (one.result == "acknowledged") for one in outcomes)
    eventually(lambda: output.inspect(handler).drained)


def test_events_of_one_key_are_handled_in_order_whatever_fails(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    connections = [Connection(n, f"box {n}", "imap", f"{n}@example.com") for n in (1, 2, 3)]
    events = [
        make_event(connection=connections[n % 3], sequence=n, subject=str(n)) for n in range(60)
    ]
    handled: dict[int, list[int]] = defaultdict(list)
    running: set[int] = set()
    tried: set[int] = set()
    together: list[int] = []

    def handle(event: MailEvent) -> None:
        key = event.connection.id
        if key in running:
            together.append(event.sequence)
        running.add(key)
        try:
            time.sleep(0.002)
            if event.sequence % 7 == 0 and event.sequence not in tried:
                tried.add(event.sequence)
                raise Retry(0.05) if event.sequence % 2 else RuntimeError("once")
            handled[key].append(event.sequence)
        finally:
            running.discard(key)

    send(output, handler, *events)
    consumers.start(
        server.url, handler, handle, concurrency=4, order_by=lambda event: event.connection.id
    )
    eventually(lambda: sum(map(len, handled.values())) == len(events))
    eventually(lambda: output.inspect(handler).drained)
    assert not together
    assert {key: sorted(numbers) for key, numbers in handled.items()} == handled


def test_a_dead_letter_lets_the_next_of_its_key_pass(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    got: list[str] = []

    def handle(event: MailEvent) -> None:
        if event.headers.subject == "bad":
            raise RuntimeError("never")
        got.append(event.headers.subject)

    send(output, handler, *(make_event(subject=subject) for subject in ("bad", "good", "better")))
    consumers.start(
        server.url, handler, handle, concurrency=3, max_deliveries=2, order_by=lambda event: 1
    )
    eventually(lambda: got == ["good", "better"])
    assert output.inspect(handler).dead == 1


def test_it_runs_on_the_loop_of_the_program_and_ends_with_its_task(
    server: Server, output: Output, handler: str
) -> None:
    make_queue(output, handler)
    events = [make_event() for _ in range(5)]
    send(output, handler, *events)
    got: list[str] = []

    async def program() -> None:
        loop = asyncio.get_running_loop()
        everything = asyncio.Event()

        async def handle(event: MailEvent) -> None:
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0.01)
            got.append(event.id)
            if len(got) == len(events):
                everything.set()
                await asyncio.sleep(0.3)  # it is finished although the task is cancelled meanwhile
                got.append("finished")

        consumer = Consumer(server.url, handler, concurrency=1, signing_key=SIGNING_KEY)
        task = asyncio.create_task(consumer.run_async(handle))
        await asyncio.wait_for(everything.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # Not here: a browser test before may have left its loop running in this thread.
    with ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, program()).result()
    assert got == [*(event.id for event in events), "finished"]
    eventually(lambda: output.inspect(handler).drained)


def test_a_callback_that_hangs_does_not_hold_the_process(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    event = make_event()
    send(output, handler, event)
    program = textwrap.dedent(
        """
        import sys, threading
        from posthouse import Consumer
        def handle(event):
            print("here", flush=True)
            threading.Event().wait()
        Consumer(sys.argv[1], sys.argv[2], stop_timeout_s=0.5, stale_after_s=2,
                 verify=False).run(handle)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, server.url, handler], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "here\n"
    child.terminate()
    try:
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.stdout.close()
    got: list[str] = []
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    eventually(lambda: got == [event.id])


def test_the_time_limit_interrupts_nothing_but_the_callback() -> None:
    """Whatever the moment at which the time is over: no thread of the pool dies of it."""
    from posthouse.testing import run_in_memory

    stop_s, before = 0.0, threading.active_count()

    def handle(event: MailEvent) -> None:
        end = time.monotonic() + stop_s
        while time.monotonic() < end:
            pass

    for n in range(30):
        stop_s = 0.045 + n * 0.0005
        report = run_in_memory(handle, [make_event()], max_deliveries=1, timeout_s=0.05)
        assert len(report.acknowledged) + len(report.dead) == 1
    assert threading.active_count() < before + 30
