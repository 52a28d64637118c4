"""What one statement says as a run begins: its state, its lease, and what was never had."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.connection_editing import edit
from shared.connections import Connection, Selection
from shared.errors import LeaseLost
from shared.storage import affinity, begun_runs, connections, folder_identity, leases, scheduling
from shared.storage.begun_runs import Begun
from shared.storage.known_sets import KnownMails, add_known, forget
from shared.storage.leases import Lease
from shared.storage.pool import Database, Session
from tests.rig.leasing import acquire

VALIDITY = 100


@pytest.fixture
def pushing(database: Database) -> Connection:
    """Its server pushes to "me"; its mails 1 to 7 were had, as all handlers take it."""
    with database.transaction() as session:
        return _added(session, "pushing", folder="")


def _added(session: Session, name: str, **fields: Any) -> Connection:
    given = {"name": name, "mode": "imap", "host": "h", "username": "u", "password": "p"}
    made = connections.insert(session, edit(None, {**given, **fields, "enabled": True}).connection)
    scheduling.enable(session, made)
    session.execute(
        "UPDATE connection_state SET affinity = 'me', uid_validity = %s WHERE connection_id = %s",
        (VALIDITY, made),
    )
    session.execute(
        "INSERT INTO handler (name, all_connections, enabled)"
        " SELECT 'all', true, true WHERE NOT EXISTS (SELECT FROM handler)"
    )
    connection = connections.get(session, made)
    add_known(session, made, connection.folder, VALIDITY, range(1, 8))
    return connection


def announced(
    database: Database, *found: Connection, owner: str = "me", has_room: bool = True
) -> list[Begun]:
    here = {connection.id: connection for connection in found}
    with database.autocommit() as session:
        return begun_runs.announced(session, list(here), here, owner, 60, has_room=has_room)


def give_back(database: Database, lease: Lease | None) -> None:
    assert lease is not None
    with database.transaction() as session:
        assert leases.release(session, [lease]) == {lease}


def test_a_run_that_follows_another_knows_what_was_had(
    database: Database, pushing: Connection
) -> None:
    for fence in (1, 2):
        (begun,) = announced(database, pushing)
        assert begun.lease == Lease(pushing.lease_key(), "me", fence)
        assert (begun.unknown_from, begun.state.version) == (8, pushing.updated_at)
        give_back(database, begun.lease)


@pytest.mark.promise("I4", "M2")
@pytest.mark.parametrize("until", ["- interval '1 second'", "+ interval '5 hours'"])
def test_a_lease_that_ran_out_is_ended_before_it_is_taken(
    database: Database, pushing: Connection, until: str
) -> None:
    """Its owner may commit a mail until it is ended, which this statement does not see. One that
    ends in hours was given before the clock was set back."""
    lease = announced(database, pushing)[0].lease
    assert lease is not None
    held = announced(database, pushing)[0]
    assert (held.lease, held.was_ended) == (None, False)
    with database.transaction() as session:
        session.execute(f"UPDATE lease SET until = now() {until}".encode())
    ended = announced(database, pushing)[0]
    assert (ended.lease, ended.was_ended) == (None, True)
    with pytest.raises(LeaseLost), database.transaction() as session:
        leases.assert_held(session, lease)
    begun = announced(database, pushing)[0]
    assert begun.lease == Lease(pushing.lease_key(), "me", 3)
    assert begun.unknown_from == 8


@pytest.mark.promise("I4")
def test_a_lease_that_is_renewed_at_that_moment_goes_on(
    database: Database, pushing: Connection
) -> None:
    """Its owner was late: this statement sees that it ran out, and waits for the renewal."""
    lease = announced(database, pushing)[0].lease
    assert lease is not None
    with database.transaction() as session:
        session.execute("UPDATE lease SET until = now() - interval '1 second'")
    with ThreadPoolExecutor(1) as beside:
        with database.transaction() as session:
            assert leases.renew(session, [lease], 60) == {lease}
            waiting = beside.submit(announced, database, pushing)
            _until_it_waits(database)
        (begun,) = waiting.result(20)
    assert (begun.lease, begun.was_ended) == (None, False)
    with database.transaction() as session:
        leases.assert_held(session, lease)


def _edited(session: Session, connection: Connection) -> None:
    connections.update(session, replace(connection, selection=Selection.ALL))
    connections.forget_cursor(session, connection.id)


def _released(session: Session, connection: Connection) -> None:
    forget(session, connection.id, "", VALIDITY, [3])
    connections.forget_cursor(session, connection.id)


def _fetched(session: Session, connection: Connection) -> None:
    add_known(session, connection.id, "", VALIDITY, [8])
    folder_identity.record_skipped_existing(session, connection.id, before=None)


@pytest.mark.promise("I4", "H4")
@pytest.mark.parametrize("ran", [True, False], ids=["later", "first"])
@pytest.mark.parametrize("change", [_edited, _released, _fetched])
def test_what_changed_since_the_snapshot_is_not_leased(
    database: Database,
    pushing: Connection,
    ran: bool,
    change: Callable[[Session, Connection], None],
) -> None:
    """As this statement waits for the row of the lease, an edit, a release from quarantine or
    another run changes what a run begins with: it would not look where it has to."""
    if ran:
        give_back(database, announced(database, pushing)[0].lease)
    with ThreadPoolExecutor(1) as beside:
        with database.transaction() as session:
            if change is _fetched:
                leases.release(session, acquire(session, [pushing.lease_key()], "other", 60))
            else:
                leases.take_away(session, pushing.lease_key())
            waiting = beside.submit(announced, database, pushing)
            _until_it_waits(database)
            change(session, pushing)
        (begun,) = waiting.result(20)
    assert (begun.known, begun.lease, begun.was_ended) == (True, None, False)
    with database.transaction() as session:
        current = connections.get(session, pushing.id)
    (begun,) = announced(database, current)
    assert begun.lease is not None
    assert begun.state.version == current.updated_at


def _until_it_waits(database: Database) -> None:
    """Until a statement waits for a lock that another one holds."""
    asked = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with database.transaction() as session:
            if session.execute(asked, (session.info.dbname,)).fetchone() is not None:
                return
        time.sleep(0.01)
    raise TimeoutError("nobody waits")


def test_what_was_edited_is_not_leased_by_what_is_known_of_it(
    database: Database, pushing: Connection
) -> None:
    with database.transaction() as session:
        session.execute("UPDATE connection SET host = 'moved', updated_at = now()")
    (begun,) = announced(database, pushing)
    assert (begun.known, begun.lease) == (False, None)


def test_of_two_connections_to_one_folder_one_is_leased(
    database: Database, pushing: Connection
) -> None:
    with database.transaction() as session:
        same = _added(session, "same", folder="INBOX")
    begun = {one.state.connection_id: one for one in announced(database, pushing, same)}
    assert begun[pushing.id].lease is not None
    assert (begun[same.id].known, begun[same.id].lease) == (True, None)


@pytest.mark.parametrize("reason", ["room", "lane", "handler", "affinity"])
def test_what_is_not_to_run_now_is_not_leased(
    database: Database, pushing: Connection, reason: str
) -> None:
    with database.transaction() as session:
        if reason == "lane":
            session.execute("UPDATE connection_state SET lane = 'fetch-slow'")
        if reason == "handler":
            session.execute("UPDATE handler SET enabled = false")
        if reason == "affinity":
            affinity.release(session, "me", [pushing.id])
    found = announced(database, pushing, has_room=reason != "room")
    told = [(one.used, one.in_time, one.lease) for one in found]
    expected = {
        "room": [(True, False, None)],
        "lane": [(True, False, None)],
        "handler": [(False, True, None)],
        "affinity": [],
    }
    assert told == expected[reason]


def test_a_poll_reads_nothing_of_what_is_known(database: Database, pushing: Connection) -> None:
    """In a folder of many ranges it is hundreds of kilobytes, and mostly nothing is new there."""
    assert pushing.updated_at is not None
    emitted = pushing.updated_at + timedelta(minutes=1)
    counted = (
        "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables"
        " WHERE relname = 'known_uid'"
    )
    with database.transaction() as session:
        for here in ({}, {pushing.id: pushing}):
            before = session.execute(counted).fetchone()
            (begun,) = begun_runs.due(session, [pushing.id], here, "me", 60, emitted=emitted)
            assert (begun.known, begun.unknown_from) == (bool(here), None)
            assert session.execute(counted).fetchone() == before


def test_a_job_that_is_too_late_leases_nothing(database: Database, pushing: Connection) -> None:
    with database.transaction() as session:
        row = session.execute("SELECT now() - interval '10 seconds'").fetchone()
    assert row is not None
    with database.autocommit() as session:
        for within, leased in ((5.0, False), (60.0, True)):
            (begun,) = begun_runs.due(
                session,
                [pushing.id],
                {pushing.id: pushing},
                "me",
                60,
                emitted=row[0],
                within=within,
            )
            assert (begun.in_time, begun.lease is not None) == (leased, leased)


def test_what_was_not_had_is_asked_for_once_it_may_have_been(
    database: Database, pushing: Connection
) -> None:
    known = KnownMails(database, pushing.id, "", VALIDITY, unknown_from=8)
    assert known.missing([8, 9]) == [8, 9]
    with database.transaction() as session:
        add_known(session, pushing.id, "", VALIDITY, [8])
    assert known.missing([8, 9]) == [9]
    known = KnownMails(database, pushing.id, "", VALIDITY, unknown_from=8)
    assert known.missing([7, 9]) == [9]
