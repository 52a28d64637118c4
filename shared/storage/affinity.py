"""Affinity: which fetcher keeps the session of a mailbox open, and therefore polls it.

A hint, never a right: what may fetch is decided by the lease alone. Schedulers send the polls of
these mailboxes to a queue of that fetcher, for as long as it says that it takes jobs from there.
What it left there is due again, and goes to the common queue. A fetcher that died loses its
mailboxes when its time runs out; one that was only paused finds that out when it looks (`held`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("affinity", named=Queries("affinity")["named"])


#: Seconds for which a fetcher that is silent is still sent jobs to its own queue.
AFFINITY_GRACE = 5.0


def heartbeat(session: Session, owner: str, ttl: float, *, takes_jobs: bool) -> bool:
    """The fetcher `owner` lives for `ttl` more seconds; `takes_jobs`: also from its own queue,
    which counts from the second time on. Whether it was known."""
    values = {"owner": owner, "ttl": ttl, "takes_jobs": takes_jobs, "grace": AFFINITY_GRACE}
    row = session.execute(_SQL["heartbeat"], values).fetchone()
    return bool(row and row[0])


def take_no_more(session: Session, owner: str) -> None:
    """The fetcher begins to end: nothing more is sent to its queue."""
    session.execute(_SQL["take_no_more"], {"owner": owner})


def is_lost(session: Session) -> bool:
    """Whether `make_due_again` or `release_dead` may find something."""
    row = session.execute(_SQL["is_lost"]).fetchone()
    return bool(row and row[0])


def make_due_again(session: Session) -> int:
    """Makes due what silent fetchers left in their queues; how many mailboxes."""
    return session.execute(_SQL["make_due_again"]).rowcount


def release_dead(session: Session) -> tuple[list[str], int]:
    """Takes mailboxes from fetchers that are no more: (those that were found dead just now, how
    many mailboxes are free). What waited in their queues is due at once: they are to be deleted
    before the commit."""
    dead = [row[0] for row in session.execute(_SQL["delete_dead"])]
    return dead, session.execute(_SQL["release_orphaned"]).rowcount


def release_all(session: Session, owner: str) -> None:
    """The fetcher ends: its mailboxes are free at once, and due where its queue had a job for them.
    The queue is to be deleted before the commit."""
    session.execute(_SQL["delete"], {"owner": owner})
    session.execute(_SQL["release_orphaned"])


def release(session: Session, owner: str, connection_ids: Sequence[int]) -> None:
    """These mailboxes have no session here any more."""
    session.execute(_SQL["release"], {"owner": owner, "ids": list(connection_ids)})


def held(session: Session, owner: str) -> dict[int, datetime]:
    """Mailboxes kept by `owner` that are still wanted → when their connection was edited last."""
    return {row[0]: row[1] for row in session.execute(_SQL["held"], {"owner": owner})}


def note_crowded(session: Session, owner: str, host: str) -> bool:
    """A server turned `owner` away, which has no session there; whether other fetchers have."""
    session.execute(_SQL["note_crowded"], {"host": host})
    row = session.execute(_SQL["others_keep"], {"owner": owner, "host": host}).fetchone()
    return bool(row and row[0])


def crowded(session: Session, seconds: float) -> list[str]:
    """Servers that turned a fetcher away within the last `seconds`."""
    return [row[0] for row in session.execute(_SQL["crowded"], {"seconds": seconds})]


def share(session: Session, owner: str) -> tuple[int, int, int]:
    """(mailboxes with an affinity to `owner`, to any fetcher, fetchers that live)."""
    row = session.execute(_SQL["share"], {"owner": owner}).fetchone()
    assert row is not None
    return (int(row[0]), int(row[1]), int(row[2]))
