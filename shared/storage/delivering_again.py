"""Mails that are published again: on request, after new rules or keys, or as a queue was lost."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from shared.storage.arrays import uuid_array
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("delivering_again")


def deliver_again(
    session: Session,
    ids: Sequence[uuid.UUID],
    handlers: Sequence[int] = (),
    *,
    reason: str = "requested",
) -> list[uuid.UUID]:
    """Asks for mails again (same event id), at `handlers` or at all that take them.

    Their events say so, with the `reason`, to handlers that had them.
    """
    values = {"ids": uuid_array(ids), "handlers": list(handlers), "reason": reason}
    rows = session.execute(_SQL["deliver_again"], values).fetchall()
    session.execute(_SQL["number_redelivery"], values)
    return [row[0] for row in rows]


def reconsider(session: Session, ids: Sequence[uuid.UUID], handler_id: int) -> list[uuid.UUID]:
    """Lets a handler's present rules decide about these mails, with all that a mail says."""
    values = {"ids": uuid_array(ids), "handler_id": handler_id}
    rows = session.execute(_SQL["reconsider"], values).fetchall()
    session.execute(_SQL["forget_left_out_of"], values)
    return [row[0] for row in rows]


def reopen(session: Session, ids: Sequence[uuid.UUID], *, reason: str = "opened-again") -> None:
    """Lets mails be opened anew when they are published next: a certificate was attached.

    After `deliver_again`, which locks them. They are taken out of the hands of who might just be
    recording them.
    """
    session.execute(_SQL["take_back"], {"ids": uuid_array(ids), "reason": reason})
    session.execute(_SQL["reopen"], {"ids": uuid_array(ids)})
    session.execute(_SQL["forget_all_left_out"], {"ids": uuid_array(ids)})


def refill(session: Session, handler_id: int, watermark: datetime) -> list[uuid.UUID]:
    """Publishes again what a lost queue may not have handed over, also what is on its way."""
    withdraw(session, handler_id, watermark)
    rows = session.execute(_SQL["refill"], {"handler_id": handler_id, "watermark": watermark})
    return [row[0] for row in rows]


def withdraw(session: Session, handler_id: int, watermark: datetime) -> None:
    """Takes back the claims of all decryptors: what they publish now is not recorded."""
    session.execute(_SQL["lock_refills"])
    session.execute(_SQL["withdraw"], {"handler_id": handler_id, "watermark": watermark})
