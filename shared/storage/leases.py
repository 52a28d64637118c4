"""Leases: at most one fetch per mailbox folder at a time, over all replicas.

A lease carries a *fence*, a number that rises with every owner. Whatever a worker commits is
committed only while the lease still has its fence (`assert_held`, in the same transaction), so a
worker that stalled and lost its lease can do no harm when it wakes up. The statement that takes one
reads what its run begins with (`shared.storage.begun_runs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import LeaseLost
from shared.storage.arrays import array, text_array
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("leases")


@dataclass(frozen=True, slots=True)
class Lease:
    mailbox: str
    owner: str
    fence: int


def renew(session: Session, leases: Sequence[Lease], ttl: float) -> set[Lease]:
    """Prolongs leases of one owner; returns those that are still held."""
    if not leases:
        return set()
    owner = leases[0].owner
    rows = session.execute(_SQL["renew"], {**values(leases), "ttl": ttl})
    return {Lease(mailbox, owner, fence) for mailbox, fence in rows}


def release(session: Session, leases: Sequence[Lease]) -> set[Lease]:
    """Gives back leases of one owner; returns those that were still held."""
    if not leases:
        return set()
    held = {mailbox for (mailbox,) in session.execute(_SQL["release"], values(leases))}
    return {lease for lease in leases if lease.mailbox in held}


def take_away(session: Session, mailbox: str) -> None:
    """Ends the run that holds it, if any does: it commits nothing and deletes nothing any more."""
    session.execute(_SQL["take_away"], {"mailbox": mailbox})


def values(leases: Sequence[Lease]) -> dict[str, str]:
    """The parameters of what gives back leases of one owner."""
    ordered = sorted(leases, key=lambda lease: lease.mailbox)
    return {
        "mailboxes": text_array(lease.mailbox for lease in ordered),
        "fences": array(str(lease.fence) for lease in ordered),
        "owner": leases[0].owner,
    }


def assert_held(session: Session, lease: Lease) -> None:
    """Raises LeaseLost unless the lease is ours; keeps it so until the transaction ends."""
    values = {"mailbox": lease.mailbox, "fence": lease.fence, "owner": lease.owner}
    if session.execute(_SQL["assert_held"], values).fetchone() is None:
        raise lost(lease)


def lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"Another fetcher has taken over {lease.mailbox}.")
