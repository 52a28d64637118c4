"""What the end of runs records at once, of mailboxes whose mails were settled in different ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from shared.connection_editing import edit
from shared.storage import connections, ended_runs, leases, ledger
from shared.storage.ended_runs import EndedRun
from shared.storage.folder_ref import FolderRef
from shared.storage.known_sets import KnownMails
from shared.storage.leases import Lease
from shared.storage.ledger import NotedRun
from shared.storage.pool import Contended, Database, Session
from shared.storage.settlements import Settled
from tests.integration.test_ledger import message
from tests.rig.leasing import acquire

CURSOR = {"uid_validity": 100, "uid_next": 2, "mailbox_id": 'a"\\b{},'}


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.transaction() as session:
        return session.execute(statement.encode()).fetchall()


@pytest.fixture
def begun(database: Database) -> list[tuple[Lease, FolderRef]]:
    """Runs of four mailboxes, two of IMAP and two of POP3, with a mail of each committed."""
    found = []
    with database.transaction() as session:
        for number, mode in enumerate(("imap", "imap", "pop3", "pop3")):
            fields = {"name": f"c{number}", "mode": mode, "host": "h", "username": f"u{number}"}
            made = connections.insert(session, edit(None, {**fields, "password": "p"}).connection)
            folder_ref = FolderRef(made, "", 100 if mode == "imap" else None)
            (lease,) = acquire(session, [f"box{number}"], "me", 60)
            ledger.commit_batch(session, lease, folder_ref, [message(1)])
            found.append((lease, folder_ref))
    return found


def ended(lease: Lease, folder_ref: FolderRef, *, deleted: bool, marks: bool) -> EndedRun:
    key = 1 if folder_ref.uid_validity else "1"
    return EndedRun(
        lease=lease,
        connection_id=folder_ref.connection_id,
        duration_ms=7,
        lane="fetch",
        cursor=CURSOR if folder_ref.uid_validity else None,
        keep_cursor=folder_ref.uid_validity is not None,
        uid_validity=folder_ref.uid_validity,
        settled=[Settled(folder_ref, [key], deleted, marks)],
        noted=NotedRun(folder_ref.connection_id, 7, 1, 1, 10),
    )


@pytest.mark.parametrize("of_several", [False, True])
def test_each_way_of_settling_is_recorded_with_the_end(
    database: Database, begun: list[tuple[Lease, FolderRef]], of_several: bool
) -> None:
    ways = [(False, True), (True, True), (False, False), (True, False)]
    runs = [
        ended(lease, folder_ref, deleted=deleted, marks=marks)
        for (lease, folder_ref), (deleted, marks) in zip(begun, ways, strict=True)
    ]
    ended_runs.record(database, runs, of_several=of_several)
    assert rows(database, "SELECT settled_as FROM message ORDER BY connection_id") == [
        ("read",),
        ("deleted",),
        ("nothing",),
        ("deleted",),
    ]
    assert rows(database, "SELECT count(*) FROM settlement") == [(0,)]
    assert rows(database, "SELECT connection_id, downloaded FROM fetch_run ORDER BY 1") == [
        (folder_ref.connection_id, 1) for _, folder_ref in begun
    ]
    assert rows(database, "SELECT cursor, health FROM connection_state ORDER BY connection_id") == [
        (CURSOR, "working"),
        (CURSOR, "working"),
        (None, "working"),
        (None, "working"),
    ]
    # What tells a deleted mail from others is let go of, and the mail stays known.
    assert rows(database, "SELECT connection_id FROM known_content") == [
        (begun[0][1].connection_id,)
    ]
    assert KnownMails(database, begun[3][1].connection_id, "", None).count() == 0
    with database.transaction() as session:
        again = acquire(session, [lease.mailbox for lease, _ in begun], "other", 60)
    assert len(again) == len(begun), "all leases were given back"


class _OnOneSession:
    """A pool whose transaction goes on after what is performed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def perform(self, work: Callable[[Session], object], *, single: bool) -> object:
        return work(self._session)


def test_an_end_waits_for_no_disk_and_nothing_after_it_does_without(
    database: Database, begun: list[tuple[Lease, FolderRef]]
) -> None:
    """Where a crash of Postgres takes it back, the next run says it once more."""

    def waits(session: Session) -> bool:
        return session.execute("SHOW synchronous_commit").fetchall() == [("on",)]

    runs = [ended(lease, folder_ref, deleted=False, marks=True) for lease, folder_ref in begun]
    with database.transaction() as session:
        session.execute("SET synchronous_commit = on")  # as it is by default; not of these tests
        session.commit()
        ended_runs.record(cast(Database, _OnOneSession(session)), runs)
        assert not waits(session)
        session.commit()
        assert waits(session)
        session.execute("RESET synchronous_commit")


def test_runs_of_several_threads_wait_for_no_locked_row(
    database: Database, begun: list[tuple[Lease, FolderRef]]
) -> None:
    runs = [ended(lease, folder_ref, deleted=False, marks=True) for lease, folder_ref in begun[:2]]
    with database.transaction() as session:
        session.execute(
            "SELECT FROM connection_state WHERE connection_id = %s FOR UPDATE",
            (runs[1].connection_id,),
        )
        with pytest.raises(Contended):
            ended_runs.record(database, runs, of_several=True)
    assert rows(database, "SELECT count(*) FROM fetch_run") == [(0,)], "all or nothing"
    ended_runs.record(database, runs)
    assert rows(database, "SELECT count(*) FROM fetch_run") == [(2,)]


@pytest.mark.promise("I4", "M9")
def test_a_run_whose_lease_was_taken_away_says_nothing_of_its_end(
    database: Database, begun: list[tuple[Lease, FolderRef]]
) -> None:
    """With its cursor a mail that was released meanwhile, or that an edit asks for, never came."""
    edited = begun[0][1].connection_id
    with database.transaction() as session:
        leases.take_away(session, begun[0][0].mailbox)
    asked = f"SELECT row_to_json(s)::text FROM connection_state AS s WHERE connection_id = {edited}"
    before = rows(database, asked)
    runs = [ended(lease, folder_ref, deleted=False, marks=True) for lease, folder_ref in begun]
    ended_runs.record(database, runs)
    assert rows(database, asked) == before
    noted = "SELECT connection_id FROM fetch_run ORDER BY 1"
    assert rows(database, noted) == [(folder_ref.connection_id,) for _, folder_ref in begun[1:]]


def test_a_connection_that_was_deleted_keeps_no_other_end_from_being_recorded(
    database: Database, begun: list[tuple[Lease, FolderRef]]
) -> None:
    deleted, *others = [folder_ref.connection_id for _, folder_ref in begun]
    with database.transaction() as session:
        leases.take_away(session, begun[0][0].mailbox)
        session.execute("DELETE FROM outbox")
        connections.delete(session, deleted)
    runs = [ended(lease, folder_ref, deleted=False, marks=True) for lease, folder_ref in begun]
    ended_runs.record(database, runs)
    assert rows(database, "SELECT connection_id FROM fetch_run ORDER BY 1") == [
        (other,) for other in others
    ]
    assert rows(database, "SELECT DISTINCT health FROM connection_state") == [("working",)]
