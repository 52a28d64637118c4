"""Connections as people see them: the list, one of them with its warnings, its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.admin.context import Context
from services.admin.operations.warnings import ConnectionWarning, warnings_for
from shared.connections import (
    Connection,
    Health,
)
from shared.errors import InvalidInput
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
from shared.storage.runs import Run as Run
from shared.storage.searching import Page


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """A connection, how it is doing, and what should be known about it."""

    connection: Connection
    status: ConnectionStatus
    warnings: tuple[ConnectionWarning, ...] = ()
    handlers: tuple[Handler, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    authorisation: Authorisation | None = None


def search_connections(
    ctx: Context,
    *,
    q: str = "",
    health: Health | None = None,
    sort: str = "name",
    page: int = 1,
    per_page: int = 50,
) -> Page[ConnectionView]:
    """The list (without warnings). Contacts no mail server."""
    with ctx.transaction() as session:
        found = connections.search(
            session, q=q, health=health, sort=sort, page=page, per_page=per_page
        )
    items = tuple(ConnectionView(connection, status) for connection, status in found.items)
    return Page(items, found.total, found.page, found.per_page, found.counts)


def connections_of(ctx: Context, ids: Sequence[int]) -> list[ConnectionView]:
    """Those of these ids that are still there (without warnings)."""
    with ctx.transaction() as session:
        found = connections.get_many(session, ids)
        statuses = connections.statuses(session, [one.id for one in found])
    return [ConnectionView(one, statuses[one.id]) for one in found]


def find_connection(ctx: Context, typed: str) -> tuple[int, str]:
    """Id and name, by id, name, or a part of the name that no other one has. Raises InvalidInput.

    The id of a connection that is gone stays usable: its mails are still there.
    """
    with ctx.transaction() as session:
        if typed.isdecimal() and typed.isascii():
            found = connections.get_many(session, [int(typed[:18])])
            return int(typed[:18]), found[0].name if found else typed
        exact = connections.by_name(session, typed)
        if exact is not None:
            return exact.id, exact.name
        page = connections.search(session, q=typed, per_page=4)
    if page.total == 1:
        one = page.items[0][0]
        return one.id, one.name
    names = ", ".join(connection.name for connection, _ in page.items)
    raise InvalidInput(
        f"{page.total} connections match “{typed}”."
        if page.total
        else "No connection is so named.",
        field="connection",
        hint=f"Such as {names}. Type more of the name." if names else "",
    )


def get_connection(ctx: Context, connection_id: int) -> ConnectionView:
    """Raises NotFound. Contacts no mail server."""
    with ctx.transaction() as session:
        return view_of(session, connections.get(session, connection_id))


def runs_of_connection(
    ctx: Context, connection_id: int, *, before: Any = None, limit: int = 50
) -> Sequence[Run]:
    """The history: runs that found something or failed, newest first."""
    with ctx.transaction() as session:
        connections.get(session, connection_id)
        return runs.runs(session, connection_id, before=before, limit=limit)


def days_of_connection(ctx: Context, connection_id: int, *, days: int = 30) -> Sequence[Day]:
    """Mails a day, today last."""
    with ctx.transaction() as session:
        connections.get(session, connection_id)
        return runs.per_day(session, connection_id, days=days)


def view_of(session: Session, connection: Connection) -> ConnectionView:
    status = connections.statuses(session, [connection.id])[connection.id]
    return ConnectionView(
        connection,
        status,
        tuple(warnings_for(session, connection)),
        tuple(handlers.taking(session, connection.id)),
        tuple(certificates.get_many(session, connection.certificate_ids)),
        authorisations.status(session, connection.id),
    )
