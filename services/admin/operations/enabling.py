"""Enabling: what it would download is counted, and has to be acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from services.admin.context import Context
from services.admin.operations.connection_differences import (
    is_other_mailbox,
)
from services.admin.operations.drafts import refuse_moved_password
from services.admin.operations.estimates import Estimate, check_start, estimate
from services.admin.operations.start_from import Start
from shared.connection_editing import ConnectionEdit, edit
from shared.connections import Connection
from shared.errors import Conflict
from shared.quantities import counted
from shared.storage import (
    connections,
    scheduling,
)
from shared.storage.pool import Session


class AcknowledgementNeeded(Conflict):
    """Enabling would download mails: somebody has to say that they want that."""

    code = "acknowledgement-needed"

    def __init__(self, estimate: Estimate) -> None:
        at_least = "at least " if estimate.confidence == "partial" else ""
        super().__init__(
            f"This would download {at_least}{counted(estimate.new, 'mail')}.",
            hint="Repeat it with acknowledged: true, or choose with start_from which mails to take "
            '("everything", "now", or a date).',
        )
        self.estimate = estimate
        self.members = {"estimate": asdict(estimate)}


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
        start = start_of(session, connection_id, start_from)
    wanted = edit(before, changes or {})
    refuse_moved_password(before, wanted)
    other = is_other_mailbox(before, wanted.connection)
    found = estimate(
        ctx,
        wanted,
        since=start.by_date,
        skip_existing=start.skip_existing,
        another_mailbox=other,
    )
    return replace(found, new=0) if start.skip_existing else found


def start_of(session: Session, connection_id: int, start_from: Any) -> Start:
    """What is asked for; what was chosen before where nothing is."""
    if start_from is not None:
        return Start.parse(start_from)
    status = connections.statuses(session, [connection_id])[connection_id]
    return Start(status.start_since, status.skip_existing)


def count_new(
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
        if asks_server(wanted, start, acknowledged=acknowledged):
            check_start(ctx, wanted, by_date=start.by_date is not None)
        return None
    found = estimate(ctx, wanted, since=start.by_date, another_mailbox=another_mailbox)
    if found.new or found.confidence == "partial":
        raise AcknowledgementNeeded(found)
    return found


def asks_server(wanted: ConnectionEdit, start: Start, *, acknowledged: bool) -> bool:
    """Whether `count_new` asks the mail server: to count, or whether this start is possible."""
    chosen = start.skip_existing or start.since is not None
    if start.skip_existing or acknowledged:
        return wanted.connection.kind.start_depends and chosen
    return True


def switch_on(ctx: Context, session: Session, connection: Connection, start: Start) -> None:
    connections.update(session, replace(connection, enabled=True))
    connections.start_from(
        session, connection.id, since=start.since, skip_existing=start.skip_existing
    )
    scheduling.enable(session, connection.id)
    ctx.record(
        session, "enable", f"connection/{connection.id}", {"enabled": False}, {"enabled": True}
    )
