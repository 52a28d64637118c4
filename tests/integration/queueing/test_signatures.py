"""Who can write to the broker cannot invent events: on both brokers, through dead letters too."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable

import pika
import pytest
import redis

from posthouse import MailEvent, follow
from posthouse.signing import sign
from posthouse.testing import make_event
from shared.queueing.output import Output, Publication
from tests.integration.queueing.conftest import (
    SIGNING_KEY,
    Consumers,
    Server,
    eventually,
    make_queue,
    signed,
)
from tests.integration.queueing.test_consumer import send
from tests.integration.queueing.test_consumer_examples import EXAMPLES

_OTHER = "posthouse_signing_of_another"


def forge(url: str, handler: str, event: MailEvent) -> None:
    """As somebody does it who knows the broker's password and the contract, but no key."""
    if url.startswith("redis"):
        client = redis.Redis.from_url(url)
        client.xadd(f"posthouse:handler:{handler}", {"event": event.to_json()})
        client.close()
        return
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            "posthouse.mail", f"handler.{handler}", event.to_json(), mandatory=True
        )


def test_an_invented_event_is_rejected_and_never_handled(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    got: list[str] = []
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    invented, honest = make_event(subject="invented"), make_event()
    foreign, copied = make_event(subject="foreign"), make_event(subject="copied")
    forge(server.url, handler, invented)
    output.publish([signed(handler, foreign.to_json(), foreign.id, _OTHER)])
    # Signed, but for another handler.
    signature = sign("another", copied.to_json(), [SIGNING_KEY])
    output.publish([Publication(handler, copied.to_json(), copied.id, signature)])
    send(output, handler, honest)
    eventually(lambda: output.inspect(handler).dead == 3 and got == [honest.id])
    eventually(lambda: output.inspect(handler).drained)
    dead = {letter.event_id: letter.reason for letter in output.dead(handler)}
    assert set(dead) == {invented.id, foreign.id, copied.id}
    assert all(reason.startswith("not verified: ") for reason in dead.values())
    assert "not signed" in dead[invented.id]


def test_what_was_rejected_is_not_vouched_for_when_it_is_delivered_again(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    got: list[str] = []
    stop = consumers.start(
        server.url, handler, lambda event: got.append(event.id), signing_key=_OTHER
    )
    honest, invented = make_event(), make_event()
    send(output, handler, honest)  # the program was given the wrong key
    forge(server.url, handler, invented)
    eventually(lambda: output.inspect(handler).dead == 2)
    stop()
    assert len(output.deliver_dead_again(handler)) == 2
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    eventually(lambda: got == [honest.id] and output.inspect(handler).dead == 1)
    assert output.dead(handler)[0].event_id == invented.id


def test_a_replay_of_what_was_handled_is_not_handled_again(
    server: Server, output: Output, handler: str, consumers: Consumers
) -> None:
    make_queue(output, handler)
    got: list[str] = []
    consumers.start(server.url, handler, lambda event: got.append(event.id))
    event, after = make_event(), make_event()
    publication = signed(handler, event.to_json(), event.id)
    output.publish([publication])
    eventually(lambda: got == [event.id])
    output.publish([publication])
    send(output, handler, after)
    eventually(lambda: output.inspect(handler).drained and after.id in got)
    assert got == [event.id, after.id]


def test_following_leaves_out_what_is_not_signed(
    server: Server, output: Output, handler: str
) -> None:
    make_queue(output, handler)
    stop, honest, seen = threading.Event(), make_event(), list[str]()
    following = follow(server.url, handler, backlog=True, signing_key=SIGNING_KEY, stop=stop)
    thread = threading.Thread(target=lambda: seen.extend(event.id for event in following))
    thread.start()

    def told() -> bool:
        # On RabbitMQ it sees what is published once its own queue is there.
        forge(server.url, handler, make_event())
        send(output, handler, honest)
        return bool(seen)

    eventually(told)
    stop.set()
    thread.join(20)
    assert set(seen) == {honest.id}


@pytest.fixture
def node() -> Callable[[str, bytes, str], subprocess.CompletedProcess[bytes]]:
    def run(handler: str, event: bytes, signature: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["node", EXAMPLES / "verify_node.mjs", handler, signature],
            input=event,
            capture_output=True,
            check=False,
            env={**os.environ, "POSTHOUSE_SIGNING_KEY": f"{_OTHER} {SIGNING_KEY}"},
        )

    return run


def test_a_consumer_in_node_verifies_as_documented(
    node: Callable[[str, bytes, str], subprocess.CompletedProcess[bytes]],
) -> None:
    event = make_event(subject="Grüße").to_json()
    signature = sign("tickets", event, [SIGNING_KEY])
    assert node("tickets", event, signature).returncode == 0
    for wrong in (
        ("crm", event, signature),
        ("tickets", event + b" ", signature),
        ("tickets", event, ""),
        ("tickets", event, sign("tickets", event, ["posthouse_signing_x"])),
        ("tickets", event, sign("tickets", event, [SIGNING_KEY], now=1)),
    ):
        assert node(*wrong).returncode == 1, wrong
