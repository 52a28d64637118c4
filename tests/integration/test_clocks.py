"""Clocks that are wrong: nothing is removed too early, and nothing stands still."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from services.fetcher.backoff import described
from shared.clock import utc_now
from shared.connections import Health
from shared.errors import NeedsAuthorisation
from shared.storage import affinity, authorisations, begun_runs, retention, scheduling
from shared.storage.pool import Database
from tests.integration.rows import Session, add_connection, add_message


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url, size=2) as opened:
        yield opened


@pytest.fixture
def owner(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.mark.promise("M2")
def test_mailboxes_that_ran_in_time_to_come_are_fetched_now(
    database: Database, owner: Session
) -> None:
    """The clock of Postgres was set back by an hour: none would be due, nor overdue."""
    ahead, other = add_connection(owner, "ahead"), add_connection(owner, "other")
    owner.execute(
        "UPDATE connection_state SET due_at = now() + interval '61 minutes', last_run_at = now()"
        " + interval '1 hour', last_success_at = now() + interval '1 hour',"
        " emitted_at = now() + interval '1 hour' WHERE connection_id = %s",
        [ahead],
    )
    owner.execute(
        "UPDATE connection_state SET due_at = now() + interval '1 minute', last_run_at = now()"
        " WHERE connection_id = %s",
        [other],
    )
    with database.transaction() as session:
        assert scheduling.make_due_after_clock_change(session) == 1
        assert scheduling.make_due_after_clock_change(session) == 0
    with database.transaction() as session:
        (due,) = [due for due in scheduling.claim_due(session, 10) if due.connection_id == ahead]
    with database.transaction() as session:
        (begun,) = begun_runs.due(session, [ahead], {}, "me", 60, emitted=due.at)
        assert begun.state.connection_id == ahead
        judged = session.execute(
            "SELECT last_success_at <= now() FROM connection_state WHERE connection_id = %s",
            [ahead],
        ).fetchone()
    assert judged == (True,)


@pytest.mark.promise("M2")
def test_a_turn_that_was_given_away_in_time_to_come_comes_again(
    database: Database, owner: Session
) -> None:
    """Nobody did its job: until that time nothing would be fetched, and all be green."""
    ahead, disabled = add_connection(owner, "ahead"), add_connection(owner, "disabled")
    owner.execute(
        "UPDATE connection_state SET last_run_at = NULL, last_success_at = NULL,"
        " emitted_at = now() + interval '1 hour', due_at = now() + interval '61 minutes'"
    )
    owner.execute("UPDATE connection_state SET due_at = NULL WHERE connection_id = %s", [disabled])
    with database.transaction() as session:
        assert scheduling.make_due_after_clock_change(session) == 2
    rows = owner.execute(
        "SELECT connection_id, due_at <= now(), last_run_at, last_success_at FROM connection_state"
        " ORDER BY connection_id"
    ).fetchall()
    assert rows == [(ahead, True, None, None), (disabled, None, None, None)]


@pytest.mark.promise("M2", "I2")
def test_what_dead_processes_held_in_time_to_come_is_free(
    database: Database, owner: Session
) -> None:
    """Their claims and their queues would have been left alone for hours."""
    number = add_connection(owner)
    add_message(owner, number, utc_now(), published=False)
    with database.transaction() as session:
        affinity.heartbeat(session, "dead", 60, takes_jobs=True)
        affinity.heartbeat(session, "dead", 60, takes_jobs=True)
    ahead = "now() + interval '5 hours'"
    owner.execute(f"UPDATE fetcher SET until = {ahead}, takes_jobs_until = {ahead}")
    owner.execute(f"UPDATE connection_state SET last_run_at = {ahead}")
    owner.execute(f"UPDATE outbox SET next_attempt_at = {ahead}, claimed_until = {ahead}")
    with database.transaction() as session:
        scheduling.make_due_after_clock_change(session)
    held = owner.execute(
        "SELECT until <= now() + interval '15 minutes', takes_jobs_until <= now() + interval '5 s'"
        " FROM fetcher"
    ).fetchall()
    assert held == [(True, True)]
    waits = owner.execute(
        "SELECT claimed_until <= now() + interval '1 hour', next_attempt_at <= now() + interval"
        " '15 minutes' FROM outbox"
    ).fetchall()
    assert waits == [(True, True)]


@pytest.mark.promise("M15", "M19")
def test_a_run_with_the_tokens_of_before_says_nothing_of_a_new_grant(
    database: Database, owner: Session
) -> None:
    """Somebody authorises while a run is told that the old grant is lost."""
    number = add_connection(owner)
    owner.execute("UPDATE connection_state SET health = 'needs-authorisation', failures = 3")
    with database.transaction() as session:
        (begun,) = begun_runs.due(session, [number], {}, "me", 60, emitted=utc_now())
    with database.transaction() as session:
        authorisations.grant(
            session,
            connection_id=number,
            sealed_tokens=b"sealed",
            account="inbox@mail.example",
            by="somebody",
            expires_at=utc_now(),
        )
    with database.transaction() as session:
        recorded = scheduling.fail_run(
            session,
            number,
            duration_ms=1,
            health=Health.NEEDS_AUTHORISATION,
            error=described(NeedsAuthorisation("The grant is lost.")),
            delay=600,
            awaited_since=begun.state.awaited_since,
        )
    assert recorded is None
    after = owner.execute("SELECT health, failures, due_at <= now() FROM connection_state")
    assert after.fetchall() == [("pending", 0, True)]


def test_a_chore_that_was_begun_in_time_to_come_is_done(database: Database, owner: Session) -> None:
    every = timedelta(minutes=5)
    assert retention.claim_chore(database, "housekeeping", every)
    assert not retention.claim_chore(database, "housekeeping", every)
    owner.execute("UPDATE chore SET started_at = now() + interval '1 hour'")
    assert retention.claim_chore(database, "housekeeping", every)


@pytest.mark.promise("M2")
@pytest.mark.parametrize("days", [-400, 400])
def test_mails_age_out_by_the_clock_that_is_behind(
    days: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler on a machine whose clock runs a year ahead would remove every mail."""
    wrong = utc_now() + timedelta(days=days)
    monkeypatch.setattr(retention, "utc_now", lambda: wrong)
    assert retention.earlier_now(database) <= min(wrong, utc_now() + timedelta(minutes=1))
