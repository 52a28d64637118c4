"""Where servers push, an interval counts from the last run that looked at all there is.

So no job is sent where nothing else could be found. Whatever else makes a connection due gets one:
somebody asks for a run, or mails were announced and held back.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from shared.storage import affinity, scheduling
from shared.storage.pool import Database
from shared.storage.scheduling import Due
from tests.integration.rows import Session, add_connection

FETCHER = "host/1/aa"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, size=2) as opened:
        yield opened


@pytest.fixture
def owner(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture
def mailbox(database: Database, owner: Session) -> int:
    """Polled each 10 minutes by a fetcher that listens. The last poll was sent an interval ago; a
    run of a second that its server had asked for ended a minute ago."""
    identifier = add_connection(owner)
    owner.execute("UPDATE connection SET push = true, interval_minutes = 10")
    for _ in range(2):  # the first time promises nothing
        with database.transaction() as session:
            affinity.heartbeat(session, FETCHER, 60, takes_jobs=True)
    owner.execute(
        "UPDATE connection_state SET affinity = %s, health = 'working', last_run_ms = 1000,"
        " last_run_at = now() - interval '1 minute', last_success_at = now() - interval '1 minute',"
        " emitted_at = now() - interval '10 minutes', due_at = now() - interval '1 second',"
        " interval_due_at = now() - interval '1 second'",
        [FETCHER],
    )
    return identifier


def claimed(database: Database) -> Due:
    with database.transaction() as session:
        (due,) = scheduling.claim_due(session, 10)
    return due


def test_it_is_due_an_interval_after_the_run_began(
    database: Database, owner: Session, mailbox: int
) -> None:
    assert claimed(database).fresh
    rows = owner.execute(
        "SELECT due_at = last_run_at + interval '599 seconds', due_at = interval_due_at,"
        " emitted_at < last_run_at FROM connection_state"
    ).fetchall()
    assert rows == [(True, True, True)]
    owner.execute(
        "UPDATE connection_state SET last_run_at = last_run_at - interval '9 minutes',"
        " last_success_at = last_success_at - interval '9 minutes',"
        " due_at = due_at - interval '9 minutes',"
        " interval_due_at = interval_due_at - interval '9 minutes',"
        " emitted_at = emitted_at - interval '9 minutes'"
    )
    due = claimed(database)
    assert (due.fresh, due.fetcher) == (False, FETCHER)


@pytest.mark.parametrize("delay", [0.0, 30.0])
def test_a_wish_is_granted_however_late_it_comes(
    database: Database, owner: Session, mailbox: int, delay: float
) -> None:
    """The interval made it due, and nobody claimed it yet: `due_at` itself stays as it is."""
    with database.transaction() as session:
        scheduling.make_due(session, [mailbox], delay)
    assert not claimed(database).fresh


def test_who_asks_for_a_run_before_that_gets_one(
    database: Database, owner: Session, mailbox: int
) -> None:
    owner.execute(
        "UPDATE connection_state SET due_at = now() + interval '1 minute',"
        " interval_due_at = now() + interval '1 minute'"
    )
    with database.transaction() as session:
        scheduling.make_due(session, [mailbox])
    assert not claimed(database).fresh


@pytest.mark.parametrize(
    "otherwise",
    [
        # Nobody looked since the last poll, or in the first half of the interval only.
        "last_run_at = emitted_at + interval '2 seconds',"
        " last_success_at = emitted_at + interval '2 seconds'",
        "last_run_at = emitted_at + interval '4 minutes',"
        " last_success_at = emitted_at + interval '4 minutes'",
        # It ended just now, and had begun long ago.
        "last_run_ms = 400000",
        # It failed, or was not the last one.
        "last_success_at = now() - interval '9 minutes'",
        "health = 'failing'",
        "health = 'pending'",
        # Servers that keep others waiting are polled by whoever has the time.
        "lane = 'fetch-slow'",
        # Nobody has a session that could listen, or it is one of a fetcher that is no more.
        "affinity = NULL",
        "affinity = 'host/2/bb'",
        # By the clock of Postgres, which was set back, the run is still to come.
        "last_run_at = now() + interval '20 seconds',"
        " last_success_at = now() + interval '20 seconds'",
        # A scheduler of an earlier release made it due.
        "interval_due_at = NULL",
    ],
)
def test_a_job_is_sent_where_something_may_be_found(
    database: Database, owner: Session, mailbox: int, otherwise: str
) -> None:
    owner.execute(f"UPDATE connection_state SET {otherwise}".encode())
    assert not claimed(database).fresh


def test_a_mailbox_without_push_keeps_its_interval(
    database: Database, owner: Session, mailbox: int
) -> None:
    owner.execute("UPDATE connection SET push = false")
    assert not claimed(database).fresh


def test_a_fetcher_that_takes_no_jobs_has_its_mailboxes_polled(
    database: Database, owner: Session, mailbox: int
) -> None:
    """It stands still: nobody hears what its servers tell."""
    owner.execute("UPDATE fetcher SET takes_jobs_until = now() - interval '1 second'")
    assert not claimed(database).fresh
