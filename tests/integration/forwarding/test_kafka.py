"""Events in a Kafka topic: on librdkafka's mock cluster and on Tansu, each after its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from confluent_kafka import KafkaError

from shared.forwarding.kafka_client import outcome_of
from shared.forwarding.outcome import ForwardVerdict
from tests.integration.forwarding.conftest import Rig, mails
from tests.servers.kafka import KafkaBroker, MockCluster, TansuBroker


@pytest.fixture(params=["mock", "tansu"])
def kafka(request: pytest.FixtureRequest) -> KafkaBroker:
    name = "kafka_cluster" if request.param == "mock" else "kafka_broker"
    found: KafkaBroker = request.getfixturevalue(name)
    return found


@pytest.mark.promise("D1")
@pytest.mark.parametrize("form", ["structured", "binary"])
def test_every_event_is_produced_once(redis_rig: Rig, kafka: KafkaBroker, form: str) -> None:
    handler, _ = redis_rig.add(kafka.url, topic="mail", format=form)
    events = mails(20, text="Grüße", connection=7)
    redis_rig.publish(handler, events)
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
    wanted = {event.id: json.loads(event.to_json()) for event in events}
    found = kafka.messages("mail")
    assert len(found) == 20
    for message in found:
        assert message.key == b"/connections/7"
        headers = message.headers
        if form == "structured":
            event = json.loads(message.value)
            assert headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
            assert event == wanted.pop(event["id"])
        else:
            assert headers["content-type"] == "application/json"
            assert headers["ce_type"] == "posthouse.mail.received.v1"
            assert json.loads(message.value) == wanted.pop(headers["ce_id"])["data"]
    assert not wanted


def test_mails_of_one_thread_have_one_key(redis_rig: Rig, kafka_broker: TansuBroker) -> None:
    kafka_broker.add_topic("mail", 4)
    handler, _ = redis_rig.add(kafka_broker.url, topic="mail", key="thread")
    events = [
        replace(event, mail=replace(event.mail, thread=f"thread-{n % 3}"))
        for n, event in enumerate(mails(12))
    ]
    redis_rig.publish(handler, events)
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
    found = kafka_broker.messages("mail")
    assert len(found) == 12
    places = {(one.key, one.partition) for one in found}
    assert sorted(key for key, _ in places) == [b"thread-0", b"thread-1", b"thread-2"]


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "make the topic there"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "ACL Write"),
        (KafkaError._AUTHENTICATION, "correct username"),
    ],
    ids=["topic", "rights", "login"],
)
def test_what_a_broker_refuses_is_said_with_what_to_do(code: int, hint: str) -> None:
    """Both brokers here make every topic and let everybody in, so the errors are made by hand."""
    outcome = outcome_of(KafkaError(code), None, 0.0)
    assert outcome.verdict is ForwardVerdict.UNAVAILABLE
    assert hint in outcome.detail


def test_larger_than_the_broker_takes_is_sent_by_reference() -> None:
    error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    assert outcome_of(error, None, 0.0).verdict is ForwardVerdict.TOO_LARGE


def test_what_is_too_large_goes_by_reference(redis_rig: Rig, kafka_cluster: MockCluster) -> None:
    handler, _ = redis_rig.add(kafka_cluster.url, topic="mail", links="signed", max_bytes=8192)
    (event,) = mails(1, text="long " * 8000)
    redis_rig.publish(handler, [event])
    redis_rig.stack.start("forwarder")
    redis_rig.wait(lambda: redis_rig.backlog(handler) == 0, "acknowledged")
    (message,) = kafka_cluster.messages("mail")
    data = json.loads(message.value)["data"]
    assert "inline" not in data["raw"]
    assert "sig=" in data["raw"]["url"]
    assert len(message.value) < 8192


@pytest.mark.parametrize("which", ["of the address", "advertised"])
def test_nothing_is_sent_where_the_host_lists_forbid_it(
    redis_rig: Rig, kafka_broker: TansuBroker, which: str,
    start_tansu: Callable[[str], TansuBroker],
) -> None:  # fmt: skip
    """Also not where a broker that may be spoken to names one inside."""
    broker, denied = kafka_broker, "127.0.0.0/8"
    if which == "advertised":
        broker, denied = start_tansu("127.0.0.2"), "127.0.0.2/32"
    handler, _ = redis_rig.add(broker.url, topic="mail", timeout_seconds=3)
    redis_rig.publish(handler, mails(2))
    redis_rig.stack.start("forwarder", settings={"denied_hosts": denied})
    redis_rig.wait(lambda: bool(redis_rig.attempts(handler)), "a refusal in the log")
    assert "not allowed" in redis_rig.attempts(handler)[0].detail
    assert redis_rig.backlog(handler) == 2
