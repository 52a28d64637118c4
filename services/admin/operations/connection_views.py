"""Connections as people see them: one with its warnings, its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.admin.context import Context
from services.admin.operations.connection_warnings import ConnectionWarning, warnings_for
from shared.connections import (
    Connection,
)
from shared.handlers import Handler
from shared.storage import (
    authorisations,
    certificates,
    connections,
    handlers,
    runs,
)
from shared.storage.authorisations import Authorisation as Authorisation
from shared.storage.certificates import Certificate
from shared.storage.connections import ConnectionStatus as ConnectionStatus
from shared.storage.pool import Session
from shared.storage.runs import Day as Day
from shared.storage.runs import RecordedRun as RecordedRun


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """A connection, how it is doing, and what should be known about it."""

    connection: Connection
    status: ConnectionStatus
    warnings: tuple[ConnectionWarning, ...] = ()
    handlers: tuple[Handler, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    authorisation: Authorisation | None = None


def connections_of(ctx: Context, ids: Sequence[int]) -> list[ConnectionView]:
    """Those of these ids that are still there (without warnings)."""
    with ctx.transaction() as session:
        found = connections.get_many(session, ids)
        statuses = connections.statuses(session, [one.id for one in found])
    return [ConnectionView(one, statuses[one.id]) for one in found]


def get_connection(ctx: Context, connection_id: int) -> ConnectionView:
    """Raises NotFound. Contacts no mail server."""
    with ctx.transaction() as session:
        return view_of(session, connections.get(session, connection_id), ctx.principal.tags)


def runs_of_connection(
    ctx: Context, connection_id: int, *, before: Any = None, limit: int = 50
) -> Sequence[RecordedRun]:
    """The history: runs that found something or failed, newest first."""
    with ctx.transaction() as session:
        connections.get(session, connection_id)
        return runs.runs(session, connection_id, before=before, limit=limit)


def days_of_connection(ctx: Context, connection_id: int, *, days: int = 30) -> Sequence[Day]:
    """Mails a day, today last."""
    with ctx.transaction() as session:
        connections.get(session, connection_id)
        return runs.per_day(session, connection_id, days=days)


def view_of(session: Session, connection: Connection, part: Sequence[str] = ()) -> ConnectionView:
    status = connections.statuses(session, [connection.id])[connection.id]
    return ConnectionView(
        connection,
        status,
        tuple(warnings_for(session, connection, part)),
        tuple(handlers.taking(session, connection.id)),
        tuple(certificates.get_many(session, connection.certificate_ids)),
        authorisations.status(session, connection.id),
    )
