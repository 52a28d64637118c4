"""Leases without a run that they are for."""

from __future__ import annotations

from collections.abc import Iterable

from shared.storage.leases import Lease
from shared.storage.pool import Session


def acquire(session: Session, mailboxes: Iterable[str], owner: str, ttl: float) -> list[Lease]:
    """Those of `mailboxes` that are free, for `ttl` seconds, as the beginning of a run leases
    them (`shared.storage.begun_runs`)."""
    rows = session.execute(
        "INSERT INTO lease AS l (mailbox, owner, until, fence)"
        " SELECT mailbox, %s, now() + make_interval(secs => %s), 1"
        " FROM unnest(%s::text[]) AS mailbox"
        " ON CONFLICT (mailbox) DO UPDATE"
        " SET owner = excluded.owner, until = excluded.until, fence = l.fence + 1"
        " WHERE l.until < now() RETURNING mailbox, owner, fence",
        (owner, ttl, sorted(mailboxes)),
    )
    return [Lease(*row) for row in rows]
