"""What ages out goes, rows and bytes; what somebody still needs stays."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from services.scheduler.retention import housekeeping
from shared.clock import utc_now
from shared.errors import NotFound
from shared.messages import RawRef
from shared.storage import retention
from shared.storage.pool import Database
from shared.store import FileStore, Store
from tests.integration.rows import Session, add_connection, add_handler, add_message, keep

NOW = utc_now().replace(hour=12)
DAYS = 30
DAY = timedelta(days=1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A ledger without the dated partitions that a migration makes: the tests make their own."""
    with psycopg.connect(database_url, autocommit=True) as session:
        made = session.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent IN ('message'::regclass, 'delivery'::regclass,"
            " 'filtered'::regclass)"
        ).fetchall()
        for (name,) in made:
            if not name.endswith("_rest"):
                session.execute(f"DROP TABLE {name}".encode())
    with Database(database_url, size=4) as opened:
        yield opened


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FileStore(tmp_path / "store")


def ids(session: Session) -> set[object]:
    return {row[0] for row in session.execute("SELECT id FROM message")}


def can_read(store: Store, ref: RawRef) -> bool:
    try:
        return len(store.read(ref)) == ref.size
    except NotFound:
        return False


def live_through(database: Database, store: Store, days: int) -> None:
    """Housekeeping once a day, the last time now, with mails of every day before."""
    for back in range(days, -1, -1):
        housekeeping(database, store, NOW - back * DAY, DAYS)


def test_published_mails_go_after_the_retention_with_their_bytes(
    database: Database, session: Session, store: Store
) -> None:
    connection = add_connection(session)
    housekeeping(database, store, NOW - 40 * DAY, DAYS)
    kept: list[tuple[uuid.UUID, RawRef]] = []
    gone: list[tuple[uuid.UUID, RawRef]] = []
    for back in (40, 35, 33, 20, 1):
        at = NOW - back * DAY
        ref = keep(store, [b"mail of %d days ago" % back], at)[0]
        identifier = add_message(session, connection, at, ref=ref)
        (gone if back > DAYS else kept).append((identifier, ref))
        session.execute(
            "INSERT INTO filtered VALUES (%s, 1, now(), 'rules', 'no rule accepts it')",
            (identifier,),
        )
        housekeeping(database, store, at, DAYS)
    report = housekeeping(database, store, NOW, DAYS)
    assert ids(session) == {identifier for identifier, _ in kept}
    left_out = session.execute("SELECT message_id FROM filtered").fetchall()
    assert {row[0] for row in left_out} == ids(session)
    assert all(can_read(store, ref) for _, ref in kept)
    assert not any(can_read(store, ref) for _, ref in gone)
    assert report.dropped == (f"message_{NOW - 31 * DAY:%Y%m%d}",)


def test_a_mail_that_waits_for_something_stays_with_its_bytes(
    database: Database, session: Session, store: Store
) -> None:
    connection = add_connection(session)
    at = NOW - 50 * DAY
    housekeeping(database, store, at, DAYS)
    refs = keep(store, [b"unpublished", b"unsettled", b"quarantined", b"done"], at)
    (opened,) = keep(store, [b"what was in the unsettled one"], at)
    unpublished = add_message(session, connection, at, ref=refs[0], published=False)
    unsettled = add_message(session, connection, at, ref=refs[1], opened=opened)
    session.execute(
        "INSERT INTO settlement (connection_id, folder, native_key, message_id) "
        "VALUES (%s, '', '7', %s)",
        (connection, unsettled),
    )
    quarantined = add_message(session, connection, at, ref=refs[2])
    session.execute(
        "INSERT INTO quarantine (id, connection_id, code, reason, raw_key, raw_offset) "
        "VALUES (%s, %s, 'broken', 'cannot be read', %s, %s)",
        (quarantined, connection, refs[2].key, refs[2].offset),
    )
    add_message(session, connection, at, ref=refs[3])
    live_through(database, store, 45)
    assert ids(session) == {unpublished, unsettled, quarantined}
    assert [store.read(ref) for ref in refs[:3]] == [b"unpublished", b"unsettled", b"quarantined"]
    assert can_read(store, opened), "it may be delivered again"

    for table in ("outbox", "settlement", "quarantine"):
        session.execute(f"DELETE FROM {table}".encode())
    housekeeping(database, store, NOW, DAYS)
    assert ids(session) == set()
    assert not can_read(store, refs[0])


@pytest.mark.parametrize("enabled", [True, False])
def test_what_an_enabled_handler_has_not_acknowledged_stays_to_refill_its_queue(
    database: Database, session: Session, store: Store, enabled: bool
) -> None:
    connection = add_connection(session)
    at = NOW - 40 * DAY
    handler = add_handler(session, "tickets", watermark=at - DAY, enabled=enabled)
    housekeeping(database, store, at, DAYS)
    (ref,) = keep(store, [b"a mail"], at)
    identifier = add_message(session, connection, at, ref=ref, handler_id=handler)
    live_through(database, store, 39)
    report = housekeeping(database, store, NOW, DAYS)
    assert ids(session) == ({identifier} if enabled else set())
    assert can_read(store, ref) == enabled
    assert report.waiting_for == (("tickets",) if enabled else ())

    session.execute("UPDATE handler_queue SET watermark = %s", (NOW,))
    housekeeping(database, store, NOW, DAYS)
    assert ids(session) == set()


def test_a_mail_outside_the_dated_partitions_stays_for_its_handler_too(
    database: Database, session: Session, store: Store
) -> None:
    """It came while no housekeeping ran for long."""
    at = NOW - 40 * DAY
    handler = add_handler(session, "tickets", watermark=at - DAY)
    (ref,) = keep(store, [b"a mail"], at)
    connection = add_connection(session)
    identifier = add_message(session, connection, at, ref=ref, handler_id=handler)
    housekeeping(database, store, NOW, DAYS)
    assert ids(session) == {identifier}
    assert can_read(store, ref)

    session.execute("UPDATE handler_queue SET watermark = %s", (NOW,))
    housekeeping(database, store, NOW, DAYS)
    assert ids(session) == set()


def test_a_pack_that_was_begun_before_midnight_stays_with_its_mails(
    database: Database, session: Session, store: Store
) -> None:
    """It has the day on which it was begun, its mails that on which they ended."""
    midnight = (NOW - DAYS * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    housekeeping(database, store, midnight, DAYS)
    (ref,) = keep(store, [b"a mail"], midnight - timedelta(seconds=1))
    connection = add_connection(session)
    identifier = add_message(session, connection, midnight + timedelta(seconds=1), ref=ref)
    live_through(database, store, DAYS)
    assert ids(session) == {identifier}
    assert can_read(store, ref)


def test_an_abandoned_queue_does_not_fill_the_disk_for_ever(
    database: Database, session: Session, store: Store
) -> None:
    at = NOW - 2 * DAYS * DAY - 2 * DAY
    handler = add_handler(session, "forgotten", watermark=at - DAY)
    housekeeping(database, store, at, DAYS)
    add_message(session, add_connection(session), at, handler_id=handler)
    housekeeping(database, store, NOW, DAYS)
    assert ids(session) == set()


def test_mails_that_came_while_no_housekeeping_ran_find_their_partition(
    database: Database, session: Session, store: Store
) -> None:
    connection = add_connection(session)
    early = add_message(session, connection, NOW - timedelta(minutes=1))
    assert retention.create_partitions(database, NOW, DAYS)
    late = add_message(session, connection, NOW + timedelta(minutes=1))
    assert ids(session) == {early, late}
    assert session.execute("SELECT count(*) FROM message_rest").fetchone() == (0,)


def test_partitions_meet_without_a_gap_whatever_the_retention(database: Database) -> None:
    retention.create_partitions(database, NOW, 30)
    retention.create_partitions(database, NOW + 2 * DAY, 365)
    retention.create_partitions(database, NOW + 20 * DAY, 30)
    with database.transaction() as session:
        found = retention.partitions(session)
    assert found[0].lower == NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    assert all(a.upper == b.lower for a, b in pairwise(found))
    assert {p.upper - p.lower for p in found} == {DAY, 7 * DAY}
    assert found[-1].upper > NOW + 22 * DAY


def test_housekeeping_gives_way_to_a_busy_ledger_and_to_its_twins(
    database: Database, database_url: str, store: Store
) -> None:
    with psycopg.connect(database_url) as busy:
        busy.execute("LOCK TABLE message_rest IN ROW EXCLUSIVE MODE")
        assert housekeeping(database, store, NOW, DAYS).created == ()
    reports: list[tuple[str, ...]] = []
    threads = [
        threading.Thread(
            target=lambda: reports.append(housekeeping(database, store, NOW, DAYS).created)
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [name for report in reports for name in report]
    assert names
    assert len(names) == len(set(names))


def test_stale_rows_and_spools_of_dead_processes_go(
    database: Database, session: Session, store: Store, tmp_path: Path
) -> None:
    connection = add_connection(session)
    session.execute(
        "INSERT INTO oauth_flow (state, connection_id, session, flow, created_at) VALUES "
        "('old', %s, '', '', now() - interval '2 hours'), ('new', %s, '', '', now())",
        (connection, connection),
    )
    session.execute(
        "INSERT INTO authorisation_link (connection_id, digest, created_by, expires_at) VALUES "
        "(%s, 'a', 'old', now() - interval '31 days'), (%s, 'b', 'new', now())",
        (connection, connection),
    )
    session.execute(
        "INSERT INTO session (digest, csrf, expires_at) VALUES "
        "('a', '', now() - interval '1 minute'), ('b', '', now() + interval '1 hour')"
    )
    session.execute(
        "INSERT INTO login_attempt VALUES ('old', now() - interval '2 days'), ('new', now())"
    )
    left = store.pack()
    left.write(b"half a mail")
    left.flush()
    (stale,) = (tmp_path / "store" / "spool").iterdir()
    open_pack = store.pack()
    open_pack.write(b"a mail that is just coming in")
    open_pack.flush()
    os.utime(stale, (0, 0))
    report = housekeeping(database, store, utc_now(), DAYS)
    assert session.execute("SELECT state FROM oauth_flow").fetchall() == [("new",)]
    assert session.execute("SELECT created_by FROM authorisation_link").fetchall() == [("new",)]
    assert session.execute("SELECT source FROM login_attempt").fetchall() == [("new",)]
    assert session.execute("SELECT count(*) FROM session").fetchone() == (1,)
    assert report.spool_files == 1
    open_pack.commit()


def test_one_of_all_schedulers_does_a_chore_once_in_its_time(database: Database) -> None:
    every = timedelta(hours=1)
    assert [retention.claim_chore(database, "tidy", every) for _ in range(3)] == [
        True,
        False,
        False,
    ]
    assert retention.claim_chore(database, "other", every)
    assert retention.claim_chore(database, "tidy", timedelta(0))
