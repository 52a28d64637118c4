"""What somebody with rights by tag sees: connections with one of their tags, and their mails."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL: Final = Queries("visibility")


def sees_connection(session: Session, tags: Sequence[str], connection_id: int) -> bool:
    return _sees(session, "connection", tags, connection_id)


def sees_message(session: Session, tags: Sequence[str], message_id: uuid.UUID) -> bool:
    return _sees(session, "message", tags, message_id)


def sees_quarantined(session: Session, tags: Sequence[str], entry_id: uuid.UUID) -> bool:
    """Also where it is decided about since, and its mail is in the ledger."""
    return _sees(session, "quarantined", tags, entry_id) or sees_message(session, tags, entry_id)


def _sees(session: Session, what: str, tags: Sequence[str], number: int | uuid.UUID) -> bool:
    values = {"id": number, "tags": list(tags)}
    return session.execute(_SQL[what], values).fetchone() is not None
