"""A node of a RabbitMQ cluster dies, on which everything is led: what waits on it goes on.

For an administrator: a broker that stays away is failing on the overview (rows Broker and
Handlers' queues), in the alert `service-failing` and in
`posthouse_service_failing{check="broker"}`, as test_own_health.py asserts; one that heals within
a minute is told to nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from posthouse.testing import make_event
from shared.errors import TryAgain
from shared.queueing.broker import build_broker, enqueue
from shared.queueing.output.open import open_output
from shared.queueing.output.rabbitmq_queues import queue_name
from tests.integration.queueing.conftest import Consumers, Workers, eventually, make_queue, signed
from tests.servers.rabbitmq import RabbitServer
from tests.servers.rabbitmq_cluster import RabbitCluster

pytestmark = [pytest.mark.promise("I2"), pytest.mark.promise("I3")]

#: Seconds from the death of a node until everything goes on.
HEALED_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[RabbitCluster]:
    with RabbitCluster() as made:
        yield made


class Traffic:
    """Events and jobs without end, each tried until it is confirmed, and who takes them."""

    def __init__(self, url: str, handler: str, queue: str) -> None:
        self._handler, self._queue = handler, queue
        self._output, self._jobs = open_output(url), build_broker(url, queues=[queue])
        self._stop = threading.Event()
        #: What was confirmed: (when it was first tried, id).
        self.published: list[tuple[float, str]] = []
        self.enqueued: list[tuple[float, str]] = []
        self.handled: list[str] = []
        self.worked: list[str] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=(one, confirmed))
            for one, confirmed in (
                (self._publish, self.published),
                (self._enqueue, self.enqueued),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def goes_on(self, since: float) -> dict[str, bool]:
        """Whether what was begun after `since` was confirmed, and arrived."""
        events = {name for at, name in self.published if at > since}
        jobs = {name for at, name in self.enqueued if at > since}
        return {
            "publisher": bool(events),
            "consumer": bool(events.intersection(self.handled)),
            "jobs": bool(jobs),
            "worker": bool(jobs.intersection(self.worked)),
        }

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._output.close()
        self._jobs.close()

    def lost(self) -> tuple[int, int]:
        """Events and jobs that were confirmed and did not arrive (yet)."""
        events = {name for _, name in self.published}.difference(self.handled)
        jobs = {name for _, name in self.enqueued}.difference(self.worked)
        return len(events), len(jobs)

    def _repeat(
        self, one: Callable[[], Callable[[], str]], confirmed: list[tuple[float, str]]
    ) -> None:
        while not self._stop.is_set():
            at, attempt = time.monotonic(), one()
            while not (name := attempt()) and not self._stop.wait(0.2):
                pass
            if name:
                confirmed.append((at, name))
            self._stop.wait(0.02)

    def _publish(self) -> Callable[[], str]:
        event = make_event()
        publication = signed(self._handler, event.to_json(), event.id)
        return lambda: event.id if isinstance(self._output.publish([publication])[0], str) else ""

    def _enqueue(self) -> Callable[[], str]:
        name = make_event().id

        def attempt() -> str:
            try:
                enqueue(self._jobs, self._queue, "work", [name])
            except TryAgain:
                return ""
            return name

        return attempt


def heal_from_death(cluster: RabbitCluster, node: RabbitServer, traffic: Traffic) -> None:
    """Kills a node; returns when everything goes on, with what was tried after its death."""
    node.kill()
    killed_at = time.monotonic()
    cluster.route_to(cluster.others()[0])
    healed: dict[str, float] = {}

    def healthy() -> bool:
        for part, well in traffic.goes_on(killed_at).items():
            if well:
                healed.setdefault(part, time.monotonic() - killed_at)
        return len(healed) == len(traffic.goes_on(killed_at))

    try:
        eventually(healthy, seconds=HEALED_S)
    finally:
        print({part: f"{seconds:.1f} s" for part, seconds in healed.items()})


@pytest.fixture
def traffic(cluster: RabbitCluster, handler: str, queue: str) -> Iterator[Traffic]:
    """Its queues are led by the first node."""
    leader = cluster.nodes[0]
    output, jobs = open_output(leader.url), build_broker(leader.url, queues=[queue])
    make_queue(output, handler)
    enqueue(jobs, queue, "work", ["first"])
    output.close()
    jobs.close()
    assert cluster.leader_of(queue_name(handler)) is leader
    assert cluster.leader_of(queue) is leader
    made = Traffic(cluster.url, handler, queue)
    yield made
    made.end()


@pytest.mark.parametrize(
    "connected", ["to the leader", pytest.param("to another node", marks=pytest.mark.long)]
)
def test_the_leader_of_the_queues_dies(
    cluster: RabbitCluster,
    traffic: Traffic,
    connected: str,
    handler: str,
    queue: str,
    workers: Workers,
    consumers: Consumers,
) -> None:
    """Connections to another node stay open: nobody there is told."""
    leader, other = cluster.nodes[:2]
    cluster.route_to(leader if connected == "to the leader" else other)
    traffic.start()
    consumers.start(cluster.url, handler, lambda event: traffic.handled.append(event.id))
    workers.start(cluster.url, queue, traffic.worked.append)
    eventually(lambda: all(traffic.goes_on(0).values()))
    try:
        heal_from_death(cluster, leader, traffic)
    finally:
        traffic.end()
        leader.start()
    eventually(lambda: traffic.lost() == (0, 0))


@pytest.mark.long
def test_one_leader_after_another_dies(
    cluster: RabbitCluster,
    traffic: Traffic,
    handler: str,
    queue: str,
    workers: Workers,
    consumers: Consumers,
) -> None:
    """Each is back before the next one dies: in turn every node misses a while."""
    cluster.route_to(cluster.nodes[0])
    traffic.start()
    consumers.start(cluster.url, handler, lambda event: traffic.handled.append(event.id))
    workers.start(cluster.url, queue, traffic.worked.append)
    eventually(lambda: all(traffic.goes_on(0).values()))
    for _ in cluster.nodes:
        leader = cluster.leader_of(queue_name(handler))
        try:
            heal_from_death(cluster, leader, traffic)
        finally:
            leader.start()
        back_at = time.monotonic()
        eventually(lambda at=back_at: all(traffic.goes_on(at).values()))  # type: ignore[misc]
    traffic.end()
    eventually(lambda: traffic.lost() == (0, 0))
