"""Connections: add, change, delete, enable, disable, fetch now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from services.admin.context import Context
from services.admin.operations.application_access_tests import access_notice, check_access
from services.admin.operations.connection_differences import (
    differing,
    is_other_grant,
    is_other_mailbox,
    is_other_server,
    recorded,
)
from services.admin.operations.connection_tests import ConnectionTestReport
from services.admin.operations.connection_views import ConnectionView, view_of
from services.admin.operations.credentials import refuse_misfit
from services.admin.operations.drafts import checked_edit, refuse_moved_password
from services.admin.operations.edit_conflicts import changed_meanwhile, check_version
from services.admin.operations.enabling import count_new, start_of, switch_on
from services.admin.operations.estimates import Estimate
from services.admin.operations.start_from import Start, start_notice
from services.admin.operations.tag_rights import refuse_beyond
from shared.connection_editing import ACKNOWLEDGED_FIELDS, ConnectionEdit
from shared.connections import AfterDownload, Connection
from shared.errors import Conflict
from shared.microsoft_certificates import pem_of
from shared.storage import (
    alerts,
    authorisations,
    connections,
    handlers,
    leases,
    scheduling,
)
from shared.storage.pool import Session
from shared.vault import login_certificate_path, password_path

#: Handlers that one notice names.
_SHOWN: Final = 3
#: Characters of what is shown of the expression of each.
_LONGEST_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Saved:
    """What a change led to. `notice` says in words what was started, if anything; `access` what
    the test found where application access was just chosen."""

    view: ConnectionView
    notice: str = ""
    estimate: Estimate | None = None
    access: ConnectionTestReport | None = None


@dataclass(frozen=True, slots=True)
class CheckedChange:
    """A change of a connection that may be written."""

    before: Connection
    wanted: ConnectionEdit
    start: Start

    @property
    def after(self) -> Connection:
        return self.wanted.connection

    @property
    def other_mailbox(self) -> bool:
        return is_other_mailbox(self.before, self.after)

    @property
    def other_mails(self) -> bool:
        """Whether it decides which mails are read."""
        return bool(differing(self.before, self.after) & ACKNOWLEDGED_FIELDS)

    @property
    def ends_run(self) -> bool:
        """Whether a run that goes on at this moment would do what is not wanted any more: of other
        mails, or of any."""
        return self.other_mails or (self.before.enabled and not self.after.enabled)

    @property
    def asks(self) -> bool:
        """Whether new mails have to be counted and acknowledged: it becomes enabled, or reads other
        mails than before."""
        enabling = self.after.enabled and not self.before.enabled
        return enabling or (self.after.enabled and self.other_mails)


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
    refuse_beyond(ctx, None, wanted.connection)
    with ctx.transaction() as session:
        refuse_misfit(session, wanted.connection)
    counted = count_new(ctx, wanted, start, acknowledged=acknowledged) if enabling else None
    with ctx.transaction() as session:
        connection_id = insert_connection(ctx, session, wanted, start)
        view = view_of(session, connections.get(session, connection_id), ctx.principal.tags)
    access = None if counted else check_access(ctx, None, view.connection)
    notice = start_notice(view.connection, start, counted) if enabling else ""
    return Saved(view, f"{notice} {access_notice(access)}".strip(), counted, access)


def insert_connection(ctx: Context, session: Session, wanted: ConnectionEdit, start: Start) -> int:
    """Adds what was checked, and counted where it is to be enabled; returns its id. Raises
    NameTaken."""
    draft = replace(wanted.connection, enabled=False)
    connection_id = connections.insert(session, draft)
    _keep_secrets(ctx, session, connection_id, wanted)
    saved = connections.get(session, connection_id)
    ctx.record(session, "create", f"connection/{connection_id}", after=saved)
    if wanted.connection.enabled:
        switch_on(ctx, session, saved, start)
    return connection_id


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
        change = checked_change(ctx, session, before, changes, start_from)
    counted = None
    if change.asks:
        counted = count_new(
            ctx,
            change.wanted,
            change.start,
            acknowledged=acknowledged,
            another_mailbox=change.other_mailbox,
        )
    with ctx.transaction() as session:
        if locked(session, change) != before:
            raise changed_meanwhile(session, f"connection/{connection_id}")
        left = write_change(ctx, session, change)
        view = view_of(session, connections.get(session, connection_id), ctx.principal.tags)
    access = None if counted else check_access(ctx, before, view.connection)
    started = start_notice(view.connection, change.start, counted) if change.asks else ""
    notices = (started, access_notice(access), left)
    return Saved(view, " ".join(filter(None, notices)), counted, access)


def checked_change(
    ctx: Context,
    session: Session,
    before: Connection,
    changes: Mapping[str, Any],
    start_from: Any,
) -> CheckedChange:
    """What `changes` make of `before`, as it is stored. Raises InvalidInput, ChangedMeanwhile."""
    check_version(ctx, session, f"connection/{before.id}", before)
    start = start_of(session, before.id, start_from)
    wanted = checked_edit(before, changes)
    refuse_beyond(ctx, before, wanted.connection)  # first: the other one names the credential
    refuse_misfit(session, wanted.connection)
    refuse_moved_password(before, wanted)
    return CheckedChange(before, wanted, start)


def locked(session: Session, change: CheckedChange) -> Connection:
    """Keeps others from changing the connection until the transaction ends, and ends a run that
    goes on where that would do what is not wanted any more. Returns the connection as it is now.
    """
    if change.ends_run:  # leases before states, as in a commit
        leases.take_away(session, change.before.lease_key())
    return connections.get_locked(session, change.before.id)


def write_change(ctx: Context, session: Session, change: CheckedChange) -> str:
    """Writes what was checked, and counted where it asks for it, to a connection that is locked and
    as it was `before`. Returns what somebody should see to, in words. Raises NameTaken,
    InvalidInput."""
    notice = ""
    before, after, connection_id = change.before, change.after, change.before.id
    connections.update(session, after)
    if after.name != before.name:
        left = handlers.rename_connection(session, before.name, after.name)
        notice = _rules_notice(left, named=not ctx.principal.tags)
    _keep_secrets(ctx, session, connection_id, change.wanted)
    if is_other_grant(before, after):
        authorisations.forget(session, connection_id)
    deleted = before.after_download is AfterDownload.DELETE
    if not deleted and after.after_download is AfterDownload.DELETE:
        connections.end_marking(session, connection_id)
    if change.other_mailbox:
        connections.forget_mailbox(session, connection_id)
    elif is_other_server(before, after):
        connections.begin_rebinding(session, connection_id, deleted=deleted)
    if before.folder != after.folder:
        connections.forget_folder(session, connection_id)
    elif change.other_mails:
        connections.forget_cursor(session, connection_id)
    if change.asks:
        start = change.start
        connections.start_from(
            session, connection_id, since=start.since, skip_existing=start.skip_existing
        )
    _schedule(session, after)
    ctx.record(
        session,
        "change",
        f"connection/{connection_id}",
        {**recorded(before), "password": ""},
        {**recorded(after), "password": change.wanted.password or ""},
    )
    return notice


def _rules_notice(left: Mapping[str, Sequence[str]], *, named: bool) -> str:
    """What a renaming left as it was in the expressions of handlers; `named` to those who may see
    handlers."""
    if not left:
        return ""
    if not named:
        return (
            "The connection has its new name. Expressions of handlers may answer otherwise for its "
            "mails, as they ask for the name in a way that is not followed: tell an administrator."
        )
    shown = []
    for name, asking in islice(left.items(), _SHOWN):
        text = ", ".join(asking)
        cut = f"{text[:_LONGEST_SHOWN]}…" if len(text) > _LONGEST_SHOWN else text
        shown.append(f"{name!r} ({cut})")
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return (
        f"The connection has its new name. Expressions may answer otherwise for its mails, as they "
        f"ask for the name in a way that is not followed: {', '.join(shown)}{more}."
    )


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
        scheduling.make_due(session, [connection_id])


def delete_connection(ctx: Context, connection_id: int) -> None:
    """Ends a run that goes on, which would go on deleting mails on the server. Raises NotFound;
    Conflict while mails of it have still to be handed over."""
    with ctx.transaction() as session:
        lease_key = connections.get(session, connection_id).lease_key()
        leases.take_away(session, lease_key)  # before the state, as in a commit
        before = connections.get_locked(session, connection_id)
        if before.lease_key() != lease_key:
            raise changed_meanwhile(session, f"connection/{connection_id}")
        check_version(ctx, session, f"connection/{connection_id}", before)
        alerts.recover(session, connection_id, unwatched=True)
        connections.delete(session, connection_id)
        ctx.record(session, "delete", f"connection/{connection_id}", before=before)


def _schedule(session: Session, connection: Connection) -> None:
    """An edit ends any back-off: perhaps it was the cure."""
    if connection.enabled:
        scheduling.enable(session, connection.id)
    else:
        scheduling.disable(session, connection.id)
        alerts.recover(session, connection.id, unwatched=True)


def _keep_secrets(
    ctx: Context, session: Session, connection_id: int, wanted: ConnectionEdit
) -> None:
    if wanted.client_certificate:
        pem = pem_of(wanted.client_certificate).encode()
        sealed = ctx.app_state.vault.seal(pem, login_certificate_path(connection_id))
        connections.write_client_certificate(session, connection_id, sealed)
    elif not wanted.connection.has_client_certificate:
        connections.write_client_certificate(session, connection_id, None)
    if wanted.password:
        sealed = ctx.app_state.vault.seal(wanted.password.encode(), password_path(connection_id))
        connections.write_password(session, connection_id, sealed)
    elif not wanted.connection.has_password:
        connections.write_password(session, connection_id, None)
