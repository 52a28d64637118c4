"""Quarantine: mails that could not be processed, to be released or dropped."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from services.admin.context import Context
from services.admin.operations.tag_rights import visible
from shared.errors import Conflict, NotFound
from shared.messages import Key
from shared.storage import (
    connections,
    download_failures,
    folder_identity,
    known_sets,
    leases,
    quarantine,
    scheduling,
)
from shared.storage.folder_ref import FolderRef
from shared.storage.pool import Session
from shared.storage.quarantine import Quarantined as Quarantined


@dataclass(frozen=True, slots=True)
class QuarantinePage:
    """A page, newest first; `next` continues after it, None at the end."""

    items: tuple[Quarantined, ...]
    next: uuid.UUID | None
    total: int


def search_quarantine(
    ctx: Context,
    *,
    connection_id: int | None = None,
    code: str | None = None,
    q: str = "",
    before: uuid.UUID | None = None,
    limit: int = 50,
) -> QuarantinePage:
    with ctx.transaction() as session:
        found = quarantine.entries(
            session,
            connection_id=connection_id,
            code=code,
            q=q,
            part=ctx.principal.tags,
            before=before,
            limit=limit + 1,
        )
        total = quarantine.count(session, ctx.principal.tags)
    following = found[limit - 1].id if len(found) > limit else None
    return QuarantinePage(tuple(found[:limit]), following, total)


def get_quarantined(ctx: Context, entry_id: uuid.UUID) -> Quarantined:
    """Raises NotFound."""
    with ctx.transaction() as session:
        return _get(ctx, session, entry_id)


def read_quarantined(ctx: Context, entry_id: uuid.UUID) -> tuple[int, Iterator[bytes]]:
    """Size and octets. Raises NotFound where the mail was left on the server."""
    entry = get_quarantined(ctx, entry_id)
    if entry.raw is None:
        raise NotFound("This mail was left on its server: its octets are not here.")
    with ctx.transaction() as session:
        ctx.record_reading(session, f"quarantine/{entry_id}")
    return entry.raw.size, ctx.app_state.store.stream(entry.raw)


def release(ctx: Context, entry_id: uuid.UUID) -> None:
    """Releases a mail: one that was downloaded goes through the decryptor again, one that was
    left on the server is fetched by the next run (where its limit was the reason, raise
    MAX_MESSAGE_BYTES first). Raises NotFound, Conflict."""
    with ctx.transaction() as session:
        entry = _get(ctx, session, entry_id)
        _release(session, entry)
        ctx.record(session, "release", f"quarantine/{entry_id}", before={"reason": entry.reason})


def drop(ctx: Context, entry_id: uuid.UUID) -> None:
    """Gives a mail up. It stays known, so it never comes back by itself. Raises NotFound."""
    with ctx.transaction() as session:
        entry = _get(ctx, session, entry_id)
        quarantine.drop(session, entry_id)
        ctx.record(session, "drop", f"quarantine/{entry_id}", before={"reason": entry.reason})


def release_many(ctx: Context, ids: Sequence[uuid.UUID]) -> int:
    """Returns how many; those that are gone already are no error, and those that cannot be released
    stay. Raises Conflict where that are all."""
    return _many(ctx, ids, release)


def drop_many(ctx: Context, ids: Sequence[uuid.UUID]) -> int:
    """Returns how many; those that are gone already are no error."""
    return _many(ctx, ids, drop)


def _get(ctx: Context, session: Session, entry_id: uuid.UUID) -> Quarantined:
    """Of the part of who asks. Raises NotFound."""
    entry = quarantine.get(session, entry_id)
    found = connections.get_many(session, [entry.connection_id])
    if ctx.principal.tags and not visible(ctx, found):
        raise NotFound(f"There is no mail {entry_id} in quarantine.")
    return entry


def _many(ctx: Context, ids: Sequence[uuid.UUID], act: Callable[[Context, uuid.UUID], None]) -> int:
    """How many. Raises Conflict where that keeps all of them from it."""
    done = 0
    refused: Conflict | None = None
    for entry_id in ids:
        try:
            act(ctx, entry_id)
            done += 1
        except NotFound:
            continue
        except Conflict as error:
            refused = refused or error
    if refused is not None and not done:
        raise refused
    return done


def _release(session: Session, entry: Quarantined) -> None:
    if entry.in_ledger:
        quarantine.publish_anew(session, entry.id)
        return
    found = connections.get_many(session, [entry.connection_id])
    if not found:
        raise Conflict(
            "Its connection is gone: there is no mailbox to fetch it from.",
            hint="Drop it.",
            code="connection-gone",
        )
    if found[0].folder != entry.folder:
        raise Conflict(
            "Its connection reads another folder now: it would not be fetched.",
            hint="Fetch that folder again, or drop it.",
            code="another-folder",
        )
    validity = folder_identity.last_uid_validity(session, entry.connection_id)
    if entry.uid_validity and validity not in (None, entry.uid_validity):
        raise Conflict(
            "Its folder was made anew: the mail has another number there, by which it came or is "
            "in quarantine once more.",
            hint="Drop this one.",
            code="folder-made-anew",
        )
    # A run that listed the mails before would end with a cursor, after which nobody looks at it.
    leases.take_away(session, found[0].lease_key())
    key: Key = int(entry.native_key) if found[0].kind.numbered else entry.native_key
    known_sets.forget(session, entry.connection_id, entry.folder, entry.uid_validity or None, [key])
    folder_ref = FolderRef(entry.connection_id, entry.folder, entry.uid_validity or None)
    download_failures.release(session, folder_ref, key)
    quarantine.drop(session, entry.id)
    connections.forget_cursor(session, entry.connection_id)
    scheduling.make_due(session, [entry.connection_id])
