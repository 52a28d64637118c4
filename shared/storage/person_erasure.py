"""Finds, moves and forgets the mails of a person who is erased. Octets: `shared.person_erasure`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from shared.mail import search_terms
from shared.messages import RawRef
from shared.storage.arrays import array
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("person_erasure")


@dataclass(frozen=True, slots=True)
class ErasedMail:
    """One of the person's mails and the objects its octets lie in."""

    id: uuid.UUID
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PackShare:
    """What another mail has in such an object: its raw form, or the opened one."""

    message_id: uuid.UUID
    is_opened: bool
    ref: RawRef


def mails_of(session: Session, address: str, limit: int) -> list[ErasedMail]:
    """Mails that `address` (case-insensitive) sent or was addressed in, oldest first."""
    terms = array(map(str, search_terms.numbers([search_terms.address_term(address)])))
    values = {"address": address.lower(), "terms": terms, "limit": limit}
    rows = session.execute(_QUERIES["mails_of"], values)
    return [ErasedMail(i, tuple(sorted({key for key in keys if key}))) for i, *keys in rows]


def others_in(session: Session, address: str, keys: Sequence[str]) -> list[PackShare]:
    """What must be kept of these objects, in the order in which it lies there."""
    rows = session.execute(_QUERIES["others_in"], {"address": address.lower(), "keys": list(keys)})
    return [PackShare(i, opened, RawRef(key, start, size)) for i, opened, key, start, size in rows]


def move(
    session: Session,
    old: str,
    new: str,
    moved: Sequence[tuple[PackShare, int]],
    erased: Sequence[uuid.UUID],
) -> bool:
    """Points the mails at their new places, (share, offset) each.

    False, changing nothing, while one of them or one of the `erased` is being published.
    """
    ids = sorted({share.message_id for share, _ in moved} | set(erased))
    if any(busy for (busy,) in session.execute(_QUERIES["lock_outbox"], {"ids": ids}).fetchall()):
        return False
    for query, is_opened in (
        ("move_raw", False),
        ("move_quarantined", False),
        ("move_opened", True),
    ):
        chosen = [(s.message_id, start) for s, start in moved if s.is_opened is is_opened]
        values = {
            "old": old,
            "new": new,
            "ids": [identifier for identifier, _ in chosen],
            "offsets": [start for _, start in chosen],
        }
        session.execute(_QUERIES[query], values)
    return True


def forget(session: Session, ids: Sequence[uuid.UUID]) -> int:
    """Removes the mails' rows; returns how many there were."""
    return session.execute(_QUERIES["forget"], {"ids": list(ids)}).rowcount


def forget_left(session: Session, address: str) -> int:
    """Removes what the headers said of mails by `address` that were left on their server; how many.

    The mails stay known, so they do not come by themselves.
    """
    return session.execute(_QUERIES["forget_left"], {"address": address.lower()}).rowcount
