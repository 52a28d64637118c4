"""The dead letters of handlers, as the paths of their mails have them: found, leaving, ended."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("dead_letters")
#: How many dead letters of a handler mails are found by: the oldest.
MOST_NOTED = 1000
#: Of a dead letter whose broker does not tell when it died.
_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


class Dead(Protocol):
    """A dead letter, as the broker lists it."""

    @property
    def event_id(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def died_at(self) -> datetime | None: ...
    @property
    def deliveries(self) -> int: ...
    @property
    def given_up(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class DeadReason:
    reason: str
    count: int
    given_up: bool


def has_new(session: Session, handler_id: int, dead: int) -> bool:
    """Whether the dead letters are others than those that were listed last."""
    row = session.execute(_SQL["is_new"], {"id": handler_id, "dead": dead}).fetchone()
    return bool(row and row[0])


def record(
    session: Session, handler_id: int, letters: Sequence[Dead], *, dead: int, whole: bool
) -> None:
    """Records the dead letters that the broker has; `whole`: there are no others."""
    values = _columns(handler_id, letters)
    if whole:
        session.execute(_SQL["end"], values)
    session.execute(_SQL["add"], values)
    session.execute(_SQL["record_count"], {"id": handler_id, "dead": dead})


def record_leaving(
    session: Session, handler_id: int, letters: Sequence[Dead], *, for_queue: bool
) -> None:
    """Before they leave the dead letters: that they were some; and of those `for_queue` that they
    are published now, so that they are published again where the queue is lost.

    To be committed before the broker is asked, while another transaction has the queue
    (`handler_queues.hold`): the watermark would go past what is not in the queue yet. Whoever looks
    at the queue next finds out what came of it, where nobody said so (`record_ended`,
    `record_delivered_again`).
    """
    values = _columns(handler_id, letters)
    session.execute(_SQL["add"], values)
    if for_queue:
        session.execute(_SQL["keep_delivered_again"], values)
        session.execute(_SQL["mark_published"], values)


def _columns(handler_id: int, letters: Sequence[Dead]) -> dict[str, Any]:
    known = [(one, found) for one in letters if (found := _uuid(one.event_id))]
    return {
        "id": handler_id,
        "messages": [found for _, found in known],
        "died": [one.died_at or _UNKNOWN for one, _ in known],
        "reasons": [one.reason for one, _ in known],
        "deliveries": [one.deliveries for one, _ in known],
        "given_up": [one.given_up for one, _ in known],
        "ended": None,
        "what": "left-dead-letters",
    }


def record_ended(
    session: Session, handler_id: int, event_ids: Sequence[str], what: str, *, left: int
) -> None:
    """These are no dead letters any more: `delivered-again` or `discarded`; `left` are."""
    ended = [found for one in event_ids if (found := _uuid(one))]
    values = {"id": handler_id, "ended": ended, "what": what, "messages": [], "died": []}
    session.execute(_SQL["end"], values)
    session.execute(_SQL["record_count"], {"id": handler_id, "dead": left})


def record_delivered_again(session: Session, handler_id: int, moved: Mapping[str, str]) -> None:
    """These were dead letters, and are in the queue again at these positions; after
    `record_leaving`."""
    known = {found: position for one, position in moved.items() if (found := _uuid(one))}
    values = {
        "id": handler_id,
        "messages": list(known),
        "positions": [known[one] for one in known],
    }
    session.execute(_SQL["record_delivered_again"], values)


def reasons(session: Session, handler_id: int, limit: int = 50) -> list[DeadReason]:
    """The reasons of a handler's dead letters, the most frequent first."""
    rows = session.execute(_SQL["reasons"], {"id": handler_id, "limit": limit})
    return [DeadReason(*row) for row in rows]


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
