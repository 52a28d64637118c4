"""Erasing one person's mails takes their rows and bytes, and nobody else's."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO

import psycopg
import pytest

from shared.clock import utc_now
from shared.errors import InvalidInput
from shared.messages import RawRef
from shared.person_erasure import erase_person
from shared.storage.pool import Database
from shared.store import FileStore, StoreFull
from tests.integration.rows import Session, add_connection, add_message, keep

PERSON = "Erika.Mustermann@example.org"


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


def texts(folder: Path) -> bytes:
    """Everything that is in the store."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def fill(session: Session, store: FileStore) -> None:
    """Two batches, each with mails from the person, to the person, and of others."""
    connection = add_connection(session)
    for back in (1, 2):
        at = utc_now() - timedelta(days=back)
        raw = keep(store, [b"from %s" % PERSON.encode(), b"other's one", b"to her", b"two"], at)
        opened = keep(store, [b"her opened mail", b"other's opened mail"], at)
        add_message(session, connection, at, ref=raw[0], sender=PERSON, opened=opened[0])
        add_message(session, connection, at, ref=raw[1], opened=opened[1])
        add_message(
            session, connection, at, ref=raw[2], recipients=("x@example.org", PERSON.lower())
        )
        add_message(session, connection, at, ref=raw[3], published=False)


def readable(session: Session, store: FileStore) -> list[bytes]:
    rows = session.execute(
        "SELECT raw_key, raw_offset, size FROM message UNION ALL "
        "SELECT opened_key, opened_offset, opened_size FROM message WHERE opened_key IS NOT NULL"
    ).fetchall()
    return sorted(store.read(RawRef(*row)) for row in rows)  # type: ignore[arg-type]


def test_the_persons_mails_go_and_the_others_can_still_be_read(
    database: Database, session: Session, tmp_path: Path
) -> None:
    store = FileStore(tmp_path)
    fill(session, store)
    erased = erase_person(database, store, PERSON.upper())
    assert (erased.messages, erased.objects, erased.postponed) == (4, 4, 0)
    assert readable(session, store) == sorted([b"other's one", b"two", b"other's opened mail"] * 2)
    left = texts(tmp_path)
    assert b"her" not in left.replace(b"other", b"")
    assert PERSON.encode() not in left
    assert session.execute("SELECT count(*) FROM outbox").fetchone() == (2,)
    assert erase_person(database, store, PERSON).messages == 0


def test_a_batch_that_is_being_published_is_left_for_later(
    database: Database, session: Session, tmp_path: Path
) -> None:
    store = FileStore(tmp_path)
    fill(session, store)
    session.execute("UPDATE outbox SET claimed_until = now() + interval '1 minute'")
    before = readable(session, store)
    erased = erase_person(database, store, PERSON)
    assert (erased.messages, erased.objects) == (0, 0)
    assert erased.postponed == 4
    assert readable(session, store) == before
    session.execute("UPDATE outbox SET claimed_until = NULL")
    assert erase_person(database, store, PERSON).messages == 4
    assert readable(session, store) == sorted([b"other's one", b"two", b"other's opened mail"] * 2)


class _Full(FileStore):
    def keep(self, file: IO[bytes], key: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_where_the_store_takes_nothing_others_keep_their_mails(
    database: Database, session: Session, tmp_path: Path
) -> None:
    store = FileStore(tmp_path)
    fill(session, store)
    before = readable(session, store)
    with pytest.raises(StoreFull):
        erase_person(database, _Full(tmp_path), PERSON)
    assert readable(session, store) == before


def test_quarantined_mails_of_others_keep_their_bytes(
    database: Database, session: Session, tmp_path: Path
) -> None:
    store = FileStore(tmp_path)
    fill(session, store)
    session.execute(
        "INSERT INTO quarantine (id, connection_id, code, reason, size, raw_key, raw_offset) "
        "SELECT id, connection_id, 'broken', '', size, raw_key, raw_offset FROM message "
        "WHERE lower(sender) <> lower(%s) AND recipients = '{}'",
        (PERSON,),
    )
    erase_person(database, store, PERSON)
    rows = session.execute("SELECT raw_key, raw_offset, size FROM quarantine").fetchall()
    found = sorted(store.read(RawRef(*row)) for row in rows)  # type: ignore[arg-type]
    assert found == [b"other's one", b"other's one", b"two", b"two"]


@pytest.mark.parametrize("address", ["", "erika", "a b@example.org"])
def test_what_is_no_address_is_refused(database: Database, tmp_path: Path, address: str) -> None:
    with pytest.raises(InvalidInput):
        erase_person(database, FileStore(tmp_path), address)
