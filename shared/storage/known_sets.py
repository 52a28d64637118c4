"""What a connection already had from a folder, answered in batches.

IMAP UIDs are ranges (`known_uid`), every other key is a 16-octet digest (`known_key`). The header
digests of mails that are still on an IMAP server (`known_content`, from the day after on
`packed_content`) tell them from new ones when the server re-creates the folder with another
UIDVALIDITY.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from hashlib import blake2b

from shared.clock import new_id
from shared.messages import Key
from shared.storage import header_digests
from shared.storage.arrays import array, octets_array
from shared.storage.header_digests import short
from shared.storage.pool import Database, Session
from shared.storage.queries import Queries

_SQL = Queries("ledger")

#: Days that a POP3 or Graph key stays known after the server stopped listing it.
VANISHED_DAYS = 30


def key_digest(key: str) -> bytes:
    """16 octets that stand for a UIDL or a Graph id."""
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _uids(keys: Sequence[Key]) -> str:
    return array(map(str, keys))


class KnownMails:
    """`shared.mailbox.base.Known` over Postgres; one short transaction a question.

    The first question costs none where all UIDs are from `unknown_from` on: none of these was had
    until then.
    """

    def __init__(
        self,
        database: Database,
        connection_id: int,
        folder: str,
        uid_validity: int | None,
        *,
        unknown_from: int | None = None,
    ) -> None:
        self._database = database
        self._unknown_from = unknown_from
        self._columns = {
            "connection_id": connection_id,
            "folder": folder,
            "uid_validity": uid_validity or 0,
        }

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        if not keys:
            return []
        unknown_from, self._unknown_from = self._unknown_from, None
        if unknown_from is not None and all(
            isinstance(key, int) and key >= unknown_from for key in keys
        ):
            return list(keys)
        with self._database.autocommit() as session:
            if isinstance(keys[0], int):
                rows = session.execute(_SQL["unknown_uids"], {**self._columns, "uids": _uids(keys)})
                return [row[0] for row in rows]
            digests = {key: key_digest(str(key)) for key in keys}
            rows = session.execute(
                _SQL["known_keys"], {**self._columns, "digests": list(digests.values())}
            )
            known = {row[0] for row in rows}
            return [key for key in keys if digests[key] not in known]

    def count(self) -> int:
        with self._database.autocommit() as session:
            name = "count_uids" if self._columns["uid_validity"] else "count_keys"
            row = session.execute(_SQL[name], self._columns).fetchone()
            return int(row[0]) if row else 0


def add_known(
    session: Session, connection_id: int, folder: str, uid_validity: int | None, keys: Sequence[Key]
) -> None:
    """Marks keys as had: they are never new again."""
    columns = {"connection_id": connection_id, "folder": folder, "uid_validity": uid_validity or 0}
    uids = [key for key in keys if isinstance(key, int)]
    digests = sorted({key_digest(key) for key in keys if isinstance(key, str)})
    if uids:
        session.execute(_SQL["add_uids"], {**columns, "uids": _uids(uids)})
    if digests:
        session.execute(_SQL["add_keys"], {**columns, "digests": digests})


def forget(
    session: Session, connection_id: int, folder: str, uid_validity: int | None, keys: Sequence[Key]
) -> None:
    """Makes keys new again: a quarantined mail that shall be fetched after all."""
    columns = {"connection_id": connection_id, "folder": folder, "uid_validity": uid_validity or 0}
    uids = [key for key in keys if isinstance(key, int)]
    digests = [key_digest(key) for key in keys if isinstance(key, str)]
    if uids:
        session.execute(_SQL["forget_uids"], {**columns, "uids": uids})
    if digests:
        session.execute(_SQL["forget_keys"], {**columns, "digests": digests})


def prune(
    session: Session,
    connection_id: int,
    folder: str,
    uid_validity: int | None,
    listed: Sequence[Key],
    *,
    packing: bool = False,
) -> None:
    """Forgets the vanished mails. `listed` is the whole folder.

    `packing`: once a day, what is known of IMAP mails is packed; only for who holds the lease.
    """
    columns = {"connection_id": connection_id, "folder": folder, "uid_validity": uid_validity or 0}
    if uid_validity is not None:
        session.execute(_SQL["prune_content"], {**columns, "uids": _uids(listed)})
        if packing:
            uids = [key for key in listed if isinstance(key, int)]
            header_digests.pack(session, connection_id, folder, uid_validity, uids)
        return
    digests = [key_digest(str(key)) for key in listed]
    session.execute(_SQL["room_to_hash"])
    session.execute(_SQL["prune_keys"], {**columns, "digests": digests})
    drop_vanished(session, connection_id, folder)


def drop_vanished(session: Session, connection_id: int, folder: str) -> None:
    """Forgets the keys that the server stopped listing long ago (`VANISHED_DAYS`)."""
    columns = {"connection_id": connection_id, "folder": folder}
    session.execute(_SQL["drop_vanished_keys"], {**columns, "days": VANISHED_DAYS})


def rebind(
    session: Session,
    connection_id: int,
    folder: str,
    uid_validity: int,
    digests: Mapping[int, bytes],
    again: Set[int] = frozenset(),
) -> set[int]:
    """Which of the mails (UID → header digest) are known from an earlier UIDVALIDITY.

    Each earlier mail stands for one mail at most. Those that are found become known under their
    new UIDs, together with what was still to be settled. Those of them in `again` are as they were
    before they were settled, and are to be settled once more.
    """
    if not digests:
        return set()
    columns = {"connection_id": connection_id, "folder": folder, "uid_validity": uid_validity}
    wanted = {uid: short(digest) for uid, digest in digests.items()}
    earlier = _earlier_mails(session, connection_id, folder, uid_validity, set(wanted.values()))
    moves = [
        (*earlier[digest].pop(), uid) for uid, digest in sorted(wanted.items()) if earlier[digest]
    ]
    if not moves:
        return set()
    session.execute(
        _SQL["move_content"],
        {
            **columns,
            "old_validities": [move[0] for move in moves],
            "old_uids": [move[1] for move in moves],
            "new_uids": [move[3] for move in moves],
        },
    )
    rebound = {move[3] for move in moves}
    packed = [move for move in moves if move[2]]
    if packed:
        taken = [(validity, number, old_uid) for validity, old_uid, number, _ in packed]
        header_digests.take_out(session, connection_id, folder, taken)
        uids = array(str(move[3]) for move in packed)
        contents = octets_array(wanted[move[3]] for move in packed)
        session.execute(_SQL["unpack"], {**columns, "uids": uids, "digests": contents})
    unsettled = sorted(rebound & again)
    session.execute(_SQL["settle_rebound"], {**columns, "uids": unsettled, "unknown": new_id()})
    add_known(session, connection_id, folder, uid_validity, sorted(rebound))
    return rebound


def _earlier_mails(
    session: Session, connection_id: int, folder: str, uid_validity: int, digests: set[bytes]
) -> defaultdict[bytes, list[tuple[int, int, int]]]:
    """(UIDVALIDITY, UID, number in its pack or 0) of the mails with these digests that are known
    from an earlier UIDVALIDITY; the next one to stand for a mail is the last of its list."""
    columns = {"connection_id": connection_id, "folder": folder, "uid_validity": uid_validity}
    # Not prepared: only a plan that sees the array makes a hash table of it, a cached one compares
    # each mail of the folder with each digest.
    rows = session.execute(
        _SQL["rebind"], {**columns, "digests": list(digests)}, prepare=False
    ).fetchall()
    found = [(validity, uid, bytes(digest), 0) for validity, uid, digest in rows]
    found += [
        (match.uid_validity, match.uid, match.digest, match.number)
        for match in header_digests.matches(session, connection_id, folder, uid_validity, digests)
    ]
    # The last UIDVALIDITY first, and of it the lowest UID.
    earlier: defaultdict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
    for old_validity, old_uid, digest, number in sorted(found, key=lambda one: (one[0], -one[1])):
        earlier[digest].append((old_validity, old_uid, number))
    return earlier
