"""How far each handler's queue is known to be acknowledged: what refills a lost queue.

The *watermark* of a handler is a time of Postgres' clock: every event that was recorded as
published before it is acknowledged. When the broker loses the queue, everything recorded at or
after the watermark is published again. It may lag behind (then handlers see repeats, with the
same event id); it must never run ahead.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

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


def handlers(session: Session) -> list[HandlerName]:
    return [HandlerName(*row) for row in session.execute(_SQL["handlers"])]


def lock(session: Session, handler_id: int) -> Remembered | None:
    """The row of a handler's queue, ours until the transaction ends; None where another has it."""
    session.execute(_SQL["born"], {"id": handler_id})
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


def restarted(session: Session, handler_id: int) -> None:
    """Notes that the broker runs anew; keeps the time when that was first seen."""
    session.execute(_SQL["restarted"], {"id": handler_id})


def published_at(session: Session, handler_id: int, message_id: uuid.UUID) -> datetime | None:
    row = session.execute(
        _SQL["published_at"], {"id": handler_id, "message_id": message_id}
    ).fetchone()
    return row[0] if row else None


def created(session: Session, handler_id: int, output: str, generation: uuid.UUID) -> None:
    """Notes the queue that is created next: empty but for what is published from now on."""
    session.execute(_SQL["created"], {"id": handler_id, "output": output, "generation": generation})


def checked(
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
    """Keeps what a look at the queue told; the watermark only ever rises."""
    session.execute(
        _SQL["checked"],
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
