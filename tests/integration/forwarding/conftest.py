"""A forwarder of real processes between a broker and an endpoint, without mailboxes: events are
published as the decryptor publishes them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from posthouse import MailEvent
from posthouse.event_data import Connection
from posthouse.signing import sign
from posthouse.testing import make_event
from shared.queueing.output import Output, Publication
from shared.queueing.output.open import open_output
from shared.storage import forwards
from shared.storage.forwards import ForwardAttempt
from tests.rig.queue_events import emptied
from tests.rig.stack import SIGNING_KEY, Stack
from tests.servers.rabbitmq import RabbitServer
from tests.servers.webhooks import Received


@dataclass
class Rig:
    """One stack with a handler a test; `publish` puts events into its queue."""

    stack: Stack
    output: Output
    names: dict[int, str] = field(default_factory=dict)

    def add(self, address: str, **fields: Any) -> tuple[int, str]:
        """A handler with a queue, forwarded to `address`: its id, and the signing secret."""
        name = f"h-{uuid.uuid4().hex[:12]}"
        handler_id = self.stack.add_handler(name)
        self.names[handler_id] = name
        self.output.ensure(name, "g")
        return handler_id, self.stack.forward(handler_id, address, **fields)

    def publish(
        self, handler_id: int, events: Sequence[MailEvent], *, at: float | None = None
    ) -> None:
        """`at`: when they were signed, in seconds since 1970; now by default."""
        name = self.names[handler_id]
        batch = [
            Publication(name, body, event.id, sign(name, body, [SIGNING_KEY], now=at))
            for event in events
            for body in [event.to_json()]
        ]
        for start in range(0, len(batch), 500):
            results = self.output.publish(batch[start : start + 500])
            assert all(isinstance(result, str) for result in results), results[:3]

    def backlog(self, handler_id: int) -> int:
        """What nobody acknowledged."""
        return self.output.inspect(self.names[handler_id]).backlog

    def all_acknowledged(self, handler_id: int) -> bool:
        """Ends the forwarders in order, as RabbitMQ does not tell what is being handled."""
        self.stack.stop()
        return self.backlog(handler_id) == 0

    def dead(self, handler_id: int) -> int:
        return self.output.inspect(self.names[handler_id]).dead

    def attempts(self, handler_id: int) -> list[ForwardAttempt]:
        """The delivery log, oldest first."""
        with self.stack.database.transaction() as session:
            return forwards.attempts(session, handler_id, limit=500)[::-1]

    def due_now(self) -> None:
        """Lets the pauses of events that failed pass, for forwarders that start after this."""
        self.stack.execute("UPDATE forward_retry SET next_attempt_at = now()")

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        self.stack.wait(condition, what, seconds)


def mails(count: int, *, connection: int = 1, **fields: Any) -> list[MailEvent]:
    """Events with numbered subjects."""
    where = Connection(connection, f"box {connection}", "imap", f"box{connection}@example.com")
    return [
        make_event(subject=f"Mail {n}", connection=where, sequence=n + 1, **fields)
        for n in range(count)
    ]


def ids_of(received: Sequence[Received]) -> list[str]:
    return [one.headers["webhook-id"] for one in received]


@pytest.fixture
def rig(broker_url: str, build_stack: Callable[..., Stack]) -> Iterator[Rig]:
    """On Redis and on RabbitMQ."""
    stack = build_stack(broker_url, forward_check_seconds="0.2", forward_stale_seconds="2")
    yield from _rigged(stack)


@pytest.fixture
def redis_rig(redis_url: str, build_stack: Callable[..., Stack]) -> Iterator[Rig]:
    """Where the broker makes no difference."""
    stack = build_stack(redis_url, forward_check_seconds="0.2", forward_stale_seconds="2")
    yield from _rigged(stack)


@pytest.fixture
def rabbit_rig(rabbit_server: RabbitServer, build_stack: Callable[..., Stack]) -> Iterator[Rig]:
    """Where what RabbitMQ does is looked at."""
    yield from _rigged(build_stack(emptied(rabbit_server.url)))


def _rigged(stack: Stack) -> Iterator[Rig]:
    output = open_output(stack.output_url)
    rig = Rig(stack, output)
    yield rig
    stack.stop()
    for name in rig.names.values():
        output.delete(name)
    output.close()
