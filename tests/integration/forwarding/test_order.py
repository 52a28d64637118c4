"""The mails of one connection in order, whichever of several forwarders sends them."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Sequence

import pytest

from posthouse import MailEvent
from tests.integration.forwarding.conftest import Rig, ids_of, mails
from tests.servers.webhooks import Received, Receiver

Answer = tuple[int, dict[str, str], bytes]
FORWARDERS = ("forwarder", "forwarder", "forwarder")


def mixed(connections: int, count: int) -> list[MailEvent]:
    """Of several connections in turn."""
    each = [mails(count, connection=number) for number in range(1, connections + 1)]
    return [event for events in zip(*each, strict=True) for event in events]


def sequences(received: Sequence[Received]) -> dict[str, list[int]]:
    """By connection those of its mails, as they were first there."""
    found: dict[str, list[int]] = defaultdict(list)
    known: set[str] = set()
    for one in received:
        event = json.loads(one.body)
        if event["id"] not in known:
            known.add(event["id"])
            found[event["source"]].append(event["data"]["sequence"])
    return found


class InOrder:
    """Takes mails, and notes two of a connection that are there at a time."""

    def __init__(self) -> None:
        self.overlapping = 0
        self._here: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, request: Received) -> Answer:
        source = json.loads(request.body)["source"]
        with self._lock:
            self.overlapping += source in self._here
            self._here.add(source)
        threading.Event().wait(0.002)  # room for another forwarder's to overtake
        with self._lock:
            self._here.discard(source)
        return 200, {}, b""


@pytest.mark.promise("D1")
def test_of_several_forwarders_one_sends_in_order(rig: Rig, receiver: Receiver) -> None:
    receiver.decide = watch = InOrder()
    handler, _ = rig.add(receiver.url, order="connection")
    rig.publish(handler, mixed(3, 20))
    rig.stack.start(*FORWARDERS)
    rig.wait(lambda: len(set(ids_of(receiver.received))) == 60, "all", 90)
    assert rig.all_acknowledged(handler)
    wanted = list(range(1, 21))
    assert sequences(receiver.received) == {f"/connections/{n}": wanted for n in (1, 2, 3)}
    assert watch.overlapping == 0


@pytest.mark.promise("D1")
def test_another_goes_on_where_one_is_stopped(redis_rig: Rig, receiver: Receiver) -> None:
    receiver.decide = watch = InOrder()
    handler, _ = redis_rig.add(receiver.url, order="connection")
    redis_rig.publish(handler, mixed(3, 40))
    forwarders = redis_rig.stack.start(*FORWARDERS)
    redis_rig.wait(lambda: bool(receiver.received), "the first")
    (sender,) = redis_rig.stack.query("SELECT sender FROM forward")[0]
    (sending,) = [one for one in forwarders if f"-{one.pid}-" in sender]
    sending.terminate()
    sending.wait(40)
    redis_rig.stack.processes.remove(sending)
    redis_rig.wait(lambda: len(set(ids_of(receiver.received))) == 120, "all", 90)
    assert redis_rig.all_acknowledged(handler)
    wanted = list(range(1, 41))
    assert sequences(receiver.received) == {f"/connections/{n}": wanted for n in (1, 2, 3)}
    assert watch.overlapping == 0


@pytest.mark.promise("D1")
def test_what_a_killed_forwarder_had_in_hand_comes_before_what_followed(
    redis_rig: Rig, receiver: Receiver
) -> None:
    receiver.decide = InOrder()
    handler, _ = redis_rig.add(receiver.url, order="connection")
    redis_rig.publish(handler, mixed(2, 30))
    (killed,) = redis_rig.stack.start("forwarder", die_at="answered:15")
    redis_rig.wait(lambda: bool(receiver.received), "that it sends")
    redis_rig.stack.start("forwarder", "forwarder")
    redis_rig.wait(lambda: len(set(ids_of(receiver.received))) == 60, "all", 90)
    assert killed.poll() is not None
    assert redis_rig.all_acknowledged(handler)
    wanted = list(range(1, 31))
    assert sequences(receiver.received) == {f"/connections/{n}": wanted for n in (1, 2)}


def test_one_that_is_not_taken_holds_up_its_connection_alone(
    redis_rig: Rig, receiver: Receiver
) -> None:
    events = mixed(2, 5)
    refused = events[2].id  # the second of the first connection
    tries: list[str] = []

    def decide(request: Received) -> Answer:
        tries.append(request.headers["webhook-id"])
        return (500 if tries.count(refused) == 1 and tries[-1] == refused else 200), {}, b""

    receiver.decide = decide
    handler, _ = redis_rig.add(receiver.url, order="connection")
    redis_rig.publish(handler, events)
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: len(set(ids_of(receiver.received))) == 10, "all")
    assert redis_rig.all_acknowledged(handler)
    assert tries.count(refused) == 2
    others = [one.id for one in events if one.source == "/connections/2"]
    last_of_others = max(tries.index(one) for one in others)
    again = len(tries) - 1 - tries[::-1].index(refused)
    assert last_of_others < again  # they did not wait for it
    assert sequences(receiver.received)["/connections/1"] == [1, 2, 3, 4, 5]
