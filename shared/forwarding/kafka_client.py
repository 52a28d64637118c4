"""Produces events to a Kafka topic, each acknowledged by its delivery report.

CloudEvents 1.0.2 Kafka protocol binding. The producer is idempotent and waits for all in-sync
replicas, so a try of librdkafka's own is no repeat; one of the forwarder's bears the same id.
"""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from shared.allowed_hosts import HostRules
from shared.errors import PosthouseError
from shared.forwarding.content_modes import fields_and_body
from shared.forwarding.kafka_brokers import Brokers
from shared.forwarding.outcome import ForwardOutcome, delivered, too_large, unavailable
from shared.forwards import Endpoint, RecordKey

_STRUCTURED: Final = "application/cloudevents+json; charset=UTF-8"
#: Seconds beyond librdkafka's own timeout that a delivery report is waited for.
_GRACE_S: Final = 5.0
#: What a message may be beyond its value: the headers of binary mode, and Kafka's framing.
_ROOM: Final = 65_536
_WHAT_TO_DO: Final = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "make the topic there, or correct its name",
    KafkaError._UNKNOWN_TOPIC: "make the topic there, or correct its name",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "let this user write to the topic (ACL Write)",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "let this user write idempotently (IdempotentWrite)",
    KafkaError._AUTHENTICATION: "correct username, password or mechanism",
}


class KafkaClient:
    """One producer. Thread-safe. Close it."""

    def __init__(self, endpoint: Endpoint, hosts: HostRules | None) -> None:
        self._endpoint = endpoint
        self._timeout_s = float(endpoint.options.timeout_seconds)
        self._brokers = Brokers(endpoint, hosts)
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._dropped: list[Producer] = []  # until their last reports are given out
        self._said: KafkaError | None = None  # the client's last complaint
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka", daemon=True)
        self._thread.start()

    def send(self, key: str, event: bytes) -> ForwardOutcome:
        """See `EndpointClient`. The header `posthouse_key` has `key`, where that is not the id."""
        started = time.monotonic()
        report: Future[KafkaError | None] = Future()

        def reported(error: KafkaError | None, _message: Message) -> None:
            report.set_result(error)

        try:
            producer = self._open()
            form = self._endpoint.options.format
            fields, value = fields_and_body(
                event, form, structured=_STRUCTURED, prefix="ce_", quoted=False
            )
            producer.produce(
                self._endpoint.options.topic,
                value,
                key=_partition_key(event, self._endpoint.options.key),
                headers=[
                    (n, text.encode()) for n, text in (fields | {"posthouse_key": key}).items()
                ],
                on_delivery=reported,
            )
            error = report.result(self._timeout_s + _GRACE_S)
        except PosthouseError as refused:
            return unavailable(started, str(refused))
        except KafkaException as failed:
            error = failed.args[0]
        except BufferError:
            return unavailable(started, "Too much waits for Kafka already.")
        except TimeoutError:
            self._drop()
            return unavailable(started, "No delivery report in time.")
        if error is None:
            return delivered(started)
        if error.fatal() or error.code() == KafkaError._MSG_TIMED_OUT:
            # A producer never finds a cluster again that was made anew: its metadata look older.
            self._drop()
        said, self._said = self._said, None
        return outcome_of(error, said, started)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.poll(0)

    def _open(self) -> Producer:
        """The producer, once its brokers are found allowed; that is looked at again every minute.
        Raises PosthouseError, KafkaException."""
        with self._lock:
            self._brokers.check()
            if self._producer is None:
                self._producer = Producer(self._settings())
            return self._producer

    def _settings(self) -> dict[str, Any]:
        return self._brokers.settings() | {
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": int(self._timeout_s * 1000),
            "message.max.bytes": self._endpoint.options.max_bytes + _ROOM,
            "linger.ms": 1,
            "error_cb": self._complained,
        }

    def _complained(self, error: KafkaError) -> None:
        self._said = error

    def _drop(self) -> None:
        """The next event gets a new producer, once the brokers were looked at again."""
        with self._lock:
            if self._producer is not None:
                self._dropped.append(self._producer)
            self._producer = None
            self._brokers.forget()

    def _poll(self) -> None:
        """Delivery reports are given out here."""
        while not self._ended.is_set():
            producer = self._producer
            if producer is None:
                self._ended.wait(0.01)
            else:
                producer.poll(0.1)
            for dropped in list(self._dropped):
                dropped.poll(0)
                if not len(dropped):
                    self._dropped.remove(dropped)


def outcome_of(error: KafkaError, said: KafkaError | None, started: float) -> ForwardOutcome:
    """What follows from an error of a delivery report. `said`: what the client complained of
    meanwhile, which tells why nothing came in time."""
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return too_large(started, "It is larger than Kafka takes (message.max.bytes).")
    why = said if said is not None and error.code() == KafkaError._MSG_TIMED_OUT else error
    hint = _WHAT_TO_DO.get(why.code())
    return unavailable(started, f"Kafka: {why.str()}" + (f": {hint}." if hint else "."))


def _partition_key(event: bytes, key: RecordKey) -> bytes:
    """What has the same one comes to the same partition, in order."""
    fields = json.loads(event)
    thread = (fields["data"].get("mail") or {}).get("thread") if key is RecordKey.THREAD else ""
    return str(thread or fields["source"]).encode()
