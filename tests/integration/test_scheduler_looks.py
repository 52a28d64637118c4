"""What a scheduler does each second begins with a look, which takes nothing and locks nothing.

A look that missed something would leave it undone for ever; so each kind of thing that the chores
find is put there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from shared.storage import affinity, outbox, scheduling
from shared.storage.pool import Database
from shared.storage.pool import Session as PoolSession
from tests.integration.rows import Session, add_connection, add_message

Look = Callable[[PoolSession], bool]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, size=3) as opened:
        yield opened


@pytest.fixture
def owner(database_url: str) -> Iterator[Session]:
    """One connection that is due, kept by a fetcher that lives, and a mail that waits."""
    with psycopg.connect(database_url, autocommit=True) as opened:
        connection = add_connection(opened)
        opened.execute(
            "UPDATE connection_state SET affinity = 'here',"
            " emitted_at = now() - interval '1 minute'"
        )
        opened.execute(
            "INSERT INTO fetcher (owner, until, takes_jobs_until)"
            " VALUES ('here', now() + interval '1 hour', now() + interval '1 hour')"
        )
        add_message(opened, connection, NOON, published=False)
        opened.execute("UPDATE outbox SET next_attempt_at = now() + interval '1 hour'")
        yield opened


def answers(database: Database, look: Look) -> bool:
    with database.autocommit() as session:
        return look(session)


@pytest.mark.promise("M4")
@pytest.mark.parametrize(
    "change, is_due",
    [
        ("due_at = now()", True),
        ("due_at = now() - interval '1 day'", True),
        ("due_at = now() + interval '1 minute'", False),
        ("due_at = NULL", False),
    ],
)
def test_a_connection_that_is_due_is_seen(
    database: Database, owner: Session, change: str, is_due: bool
) -> None:
    other = add_connection(owner, "later")
    owner.execute(
        "UPDATE connection_state SET due_at = now() + interval '1 hour' WHERE connection_id = %s",
        [other],
    )
    owner.execute(
        f"UPDATE connection_state SET {change} WHERE connection_id <> %s".encode(), [other]
    )
    assert answers(database, scheduling.is_due) is is_due
    with database.transaction() as session:
        assert bool(scheduling.claim_due(session, 10)) is is_due


def test_of_no_connection_nothing_is_due(database: Database) -> None:
    assert not answers(database, scheduling.is_due)
    assert not answers(database, affinity.is_lost)
    assert not answers(database, outbox.is_due)


@pytest.mark.promise("I2", "M4")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE fetcher SET takes_jobs_until = now() - interval '1 second'",
        "UPDATE fetcher SET until = now() - interval '1 second'",
        "DELETE FROM fetcher",
        "UPDATE connection_state SET affinity = 'gone'",
    ],
    ids=["silent", "dead", "no more", "never known"],
)
def test_a_mailbox_of_a_lost_fetcher_is_seen(
    database: Database, owner: Session, change: str
) -> None:
    owner.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
    assert not answers(database, affinity.is_lost)
    owner.execute(change.encode())
    assert answers(database, affinity.is_lost)
    with database.transaction() as session:
        late = affinity.make_due_again(session)
        dead, freed = affinity.release_dead(session)
    assert late or dead or freed


@pytest.mark.promise("I2")
@pytest.mark.parametrize(
    "change, is_due",
    [
        ("next_attempt_at = now()", True),
        ("next_attempt_at = now(), claimed_until = now() - interval '1 second'", True),
        ("next_attempt_at = now(), claimed_until = now() + interval '1 minute'", False),
        ("next_attempt_at = now() + interval '1 minute'", False),
    ],
)
def test_a_mail_that_was_not_published_in_time_is_seen(
    database: Database, owner: Session, change: str, is_due: bool
) -> None:
    """Also behind one that somebody holds."""
    ((connection,),) = owner.execute("SELECT id FROM connection").fetchall()
    held = add_message(owner, int(str(connection)), NOON, published=False)
    owner.execute(
        "UPDATE outbox SET next_attempt_at = now() - interval '1 hour',"
        " claimed_until = now() + interval '1 hour' WHERE message_id = %s",
        [held],
    )
    owner.execute(f"UPDATE outbox SET {change} WHERE message_id <> %s".encode(), [held])
    assert answers(database, outbox.is_due) is is_due
    with database.transaction() as session:
        assert any(outbox.due(session, 10)) is is_due


def test_nobody_waits_for_a_look_and_a_look_for_nobody(database: Database, owner: Session) -> None:
    """Another scheduler claims at the same moment."""
    owner.execute("UPDATE outbox SET next_attempt_at = now()")
    with database.transaction() as session:
        assert scheduling.claim_due(session, 10)
        assert any(outbox.due(session, 10))
        with database.transaction() as other:
            other.execute("SET LOCAL lock_timeout = '1s'")
            assert scheduling.is_due(other)
            assert outbox.is_due(other)
            assert not affinity.is_lost(other)
