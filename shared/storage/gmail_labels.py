"""Gmail shows one mail in a folder for each of its labels: the same mail, delivered once.

X-GM-MSGID ("IMAP extensions", developers.google.com/workspace/gmail/imap/imap-extensions) names a
mail within its account, whatever the label. A mail that came through one label is not handed over
again because it is found under another one, by the same connection or by another of the account:
each handler that takes both has it once. Within one folder the UID decides as everywhere.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.connections import Connection
from shared.storage import connections, known_sets, leases
from shared.storage.folder_ref import FolderRef
from shared.storage.leases import Lease
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("gmail_labels")


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A mail (UID, X-GM-MSGID) that every handler of the connection got under another label."""

    uid: int
    gmail_id: int
    message_id: uuid.UUID
    digest: bytes


@dataclass(slots=True)
class Sorted:
    """`duplicates` are known. Of `waiting` (UIDs) it shows later whether they are, too: their mail
    is not yet handed over. `only_for`: UIDs to be fetched for these handlers alone, and which
    handlers had them: in a group that may be another one."""

    duplicates: list[Duplicate] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    only_for: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)


def find_duplicates(session: Session, connection: Connection, found: Mapping[int, int]) -> Sorted:
    """Which mails came through another label. `found`: UID → X-GM-MSGID of mails that are not
    known in the connection's folder; what the answer does not name is new."""
    rows = session.execute(
        _SQL["known_elsewhere"], {**_where(session, connection), "gmail_ids": list(found.values())}
    )
    already_known: dict[int, list[tuple[uuid.UUID, bytes, bool, list[int]]]] = defaultdict(list)
    for gmail_id, message_id, digest, waiting, handlers in rows:
        already_known[gmail_id].append((message_id, bytes(digest), waiting, handlers))
    answer = Sorted()
    if not already_known:
        return answer
    taking = {row[0] for row in session.execute(_SQL["taking"], {"connection_id": connection.id})}
    for uid, gmail_id in found.items():
        others = already_known.get(gmail_id)
        if others is None:
            continue
        delivered_to = {handler for *_, handlers in others for handler in handlers}
        missing = taking - delivered_to
        if any(waiting for _, _, waiting, _ in others):
            answer.waiting.add(uid)
        elif not missing:
            answer.duplicates.append(Duplicate(uid, gmail_id, *others[0][:2]))
        elif delivered_to:
            answer.only_for[uid] = (sorted(missing), sorted(delivered_to))
    return answer


def lock(session: Session, connection: Connection) -> None:
    """Until the transaction ends, nobody else commits mails of this mailbox: two labels are
    fetched at the same time, and the same mail may be on its way through both."""
    session.execute(_SQL["lock"], {"mailbox": connection.mailbox_key()})


def mark_known(
    session: Session, lease: Lease, folder_ref: FolderRef, duplicates: Sequence[Duplicate]
) -> None:
    """Makes duplicates known in this folder, to be settled as if they had come through it.

    Raises LeaseLost.
    """
    leases.assert_held(session, lease)
    uids = [duplicate.uid for duplicate in duplicates]
    values = {
        **folder_ref.columns(),
        "uids": uids,
        "ids": [duplicate.message_id for duplicate in duplicates],
        "digests": [duplicate.digest for duplicate in duplicates],
        "gmail_ids": [duplicate.gmail_id for duplicate in duplicates],
    }
    known_sets.add_known(
        session, folder_ref.connection_id, folder_ref.folder, folder_ref.uid_validity, uids
    )
    session.execute(_SQL["add_content"], values)
    session.execute(_SQL["insert_settlements"], values)


def known_elsewhere(session: Session, connection: Connection) -> bool:
    """Whether any mail of this account came through another label."""
    row = session.execute(_SQL["any_elsewhere"], _where(session, connection)).fetchone()
    return bool(row and row[0])


def _where(session: Session, connection: Connection) -> dict[str, object]:
    folder = "" if connection.folder.upper() == "INBOX" else connection.folder
    ids = [other.id for other in connections.of_mailbox(session, connection)]
    return {"connection_ids": [*ids, connection.id], "inbox_or_folder": folder}
