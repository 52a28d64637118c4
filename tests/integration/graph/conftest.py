"""Sessions with the test Graph, whose pauses are counted and not waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.connections import Connection, Mode
from shared.mailbox.graph.http import GraphHttp
from shared.mailbox.graph.mailbox import GraphMailbox
from shared.mailbox.net.request_limits import ProcessLimiter
from shared.mailbox.net.transcript import Transcript
from shared.storage.pool import Database
from shared.storage.request_limits import PostgresLimiter
from tests.servers.graph import GraphServer
from tests.servers.graph.mailboxes import GraphMailbox as Box

ALICE = "alice@example.org"


class Unhurried(ProcessLimiter):
    """Counts what Retry-After asks for without anybody waiting for it."""

    def pause(self, mailbox: str, seconds: float) -> None:
        pass


@contextmanager
def process(url: str, **limits: Any) -> Iterator[PostgresLimiter]:
    """What a service has: a limiter and the thread that looks after it."""
    stop = threading.Event()
    with Database(url, size=6) as database:
        limiter = PostgresLimiter(database, **limits)
        thread = threading.Thread(target=limiter.run, args=(stop,))
        thread.start()
        try:
            yield limiter
        finally:
            stop.set()
            thread.join()


@dataclass
class Office:
    """One mailbox at the test Graph, and sessions with it."""

    server: GraphServer
    box: Box
    token: str
    pauses: list[float] = field(default_factory=list)
    renewed: int = 0

    def open(
        self,
        *,
        limiter: Any = None,
        application: str = "",
        pause_budget: float = 120,
        **changes: Any,
    ) -> GraphMailbox:
        values: dict[str, Any] = {
            "name": "graph",
            "mode": Mode.MICROSOFT_GRAPH,
            "username": ALICE,
            "credential_id": 1,
        }
        connection = Connection(**(values | changes))
        graph = GraphHttp(
            self.server.endpoint,
            connection.mailbox,
            self._access_token,
            limiter=limiter or Unhurried(),
            application=application,
            transcript=Transcript(),
            ca_certificate=self.server.ca,
            pause_budget=pause_budget,
            wait=self.pauses.append,
        )
        mailbox = GraphMailbox(graph, connection)
        mailbox.log_in()
        return mailbox

    def _access_token(self, renew: bool) -> str:
        if renew:
            self.renewed += 1
            self.token = self.server.token(ALICE)
        return self.token


@pytest.fixture
def office(graph_server: GraphServer) -> Office:
    box = graph_server.mailbox(ALICE)
    return Office(graph_server, box, graph_server.token(ALICE))
