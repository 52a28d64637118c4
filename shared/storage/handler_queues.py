"""How far each handler's queue is known to be acknowledged: what refills a lost queue.

The *watermark* of a handler is a time of Postgres' clock: every event that was recorded as
published before it is acknowledged. When the broker loses the queue, everything recorded at or
after the watermark is published again. It may lag behind (then handlers see repeats, with the
same event id); it must never run ahead.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from psycopg.types.json import Jsonb

from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("handler_queues")


@dataclass(frozen=True, slots=True)
class HandlerName:
    id: int
    name: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Remembered:
    """What Postgres knows of a queue. `now` is Postgres' clock when it was asked."""

    output: str
    generation: uuid.UUID | None
    incarnation: str
    restarted_at: datetime | None
    acknowledged: str
    watermark: datetime
    created_at: datetime | None
    now: datetime


class Observed(Protocol):
    """Who reads a queue, as the broker tells (`shared.queueing.output.base.QueueCounts`)."""

    @property
    def consumers(self) -> Sequence[Any] | None: ...
    @property
    def in_hand(self) -> Sequence[Any]: ...
    @property
    def read_position(self) -> str: ...
    @property
    def acknowledgements(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class WaitingMail:
    """A mail that a handler did not acknowledge; `subject` is None where the ledger forgot it."""

    message_id: uuid.UUID
    subject: str | None
    sender: str | None
    published_at: datetime
    position: str


@dataclass(frozen=True, slots=True)
class HeldMail:
    """A mail in hand at a consumer; `message_id` is None where its delivery is not recorded yet."""

    message_id: uuid.UUID | None
    subject: str | None
    consumer: str
    since: datetime
    deliveries: int


def handlers(session: Session) -> list[HandlerName]:
    return [HandlerName(*row) for row in session.execute(_SQL["handlers"])]


def lock(session: Session, handler_id: int) -> Remembered | None:
    """The row of a handler's queue, ours until the transaction ends; None where another has it."""
    session.execute(_SQL["ensure_row"], {"id": handler_id})
    row = session.execute(_SQL["lock"], {"id": handler_id}).fetchone()
    return Remembered(*row) if row else None


def recent_positions(session: Session, handler_id: int, since: datetime) -> list[str]:
    """Positions that the output confirmed after `since`, the last 500."""
    rows = session.execute(_SQL["recent_positions"], {"id": handler_id, "since": since})
    return [row[0] for row in rows]


def has_published(session: Session, handler_id: int, since: datetime) -> bool:
    """Whether an event was recorded as published at or after `since`."""
    row = session.execute(_SQL["has_published"], {"id": handler_id, "since": since}).fetchone()
    return bool(row and row[0])


def unacknowledged_positions(session: Session, handler_id: int, since: datetime) -> list[str]:
    """Positions of everything recorded as published at or after `since`, the watermark."""
    rows = session.execute(_SQL["unacknowledged_positions"], {"id": handler_id, "since": since})
    return [row[0] for row in rows]


def record_restart(session: Session, handler_id: int) -> None:
    """Records that the broker runs anew; keeps the time when that was first seen."""
    session.execute(_SQL["record_restart"], {"id": handler_id})


def published_at(session: Session, handler_id: int, message_id: uuid.UUID) -> datetime | None:
    row = session.execute(
        _SQL["published_at"], {"id": handler_id, "message_id": message_id}
    ).fetchone()
    return row[0] if row else None


def record_creation(session: Session, handler_id: int, output: str, generation: uuid.UUID) -> None:
    """Records the queue that is created next: empty but for what is published from now on."""
    session.execute(
        _SQL["record_creation"], {"id": handler_id, "output": output, "generation": generation}
    )


def record_observation(session: Session, handler_id: int, state: Observed) -> None:
    """Records who reads a queue, what is in hand and since when. Before `record_check`."""
    consumers = state.consumers
    session.execute(
        _SQL["record_observation"],
        {
            "id": handler_id,
            "consumers": None if consumers is None else Jsonb([asdict(one) for one in consumers]),
            "positions": [one.position for one in state.in_hand],
            "holders": [one.consumer for one in state.in_hand],
            "idle": [one.idle_s for one in state.in_hand],
            "deliveries": [one.deliveries for one in state.in_hand],
            "read_position": state.read_position,
            "acknowledgements": state.acknowledgements,
        },
    )


def hold(session: Session, handler_id: int) -> None:
    """Nobody else looks at the queue until the transaction ends: RabbitMQ gives a dead letter that
    somebody looks at to nobody else."""
    session.execute(_SQL["ensure_row"], {"id": handler_id})
    session.execute(_SQL["hold"], {"id": handler_id})


def oldest_waiting(session: Session, handler_id: int, limit: int = 5) -> list[WaitingMail]:
    """The mails that wait longest in a handler's queue, the oldest first.

    Those in hand are left out where the broker tells which they are (Redis).
    """
    values = {"id": handler_id, "limit": limit}
    rows = session.execute(_SQL["oldest_by_position"], values).fetchall()
    rows = rows or session.execute(_SQL["oldest_by_count"], values).fetchall()
    return [WaitingMail(*row) for row in rows]


def in_hand(session: Session, handler_id: int, limit: int = 10) -> list[HeldMail]:
    """What consumers have in hand, the oldest in the queue first."""
    rows = session.execute(_SQL["in_hand"], {"id": handler_id, "limit": limit})
    return [HeldMail(*row) for row in rows]


def record_check(
    session: Session,
    handler_id: int,
    *,
    watermark: datetime,
    incarnation: str,
    acknowledged: str,
    backlog: int,
    oldest_at: datetime | None,
    dead: int,
) -> None:
    """Records what a check of the queue found; the watermark only ever rises."""
    session.execute(
        _SQL["record_check"],
        {
            "id": handler_id,
            "watermark": watermark,
            "incarnation": incarnation,
            "acknowledged": acknowledged,
            "backlog": backlog,
            "oldest_at": oldest_at,
            "dead": dead,
        },
    )
