"""One suite over every way to a handler: what is promised does not depend on the way."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.forwarding.conftest import Rig, mails
from tests.integration.forwarding.ways import (
    ByHttp,
    ByKafka,
    ByNats,
    ByQueue,
    Forwarded,
    Way,
)

WAYS: dict[str, Callable[[Rig, Path], Way]] = {
    "queue": ByQueue,
    "queue-rabbitmq": ByQueue,
    "http": lambda rig, _: ByHttp(rig),
    "nats": lambda rig, _: ByNats(rig),
    "kafka": lambda rig, _: ByKafka(rig),
}
FORWARDED = ("http", "nats", "kafka")
TWICE: dict[str, Callable[[Rig], Forwarded]] = {
    "http-twice": lambda rig: ByHttp(rig, twice=True),
    "nats-twice": lambda rig: ByNats(rig, twice=True),
    "kafka-twice": lambda rig: ByKafka(rig, twice=True),
}


@pytest.fixture
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    name = request.param
    rig: Rig = request.getfixturevalue("rabbit_rig" if "rabbitmq" in name else "redis_rig")
    found = TWICE[name](rig) if name in TWICE else WAYS[name](rig, tmp_path)
    yield found
    rig.stack.stop()
    found.close()


def over(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", names, indirect=True)


def steps(name: str) -> tuple[str, ...]:
    return ByQueue.steps if name.startswith("queue") else ByHttp.steps


def finish(way: Way, wanted: list[str], seconds: float = 120) -> list[str]:
    """Waits until all are acknowledged; what came."""

    def is_over() -> bool:  # RabbitMQ does not tell what is being handled
        return way.rig.backlog(way.handler) == 0 and set(wanted) <= set(way.received())

    way.rig.wait(is_over, "all there and acknowledged", seconds)
    found = way.received()
    assert set(found) == set(wanted)  # nothing lost, and no id that nobody knows
    assert way.rig.dead(way.handler) == 0
    return found


@pytest.mark.promise("D1", "I3")
@over(*WAYS)
def test_exactly_once_without_faults(way: Way) -> None:
    events = mails(25)
    wanted = [event.id for event in events]
    way.rig.publish(way.handler, events)
    way.start()
    assert Counter(finish(way, wanted)) == Counter(wanted)


@pytest.mark.promise("D1", "I3")
@pytest.mark.parametrize(
    ("way", "step"), [(n, s) for n in WAYS for s in steps(n)], indirect=["way"]
)
def test_killed_at_any_step(way: Way, step: str) -> None:
    events = mails(12)
    if step == "counted":
        assert isinstance(way, Forwarded)
        way.down()
    way.rig.publish(way.handler, events)
    killed: Any = way.start(step)
    way.rig.wait(lambda: killed.poll() is not None, "its end")
    if step == "counted" and isinstance(way, Forwarded):
        way.up()
    way.rig.due_now()
    way.start()
    found = finish(way, [event.id for event in events])
    # What was in hand at that moment may come twice, under its id: all five that a program had, as
    # another thread than the one that handles them acknowledges.
    assert len(found) <= len(events) + (5 if isinstance(way, ByQueue) else 2)


@pytest.mark.promise("D1", "I3")
@over(*FORWARDED)
def test_the_far_side_is_down_for_an_hour(way: Forwarded) -> None:
    events = mails(10)
    way.down()
    way.rig.publish(way.handler, events)
    way.start()
    way.rig.wait(lambda: bool(way.rig.attempts(way.handler)), "a failure in the log")
    way.rig.stack.stop()
    way.rig.stack.execute(
        "UPDATE forward_retry SET first_failed_at = first_failed_at - interval '1 hour'"
    )
    way.rig.due_now()
    way.up()
    way.start()
    found = finish(way, [event.id for event in events])
    assert len(found) <= len(events) + 2


@pytest.mark.promise("D1", "I3")
@over(*FORWARDED)
def test_it_goes_down_after_it_had_taken_some(way: Forwarded) -> None:
    """The connection is there and was used: what is sent over it counts once it is confirmed."""
    before, after = mails(4), mails(4)
    way.rig.publish(way.handler, before)
    way.start()
    finish(way, [event.id for event in before])
    way.down()
    way.rig.publish(way.handler, after)
    way.rig.wait(
        lambda: any(one.outcome == "failed" for one in way.rig.attempts(way.handler)),
        "a failure in the log",
    )
    assert way.rig.backlog(way.handler) == len(after)
    way.rig.stack.stop()
    way.rig.due_now()
    way.up()
    way.start()
    finish(way, [event.id for event in (*before, *after)])


@pytest.mark.promise("D1", "I3")
@over("queue", "queue-rabbitmq")
def test_a_program_does_not_run_for_an_hour(way: Way) -> None:
    """What was put into its queue at the beginning of that hour is there, and still verified."""
    events = mails(10)
    wanted = [event.id for event in events]
    way.rig.publish(way.handler, events, at=time.time() - 3600)
    way.start()
    assert Counter(finish(way, wanted)) == Counter(wanted)


@pytest.mark.promise("D1", "I3")
@over(*FORWARDED)
def test_it_answers_too_late(way: Forwarded) -> None:
    """It may have had the event: it comes again, under its id."""
    events = mails(4)
    way.stall()
    way.rig.publish(way.handler, events)
    way.start()
    way.rig.wait(lambda: bool(way.rig.attempts(way.handler)), "a failure in the log")
    way.up()
    finish(way, [event.id for event in events])


@pytest.mark.promise("D1", "I3")
@over("queue", "queue-rabbitmq")
def test_a_program_stands_still_and_answers_too_late(way: Way) -> None:
    """Another one has had its event by then: two answers to one event, and none to another."""
    events = mails(12)
    wanted = [event.id for event in events]
    way.rig.publish(way.handler, events)
    late: Any = way.start("stalled")
    stopped = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
    way.rig.wait(lambda: os.waitid(os.P_PID, late.pid, stopped) is not None, "it stands still")
    assert way.received() == wanted[:4]
    way.start()
    before = finish(way, wanted)
    late.send_signal(signal.SIGCONT)
    way.rig.wait(lambda: len(way.received()) > len(before), "its late answer")
    after = mails(12)
    way.rig.publish(way.handler, after)
    finish(way, [*wanted, *(event.id for event in after)])


@pytest.mark.promise("D1", "I3")
@over(*WAYS)
def test_it_loses_its_state(way: Way) -> None:
    """What it had confirmed is its own loss; all that comes after arrives."""
    before, after = mails(6), mails(6)
    way.rig.publish(way.handler, before)
    way.start()
    finish(way, [event.id for event in before])
    way.forget()
    way.rig.publish(way.handler, after)
    finish(way, [event.id for event in after])


@pytest.mark.promise("D1", "I3")
@over(*TWICE)
def test_it_answers_twice(way: Forwarded) -> None:
    """A second answer to one request is taken for the answer to no other."""
    events = mails(25)
    wanted = [event.id for event in events]
    way.rig.publish(way.handler, events)
    way.start()
    assert Counter(finish(way, wanted)) == Counter(wanted)
    assert way.proxy is not None and way.proxy.doubled >= len(wanted)


@pytest.mark.promise("D1", "I3")
@over("nats")
def test_it_confirms_twice(way: Way) -> None:
    """A message that the stream has already is confirmed as a repeat, and stored once."""
    events = mails(3)
    way.rig.publish(way.handler, events)
    way.start()
    finish(way, [event.id for event in events])
    way.rig.publish(way.handler, events)
    assert Counter(finish(way, [e.id for e in events])) == Counter(e.id for e in events)
    answers = [line.answer for line in way.rig.attempts(way.handler)]
    way.rig.wait(
        lambda: any("already" in line.answer for line in way.rig.attempts(way.handler)),
        f"the word of the repeat beside {answers}",
    )
