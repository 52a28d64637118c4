"""What is still to be marked read or deleted on its server, and what servers confirmed of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.messages import Key
from shared.storage import known_sets
from shared.storage.arrays import array, octets_array, text_array
from shared.storage.folder_ref import FolderRef, columns_of_all
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("ledger")


def unsettled(session: Session, folder_ref: FolderRef, limit: int) -> list[Key]:
    """Mails of this folder that are safe here and whose server was not told yet."""
    rows = session.execute(_SQL["unsettled"], {**folder_ref.columns(), "limit": limit})
    return [int(key) if folder_ref.uid_validity else key for (key,) in rows]


def flagged(session: Session, folder_ref: FolderRef) -> list[Key]:
    """UIDs of mails that we flagged deleted and whose server could not remove them yet."""
    return [int(row[0]) for row in session.execute(_SQL["flagged"], folder_ref.columns())]


def has_flagged_elsewhere(session: Session, folder_ref: FolderRef) -> bool:
    """The same of an earlier UIDVALIDITY: whether there are any."""
    row = session.execute(_SQL["has_flagged_elsewhere"], folder_ref.columns()).fetchone()
    return bool(row and row[0])


def record_flagged(session: Session, folder_ref: FolderRef, keys: Sequence[Key]) -> None:
    """These mails are flagged deleted by us, and not removed."""
    told = text_array(str(key) for key in keys)
    session.execute(_SQL["record_flagged"], {**folder_ref.columns(), "native_keys": told})


def count_flagged(session: Session, connection_id: int) -> int:
    """How many mails of a connection are flagged deleted by us and still there."""
    row = session.execute(_SQL["count_flagged"], {"connection_id": connection_id}).fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What a server has confirmed: that it deleted these mails, or marked them read (where it
    `marks` any; POP3 does not)."""

    folder_ref: FolderRef
    keys: Sequence[Key]
    deleted: bool
    marks: bool = True

    @property
    def settled_as(self) -> str:
        return "deleted" if self.deleted else "read" if self.marks else "nothing"


def record_settled(session: Session, confirmed: Sequence[Settled]) -> None:
    """Records what several servers have confirmed: one statement for each way of settling."""
    ways = by_way(confirmed)
    record_ways(session, ways)
    forget_deleted(session, ways.get("deleted", ()))


#: Mails, each with its folder.
MailsOfFolders = Sequence[tuple[FolderRef, Key]]


def by_way(confirmed: Sequence[Settled]) -> dict[str, MailsOfFolders]:
    """What was settled, by `Settled.settled_as`; no way without a mail."""
    ways: dict[str, list[tuple[FolderRef, Key]]] = defaultdict(list)
    for one in confirmed:
        if one.keys:
            ways[one.settled_as] += [(one.folder_ref, key) for key in one.keys]
    return dict(ways)


def record_ways(session: Session, ways: Mapping[str, MailsOfFolders]) -> None:
    """That these mails were settled, one statement for each way."""
    for way, mails in ways.items():
        statement = f"WITH {_SQL['settling']} {_SQL['settled']}"
        session.execute(statement, settled_values(way, mails))


def settled_values(way: str, mails: MailsOfFolders) -> dict[str, str]:
    """The parameters of such a statement."""
    return {
        **columns_of_all(folder_ref for folder_ref, _ in mails),
        "native_keys": text_array(str(key) for _, key in mails),
        "settled_as": way,
    }


def forget_deleted(session: Session, mails: MailsOfFolders) -> None:
    """Forgets the content of mails that their servers have no more."""
    _forget(session, [mail for mail in mails if mail[0].uid_validity is not None])
    _vanish(session, [mail for mail in mails if mail[0].uid_validity is None])


def _forget(session: Session, mails: Sequence[tuple[FolderRef, Key]]) -> None:
    if mails:
        uids = array(str(key) for _, key in mails)
        session.execute(
            _SQL["forget_content"],
            {**columns_of_all(folder_ref for folder_ref, _ in mails), "uids": uids},
        )


def _vanish(session: Session, mails: Sequence[tuple[FolderRef, Key]]) -> None:
    if mails:
        digests = octets_array(known_sets.key_digest(str(key)) for _, key in mails)
        session.execute(
            _SQL["vanish_keys"],
            {**columns_of_all(folder_ref for folder_ref, _ in mails), "digests": digests},
        )


def drop_stale_settlements(session: Session, folder_ref: FolderRef, days: int) -> None:
    """Some days after a folder was re-created: what did not come back is settled."""
    session.execute(_SQL["drop_stale_settlements"], {**folder_ref.columns(), "days": days})
