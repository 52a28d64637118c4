"""Many connections added by one call, an outcome for each: what fails keeps no other from being
added.

Each is checked as one that is added alone. Those for which nobody has to be asked share a
transaction; where a mail server has to be asked (to count new mails, to test application access)
each has its own, as many at a time as `bulk` asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from services.admin.context import Context
from services.admin.operations.connections import create_connection, insert_connection
from services.admin.operations.credentials import refuse_misfit
from services.admin.operations.drafts import checked_edit
from services.admin.operations.start_from import Start
from services.admin.operations.tag_rights import refuse_beyond
from shared.connection_editing import ConnectionEdit
from shared.errors import PosthouseError

MOST: Final = 100
_TOGETHER: Final = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """One to be added, as `create_connection` takes it."""

    changes: Mapping[str, Any]
    acknowledged: bool = False
    start_from: Any = None


@dataclass(frozen=True, slots=True)
class Created:
    """The id of what was added, or why it was not."""

    id: int | None = None
    error: PosthouseError | None = None


def create_many(ctx: Context, every: Sequence[Wanted]) -> list[Created]:
    """Adds each, at most `MOST`; the outcomes are in the order given."""
    found: dict[int, Created] = {}
    alone: list[int] = []
    checked: list[tuple[int, ConnectionEdit, Start]] = []
    for at, wanted in enumerate(every):
        try:
            start = Start.parse(wanted.start_from)
            edit = checked_edit(None, wanted.changes)
            refuse_beyond(ctx, None, edit.connection)
        except PosthouseError as error:
            found[at] = Created(error=error)
            continue
        if _asks(wanted, edit):
            alone.append(at)
        else:
            checked.append((at, edit, start))
    with ctx.transaction() as session:
        for at, edit, start in checked:
            try:
                with session.transaction():
                    refuse_misfit(session, edit.connection)
                    found[at] = Created(insert_connection(ctx, session, edit, start))
            except PosthouseError as error:
                found[at] = Created(error=error)
    if alone:
        with ThreadPoolExecutor(min(_TOGETHER, len(alone))) as threads:
            found |= zip(alone, threads.map(lambda at: _alone(ctx, every[at]), alone), strict=True)
    return [found[at] for at in range(len(every))]


def _asks(wanted: Wanted, edit: ConnectionEdit) -> bool:
    """Whether a mail server, or an authorisation server, may have to be asked."""
    connection = edit.connection
    if connection.credential_id is not None:
        return True
    plain = wanted.acknowledged and wanted.start_from in (None, "everything")
    return connection.enabled and not plain


def _alone(ctx: Context, wanted: Wanted) -> Created:
    try:
        saved = create_connection(
            ctx, wanted.changes, acknowledged=wanted.acknowledged, start_from=wanted.start_from
        )
    except PosthouseError as error:
        return Created(error=error)
    return Created(saved.view.connection.id)
