"""Connections: list, add, change, delete, enable, disable, fetch now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from services.admin.context import Context
from services.admin.operations.access import check_access, told
from services.admin.operations.credentials import refuse_misfit
from services.admin.operations.probing import (
    Estimate,
    TestReport,
    check_start,
    checked_edit,
    estimate,
    refuse_moved_password,
)
from services.admin.operations.starting import Start, started
from services.admin.operations.warnings import Warning, find
from shared.client_certificates import pem_of
from shared.connections import (
    ACKNOWLEDGED_FIELDS,
    Connection,
    ConnectionEdit,
    Health,
    edit,
)
from shared.errors import Conflict, InvalidInput
from shared.handlers import Handler
from shared.storage import (
    authorisations,
    certificates,
    connections,
    handlers,
    runs,
    scheduling,
)
from shared.storage.authorisations import Authorisation as Authorisation
from shared.storage.certificates import Certificate
from shared.storage.connections import ConnectionStatus as ConnectionStatus
from shared.storage.pool import Session
from shared.storage.runs import Day as Day
from shared.storage.runs import Run as Run
from shared.storage.searching import Page
from shared.vault import login_certificate_place, password_place


class AcknowledgementNeeded(Conflict):
    """Enabling would download mails: somebody has to say that they want that."""

    code = "acknowledgement-needed"

    def __init__(self, estimate: Estimate) -> None:
        at_least = "at least " if estimate.confidence == "partial" else ""
        super().__init__(
            f"This would download {at_least}{estimate.new:,} mails.",
            hint="Repeat it with acknowledged: true, or choose with start_from which mails to take "
            '("everything", "now", or a date).',
        )
        self.estimate = estimate
        self.members = {"estimate": asdict(estimate)}


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection, how it is doing, and what should be known about it."""

    connection: Connection
    status: ConnectionStatus
    warnings: tuple[Warning, ...] = ()
    handlers: tuple[Handler, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    authorisation: Authorisation | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """What a change led to. `notice` says in words what was started, if anything; `access` what
    the test found where application access was just chosen."""

    seen: Seen
    notice: str = ""
    estimate: Estimate | None = None
    access: TestReport | None = None


def search_connections(
    ctx: Context,
    *,
    q: str = "",
    health: Health | None = None,
    sort: str = "name",
    page: int = 1,
    per_page: int = 50,
) -> Page[Seen]:
    """The list (without warnings). Contacts no mail server."""
    with ctx.transaction() as session:
        found = connections.search(
            session, q=q, health=health, sort=sort, page=page, per_page=per_page
        )
    items = tuple(Seen(connection, status) for connection, status in found.items)
    return Page(items, found.total, found.page, found.per_page, found.counts)


def connections_of(ctx: Context, ids: Sequence[int]) -> list[Seen]:
    """Those of these ids that are still there (without warnings)."""
    with ctx.transaction() as session:
        found = connections.get_many(session, ids)
        statuses = connections.statuses(session, [one.id for one in found])
    return [Seen(one, statuses[one.id]) for one in found]


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


def get_connection(ctx: Context, connection_id: int) -> Seen:
    """Raises NotFound. Contacts no mail server."""
    with ctx.transaction() as session:
        return _see(session, connections.get(session, connection_id))


def create_connection(
    ctx: Context,
    changes: Mapping[str, Any],
    *,
    acknowledged: bool = False,
    start_from: Any = None,
) -> Saved:
    """Adds a connection, disabled; with `enabled: true` among the changes it is enabled too,
    which has to be acknowledged like any enabling. Application access is tested at once, and does
    not keep the connection from being saved. Raises InvalidInput, NameTaken,
    AcknowledgementNeeded."""
    start = Start.parse(start_from)
    wanted = checked_edit(None, changes)
    enabling = wanted.connection.enabled
    with ctx.transaction() as session:
        refuse_misfit(session, wanted.connection)
    counted = _count(ctx, wanted, start, acknowledged=acknowledged) if enabling else None
    with ctx.transaction() as session:
        draft = replace(wanted.connection, enabled=False)
        connection_id = connections.insert(session, draft)
        _keep_secrets(ctx, session, connection_id, wanted)
        saved = connections.get(session, connection_id)
        ctx.record(session, "create", f"connection/{connection_id}", after=saved)
        if enabling:
            _switch_on(ctx, session, saved, start)
        seen = _see(session, connections.get(session, connection_id))
    access = None if counted else check_access(ctx, None, seen.connection)
    notice = started(seen.connection, start, counted) if enabling else ""
    return Saved(seen, f"{notice} {told(access)}".strip(), counted, access)


def update_connection(
    ctx: Context,
    connection_id: int,
    changes: Mapping[str, Any],
    *,
    acknowledged: bool = False,
    start_from: Any = None,
) -> Saved:
    """Changes a connection. Where it becomes enabled, or an enabled one would read other mails
    than before, the new mails are counted and have to be acknowledged first.

    Raises NotFound, InvalidInput, NameTaken, AcknowledgementNeeded, and what the mail server
    refuses while mails are counted.
    """
    with ctx.transaction() as session:
        before = connections.get(session, connection_id)
        start = _start(session, connection_id, start_from)
        wanted = checked_edit(before, changes)
        after = wanted.connection
        refuse_misfit(session, after)
    refuse_moved_password(ctx, wanted)
    enabling = after.enabled and not before.enabled
    other_mails = _differ(before, after) & ACKNOWLEDGED_FIELDS
    asks = enabling or (after.enabled and bool(other_mails))
    other_mailbox = _is_other_mailbox(before, after)
    counted = None
    if asks:
        counted = _count(
            ctx, wanted, start, acknowledged=acknowledged, another_mailbox=other_mailbox
        )
    with ctx.transaction() as session:
        if connections.get(session, connection_id, lock=True) != before:
            raise Conflict(
                "Somebody else changed this connection in the meantime.",
                hint="Load it again, then repeat your change.",
                code="changed-meanwhile",
            )
        connections.update(session, after)
        if after.name != before.name:
            handlers.rename_connection(session, before.name, after.name)
        _keep_secrets(ctx, session, connection_id, wanted)
        if _is_other_grant(before, after):
            authorisations.forget(session, connection_id)
        if other_mailbox:
            connections.forget_mailbox(session, connection_id)
        elif other_mails:
            connections.look_again(session, connection_id)
        if asks:
            connections.start_from(
                session, connection_id, since=start.since, skip_existing=start.skip_existing
            )
        _schedule(session, after)
        recorded = {**_plain(after), "password": wanted.password or ""}
        ctx.record(
            session,
            "change",
            f"connection/{connection_id}",
            {**_plain(before), "password": ""},
            recorded,
        )
        seen = _see(session, connections.get(session, connection_id))
    access = None if counted else check_access(ctx, before, seen.connection)
    notice = started(seen.connection, start, counted) if asks else ""
    return Saved(seen, f"{notice} {told(access)}".strip(), counted, access)


def enable_connection(
    ctx: Context, connection_id: int, *, acknowledged: bool = False, start_from: Any = None
) -> Saved:
    """Counts what is new; enables at once where nothing is, or where it is acknowledged."""
    return update_connection(
        ctx,
        connection_id,
        {"enabled": True},
        acknowledged=acknowledged,
        start_from=start_from,
    )


def disable_connection(ctx: Context, connection_id: int) -> Saved:
    """Stops fetching; what is known and what waits stays."""
    return update_connection(ctx, connection_id, {"enabled": False})


def estimate_connection(
    ctx: Context,
    connection_id: int,
    *,
    changes: Mapping[str, Any] | None = None,
    start_from: Any = None,
) -> Estimate:
    """What enabling (as it is, or as it would be after `changes`) would download."""
    with ctx.transaction() as session:
        before = connections.get(session, connection_id)
        start = _start(session, connection_id, start_from)
    wanted = edit(before, changes or {})
    refuse_moved_password(ctx, wanted)
    other = _is_other_mailbox(before, wanted.connection)
    found = estimate(
        ctx,
        wanted,
        since=start.since,
        skip_existing=start.skip_existing,
        another_mailbox=other,
    )
    return replace(found, new=0) if start.skip_existing else found


def fetch_connection(ctx: Context, connection_id: int) -> None:
    """Makes an enabled connection due at once. Raises Conflict where it is disabled, or where
    nobody would get its mails."""
    with ctx.transaction() as session:
        connection = connections.get(session, connection_id)
        if not connection.enabled:
            raise Conflict("The connection is disabled.", hint="Enable it first.", code="disabled")
        if not handlers.taking(session, connection_id):
            raise Conflict(
                "No enabled handler takes this connection: nothing is fetched.",
                hint="Add a handler that takes it; it is then fetched by itself.",
                code="unused",
            )
        scheduling.due_now(session, [connection_id])


def delete_connection(ctx: Context, connection_id: int) -> None:
    """Raises NotFound; Conflict while mails of it have still to be handed over."""
    with ctx.transaction() as session:
        before = connections.get(session, connection_id, lock=True)
        connections.delete(session, connection_id)
        ctx.record(session, "delete", f"connection/{connection_id}", before=before)


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


def _start(session: Session, connection_id: int, start_from: Any) -> Start:
    """What is asked for; what was chosen before where nothing is."""
    if start_from is not None:
        return Start.parse(start_from)
    status = connections.statuses(session, [connection_id])[connection_id]
    return Start(status.start_since, status.skip_existing)


def _count(
    ctx: Context,
    wanted: ConnectionEdit,
    start: Start,
    *,
    acknowledged: bool,
    another_mailbox: bool = False,
) -> Estimate | None:
    """Raises AcknowledgementNeeded where there is something to download, and InvalidInput where
    the server makes this start impossible; None where nothing needs to be counted."""
    if start.skip_existing or acknowledged:
        chosen = start.skip_existing or start.since is not None
        if wanted.connection.kind.start_depends and chosen:
            check_start(ctx, wanted, by_date=start.since is not None)
        return None
    found = estimate(ctx, wanted, since=start.since, another_mailbox=another_mailbox)
    if found.new or found.confidence == "partial":
        raise AcknowledgementNeeded(found)
    return found


def _switch_on(ctx: Context, session: Session, connection: Connection, start: Start) -> None:
    connections.update(session, replace(connection, enabled=True))
    connections.start_from(
        session, connection.id, since=start.since, skip_existing=start.skip_existing
    )
    scheduling.enable(session, connection.id)
    ctx.record(
        session, "enable", f"connection/{connection.id}", {"enabled": False}, {"enabled": True}
    )


def _schedule(session: Session, connection: Connection) -> None:
    """An edit ends any back-off: perhaps it was the cure."""
    if connection.enabled:
        scheduling.enable(session, connection.id)
    else:
        scheduling.disable(session, connection.id)


def _keep_secrets(
    ctx: Context, session: Session, connection_id: int, wanted: ConnectionEdit
) -> None:
    if wanted.client_certificate:
        pem = pem_of(wanted.client_certificate).encode()
        sealed = ctx.app_state.vault.seal(pem, login_certificate_place(connection_id))
        connections.write_client_certificate(session, connection_id, sealed)
    elif not wanted.connection.has_client_certificate:
        connections.write_client_certificate(session, connection_id, None)
    if wanted.password:
        sealed = ctx.app_state.vault.seal(wanted.password.encode(), password_place(connection_id))
        connections.write_password(session, connection_id, sealed)
    elif not wanted.connection.has_password:
        connections.write_password(session, connection_id, None)


def _see(session: Session, connection: Connection) -> Seen:
    status = connections.statuses(session, [connection.id])[connection.id]
    return Seen(
        connection,
        status,
        tuple(find(session, connection)),
        tuple(handlers.taking(session, connection.id)),
        tuple(certificates.get_many(session, connection.certificate_ids)),
        authorisations.status(session, connection.id),
    )


def _plain(connection: Connection) -> dict[str, Any]:
    hidden = {"created_at", "updated_at"}
    return {n: getattr(connection, n) for n in Connection.__slots__ if n not in hidden}


def _differ(before: Connection, after: Connection) -> set[str]:
    return {name for name in Connection.__slots__ if getattr(before, name) != getattr(after, name)}


def _is_other_grant(before: Connection, after: Connection) -> bool:
    """Whether stored tokens were given for another host, account or application."""
    return before.uses_oauth and (
        before.endpoint != after.endpoint
        or before.credential_id != after.credential_id
        or before.mode is not after.mode
        or before.username.casefold() != after.username.casefold()
        or bool(before.shared_mailbox) != bool(after.shared_mailbox)
    )


def _is_other_mailbox(before: Connection, after: Connection) -> bool:
    """Whether what is known of the old mailbox means nothing for the new one.

    A changed host alone is taken for the same mailbox on a new server: its mails are recognised
    by their content.
    """
    other_ids = before.kind.family != after.kind.family
    return other_ids or before.mailbox.casefold() != after.mailbox.casefold()


__all__ = [
    "AcknowledgementNeeded",
    "Estimate",
    "InvalidInput",
    "Saved",
    "Seen",
    "Start",
    "create_connection",
    "days_of_connection",
    "delete_connection",
    "disable_connection",
    "enable_connection",
    "estimate_connection",
    "fetch_connection",
    "get_connection",
    "runs_of_connection",
    "search_connections",
    "update_connection",
]
