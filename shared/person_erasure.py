"""Erases one person's mails: rows and octets, and nobody else's.

Mails of a batch share an object of the store (a pack), so each pack that holds one of the person's
mails is written anew without it. Every step can be repeated: others' mails are moved first, then
the old pack goes, then the person's rows; whoever is interrupted starts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.clock import new_id
from shared.errors import InvalidInput, NotFound
from shared.storage import person_erasure
from shared.storage.person_erasure import ErasedMail, PackShare
from shared.storage.pool import Database
from shared.store import Store

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Erased:
    """How many mails are gone and how many objects were removed or written anew.

    `postponed` objects are kept, with their mails, because one of them is being published right
    now: call again in a minute.
    """

    messages: int
    objects: int
    postponed: int


def erase_person(database: Database, store: Store, address: str) -> Erased:
    """Erases every mail that `address` sent or was addressed in (To, Cc).

    Events that handlers already have are theirs to erase. Raises InvalidInput where `address` is
    none.
    """
    address = address.strip()
    if "@" not in address or any(character.isspace() for character in address):
        raise InvalidInput("That is no mail address.", field="address")
    with database.transaction() as session:
        messages, objects = person_erasure.forget_left(session, address), 0
    while True:
        with database.transaction() as session:
            mails = person_erasure.mails_of(session, address, _BATCH)
            keys = sorted({key for mail in mails for key in mail.objects})
            shares = person_erasure.others_in(session, address, keys)
        busy = {key for key in keys if not _vacate(database, store, key, shares, mails)}
        # What a postponed mail still needs stays for it.
        busy |= {k for mail in mails if busy.intersection(mail.objects) for k in mail.objects}
        done = [mail.id for mail in mails if not busy.intersection(mail.objects)]
        for key in keys:
            if key not in busy:
                store.delete(key)
        with database.transaction() as session:
            messages += person_erasure.forget(session, done)
        objects += len(keys) - len(busy)
        if len(mails) < _BATCH or busy:
            return Erased(messages, objects, len(busy))


def _vacate(
    database: Database, store: Store, key: str, shares: list[PackShare], mails: list[ErasedMail]
) -> bool:
    """Moves what others have in the object `key` to a new one of its day; False while in use."""
    erased = [mail.id for mail in mails if key in mail.objects]
    with store.pack() as pack:
        pack.key = f"{key.rpartition('/')[0]}/{new_id().hex}"
        moved = []
        for share in shares:
            start = pack.size
            if share.ref.key != key:
                continue
            try:
                for chunk in store.stream(share.ref):
                    pack.write(chunk)
            except NotFound:  # somebody else is erasing, and has moved it already
                pack.truncate(start)
                continue
            moved.append((share, start))
        if moved:
            pack.commit()
        with database.transaction() as session:
            free = person_erasure.move(session, key, pack.key, moved, erased)
    if moved and not free:
        store.delete(pack.key)
    return free
