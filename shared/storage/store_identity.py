"""Which store belongs to this database: one row, made once."""

from __future__ import annotations

import uuid

from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("store_identity")


def current(session: Session) -> uuid.UUID | None:
    row = session.execute(_SQL["current"]).fetchone()
    return row[0] if row else None


def remember(session: Session, identity: uuid.UUID) -> uuid.UUID:
    """Notes it where none is known; gives the one that counts."""
    session.execute(_SQL["remember"], {"identity": identity})
    found = current(session)
    assert found is not None
    return found


def replace(session: Session, identity: uuid.UUID) -> None:
    """An administrator says so."""
    session.execute(_SQL["replace"], {"identity": identity})


def has_mails(session: Session) -> bool:
    """Whether octets of any mail are expected in the store."""
    row = session.execute(_SQL["has_mails"]).fetchone()
    return bool(row and row[0])
