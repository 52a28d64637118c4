"""What is known of mails that stay on an IMAP server: small, and still known again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import pytest

from shared.storage import (
    connections,
    folder_identity,
    header_digests,
    known_sets,
    ledger,
    settlements,
)
from shared.storage.folder_ref import FolderRef
from shared.storage.pool import Database, Session
from shared.storage.settlements import Settled
from tests.integration.test_ledger import lease, message

OLD, NEW = 100, 200


def digest(number: int) -> bytes:
    return sha256(str(number).encode()).digest()[:16]


def add_known(session: Session, folder_ref: FolderRef, uids: Sequence[int]) -> None:
    """Mails that were had, as a commit leaves them, without ledger."""
    with (
        session.cursor() as cursor,
        cursor.copy(
            "COPY known_content (connection_id, folder, uid_validity, uid, digest) FROM STDIN"
        ) as copy,
    ):
        for uid in uids:
            kept = "\\x" + header_digests.short(digest(uid)).hex()
            copy.write_row((folder_ref.connection_id, folder_ref.folder, OLD, uid, kept))


def pack(session: Session, folder_ref: FolderRef, listed: Sequence[int]) -> None:
    known_sets.prune(
        session, folder_ref.connection_id, folder_ref.folder, OLD, listed, packing=True
    )


def rebind(session: Session, folder_ref: FolderRef, mails: dict[int, bytes]) -> set[int]:
    return known_sets.rebind(session, folder_ref.connection_id, folder_ref.folder, NEW, mails)


def rows(session: Session, table: bytes) -> int:
    found = session.execute(b"SELECT count(*) FROM " + table).fetchone()
    assert found is not None
    return int(found[0])


def octets(session: Session) -> int:
    """Of the table with its index and all that belongs to it."""
    found = session.execute("SELECT pg_total_relation_size('packed_content')").fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.promise("T4")
@pytest.mark.parametrize("step", [1, 2])
def test_a_known_mail_takes_twelve_octets(
    database: Database, folder_ref: FolderRef, step: int
) -> None:
    """Packed day by day, in a folder with all its mails and in one that lost every other one."""
    uids = range(1, 150_000 * step + 1, step)
    begin = 0
    with database.transaction() as session:
        for end in (100, 200, 1500, 150_000):
            add_known(session, folder_ref, uids[begin:end])
            pack(session, folder_ref, uids[:end])
            begin = end
        assert rows(session, b"known_content") == 0
        assert octets(session) / 150_000 <= 12


@pytest.mark.promise("I9")
def test_packed_mails_are_known_again_each_once(database: Database, folder_ref: FolderRef) -> None:
    """Among them two with one header, of which a third one is new."""
    held = lease(database, "a")
    mails = [message(uid, "same" if uid < 3 else "") for uid in range(1, 1001)]
    with database.transaction() as session:
        ledger.commit_batch(session, held, folder_ref, mails)
        pack(session, folder_ref, range(1, 1001))
    same = mails[0].header_digest
    again = {2000 - uid: mail.header_digest for uid, mail in enumerate(mails, 1)}
    with database.transaction() as session:
        had = rebind(session, folder_ref, {**again, 5000: same, 5001: digest(77_777)})
        assert had == {*again}
        # Each stood for one mail: what comes once more is another mail.
        assert not rebind(session, folder_ref, {6000 + n: d for n, d in enumerate(again.values())})
        assert (
            set(settlements.unsettled(session, replace(folder_ref, uid_validity=NEW), 2000)) == had
        )
        assert rows(session, b"packed_content") == 0
        # And once more, from under the new UIDs.
        known_sets.prune(
            session, folder_ref.connection_id, folder_ref.folder, NEW, sorted(had), packing=True
        )
        assert rows(session, b"known_content") == 0
        third = {uid + 5: content for uid, content in again.items()}
        assert known_sets.rebind(
            session, folder_ref.connection_id, folder_ref.folder, 300, third
        ) == {*third}


def test_a_packed_mail_is_settled_again_where_a_backup_shows_it_as_before(
    database: Database, folder_ref: FolderRef
) -> None:
    held = lease(database, "a")
    with database.transaction() as session:
        ledger.commit_batch(session, held, folder_ref, [message(1), message(2)])
        settlements.record_settled(session, [Settled(folder_ref, [1, 2], deleted=False)])
        pack(session, folder_ref, [1, 2])
        mails = {11: message(1).header_digest, 12: message(2).header_digest}
        had = known_sets.rebind(
            session, folder_ref.connection_id, folder_ref.folder, NEW, mails, {12}
        )
        assert had == {11, 12}
        now = replace(folder_ref, uid_validity=NEW)
        assert settlements.unsettled(session, now, 10) == [12]
        settlements.record_settled(session, [Settled(now, [12], deleted=False)])
        assert not settlements.unsettled(session, now, 10)


def test_packed_mails_that_vanish_are_forgotten(database: Database, folder_ref: FolderRef) -> None:
    with database.transaction() as session:
        add_known(session, folder_ref, range(1, 2001))
        pack(session, folder_ref, range(1, 2001))
        stay = [uid for uid in range(1, 2001) if uid % 7]
        pack(session, folder_ref, stay)
        had = rebind(session, folder_ref, {10_000 + uid: digest(uid) for uid in range(1, 2001)})
        assert had == {10_000 + uid for uid in stay}


def test_another_folder_with_the_same_validity_finds_packed_mails(
    database: Database, folder_ref: FolderRef
) -> None:
    with database.transaction() as session:
        add_known(session, folder_ref, range(1, 11))
        pack(session, folder_ref, range(1, 11))
        folder_identity.begin_another_folder(
            session, folder_ref.connection_id, folder_ref.folder, OLD
        )
        mails = {uid + 20: digest(uid) for uid in range(2, 12)}
        had = known_sets.rebind(session, folder_ref.connection_id, folder_ref.folder, OLD, mails)
        assert had == {uid + 20 for uid in range(2, 11)}
        folder_identity.end_rebinding(session, folder_ref.connection_id, folder_ref.folder)
        assert rows(session, b"packed_content") == 1, "whoever copies mails has some days for it"
        session.execute(
            "UPDATE connection_state SET validity_changed_at = now() - make_interval(days => %s)",
            [folder_identity.REBINDING_DAYS + 1],
        )
        folder_identity.end_rebinding(session, folder_ref.connection_id, folder_ref.folder)
        assert rows(session, b"packed_content") == 0


def test_what_is_forgotten_of_a_connection_is_forgotten_packed(
    database: Database, folder_ref: FolderRef
) -> None:
    """Its mailbox was edited: it is another one now."""
    with database.transaction() as session:
        add_known(session, folder_ref, range(1, 11))
        pack(session, folder_ref, range(1, 11))
        connections.forget_mailbox(session, folder_ref.connection_id)
        assert rows(session, b"packed_content") == 0
