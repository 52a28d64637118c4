"""Many connections added and changed by one call, an outcome for each: what fails keeps no other
from being saved.

Each is checked and committed as one that is saved alone, so that none waits with locks of another,
which fetchers take in another order. Those for which nobody has to be asked share a session of
Postgres; where a mail server has to be asked (to count new mails, to test application access) each
has its own, as many at a time as `bulk` asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from services.admin.context import Context
from services.admin.operations.application_access_tests import is_other_access
from services.admin.operations.connections import (
    CheckedChange,
    checked_change,
    create_connection,
    insert_connection,
    locked,
    update_connection,
    write_change,
)
from services.admin.operations.credentials import refuse_misfit
from services.admin.operations.drafts import checked_edit
from services.admin.operations.enabling import asks_server
from services.admin.operations.start_from import Start
from services.admin.operations.tag_rights import refuse_beyond, sees
from shared.connections import Connection
from shared.errors import NotFound, PosthouseError
from shared.storage import connections
from shared.storage.pool import Session

MOST: Final = 100
_TOGETHER: Final = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """One to be added, as `create_connection` takes it, or, where it has an `id`, to be changed, as
    `update_connection` does; `version` is the one that the change is made of, empty: whatever there
    is."""

    changes: Mapping[str, Any]
    acknowledged: bool = False
    start_from: Any = None
    id: int | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class Saving:
    """The id of what was added or changed, or why it was not."""

    id: int | None = None
    error: PosthouseError | None = None


def save_many(ctx: Context, every: Sequence[Wanted]) -> list[Saving]:
    """Adds and changes each, at most `MOST`; the outcomes are in the order given."""
    found: dict[int, Saving] = {}
    alone: list[int] = []
    new = [at for at, wanted in enumerate(every) if wanted.id is None]
    # By rising id: two calls that lock the same connections wait for each other, and end.
    old = sorted(set(range(len(every))) - {*new}, key=lambda at: every[at].id or 0)
    for some, save in ((new, _added), (old, _changed)):
        if not some:
            continue
        with ctx.transaction() as session:
            for at in some:
                try:
                    with session.transaction():  # nothing was begun: it commits
                        saved = save(ctx, session, every[at])
                except PosthouseError as error:
                    found[at] = Saving(error=error)
                    continue
                if saved is None:
                    alone.append(at)
                else:
                    found[at] = Saving(saved)
    if alone:
        with ThreadPoolExecutor(min(_TOGETHER, len(alone))) as threads:
            found |= zip(alone, threads.map(lambda at: _alone(ctx, every[at]), alone), strict=True)
    return [found[at] for at in range(len(every))]


def _added(ctx: Context, session: Session, wanted: Wanted) -> int | None:
    """None where a server has to be asked first."""
    start = Start.parse(wanted.start_from)
    edit = checked_edit(None, wanted.changes)
    refuse_beyond(ctx, None, edit.connection)
    if edit.connection.credential_id is not None or (
        edit.connection.enabled and asks_server(edit, start, acknowledged=wanted.acknowledged)
    ):
        return None
    refuse_misfit(session, edit.connection)
    return insert_connection(ctx, session, edit, start)


def _changed(ctx: Context, session: Session, wanted: Wanted) -> int | None:
    """The same, of one that is there."""
    assert wanted.id is not None

    def checked(before: Connection) -> CheckedChange:
        if not sees(ctx, before):
            raise NotFound(f"There is no connection {wanted.id}.")
        expecting = replace(ctx, expected=wanted.version)
        return checked_change(expecting, session, before, wanted.changes, wanted.start_from)

    change = checked(connections.get(session, wanted.id))
    if _may_ask_a_server(change, wanted):
        return None
    now = locked(session, change)
    if now != change.before:
        change = checked(now)
        if _may_ask_a_server(change, wanted):
            return None
    write_change(ctx, session, change)
    return wanted.id


def _may_ask_a_server(change: CheckedChange, wanted: Wanted) -> bool:
    return is_other_access(change.before, change.after) or (
        change.asks and asks_server(change.wanted, change.start, acknowledged=wanted.acknowledged)
    )


def _alone(ctx: Context, wanted: Wanted) -> Saving:
    said: dict[str, Any] = {
        "acknowledged": wanted.acknowledged,
        "start_from": wanted.start_from,
    }
    try:
        if wanted.id is None:
            saved = create_connection(ctx, wanted.changes, **said)
        else:
            asked = replace(ctx, expected=wanted.version)
            saved = update_connection(asked, wanted.id, wanted.changes, **said)
    except PosthouseError as error:
        return Saving(error=error)
    return Saving(saved.view.connection.id)
