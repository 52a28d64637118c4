"""A cluster of RabbitMQ nodes behind one address, as a load balancer or a Service has it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.rig.proxy import Proxy
from tests.servers.rabbitmq import RabbitServer


class RabbitCluster:
    """Three nodes; any of them may be killed. It takes about twenty seconds to start.

    `url` is the one address; `route_to` says which node new connections reach.
    """

    def __init__(self) -> None:
        first = RabbitServer(name="one")
        self.nodes = [first, *(RabbitServer(name=name, first=first) for name in ("two", "three"))]
        self._proxy = Proxy(first.port, seed=1)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._proxy.port}/%2F"

    def route_to(self, node: RabbitServer) -> None:
        """New connections reach this node; those that are open stay where they are."""
        self._proxy.target = node.port

    def leader_of(self, queue: str) -> RabbitServer:
        """The node where a queue is led (quorum) or lives (classic)."""
        living = next(node for node in self.nodes if node.process.running)
        rows = living.control("list_queues", "name", "pid", "--no-table-headers").splitlines()
        process = dict(row.split("\t") for row in rows)[queue]
        return next(node for node in self.nodes if f"<{node.node}." in process)

    def others(self, *nodes: RabbitServer) -> list[RabbitServer]:
        """Those that run, without these."""
        return [node for node in self.nodes if node not in nodes and node.process.running]

    def __enter__(self) -> RabbitCluster:
        try:
            self.nodes[0].start()
            with ThreadPoolExecutor() as pool:
                list(pool.map(RabbitServer.start, self.nodes[1:]))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._proxy.close()
        for node in reversed(self.nodes):
            node.close()
