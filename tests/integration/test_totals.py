"""The numbers of all connections: right, and few however many connections there are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shared.clock import utc_now
from shared.storage.pool import Database
from shared.storage.totals import read_totals
from shared.telemetry.totals import DESCRIBED, Totals, TotalsCollector
from tests.integration.rows import Session, add_connection, add_handler, add_message


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


def samples(database: Database) -> dict[tuple[str, tuple[str, ...]], float]:
    registry = CollectorRegistry()
    registry.register(TotalsCollector(lambda: read_totals(database)))
    text = generate_latest(registry).decode()
    return {
        (sample.name.removeprefix("posthouse_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_numbers_tell_what_is_there(database: Database, session: Session) -> None:
    add_handler(session, "tickets", utc_now())
    quiet = add_connection(session, "quiet")
    late = add_connection(session, "late")
    session.execute(
        "UPDATE connection_state SET last_success_at = now() - interval '10 minutes', "
        "awaited_since = now() - interval '1 hour', "
        "due_at = now() - interval '9 minutes' WHERE connection_id = %s",
        (late,),
    )
    session.execute(
        "UPDATE connection_state SET health = 'failing' WHERE connection_id = %s", (quiet,)
    )
    session.execute("UPDATE handler_queue SET backlog = 5, oldest_at = now() - interval '1 hour'")
    add_message(session, quiet, utc_now() - timedelta(minutes=3), published=False)
    found = samples(database)
    assert found["connections", ("overdue",)] == 1
    assert found["connections", ("failing",)] == 1
    assert found["connections_overdue", ()] == 1
    assert found["connection_success_age_seconds_bucket", ("60.0",)] == 1
    assert found["connection_success_age_seconds_bucket", ("300.0",)] == 1
    assert found["connection_success_age_seconds_bucket", ("900.0",)] == 2
    assert found["connection_success_age_seconds_count", ()] == 2
    assert found["connection_success_oldest_seconds", (str(late), "late")] > 599
    assert found["connection_pending_seconds", (str(quiet), "quiet")] > 179
    assert found["outbox_messages", ()] == 1
    assert found["handler_backlog_messages", ("tickets",)] == 5
    assert found["handler_oldest_seconds", ("tickets",)] > 3599


def test_ten_thousand_connections_are_told_in_as_many_series(
    database: Database, session: Session
) -> None:
    session.execute(
        "INSERT INTO connection (name, mode, host, enabled) "
        "SELECT 'c' || n, 'imap', 'mail.example', true FROM generate_series(1, 10000) n"
    )
    session.execute(
        "INSERT INTO connection_state (connection_id, due_at) SELECT id, now() FROM connection"
    )
    session.execute(
        "INSERT INTO outbox (message_id, connection_id, next_attempt_at) "
        "SELECT gen_random_uuid(), id, now() FROM connection"
    )
    found = samples(database)
    assert found["connections", ("unused",)] == 10_000
    assert len(found) < 100


def test_every_described_metric_is_told(database: Database, session: Session) -> None:
    add_handler(session, "tickets", utc_now())
    add_message(session, add_connection(session), utc_now(), published=False)
    session.execute("INSERT INTO chore VALUES ('housekeeping', now())")
    session.execute(
        "UPDATE connection_state SET due_at = now(), health = 'failing',"
        ' error = \'{"code": "throttled"}\''
    )
    session.execute(
        "INSERT INTO service (instance, name, version, failing, failing_since)"
        " VALUES ('host/1', 'fetcher', '1', '{\"broker\": \"Refused.\"}', now() - interval '1 s')"
    )
    session.execute(
        "INSERT INTO revocation (fingerprint, certificate, issuer, issuer_key, not_after, status,"
        " as_of, next_update) VALUES (sha256('c'), 'c', 'i', 'k', now() + interval '1 day', 'good',"
        " now() - interval '2 hours', now() + interval '1 hour')"
    )
    names = {
        name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        for name, _ in samples(database)
    }
    assert names == {d.name.removeprefix("posthouse_") for d in DESCRIBED}
    ages = [value for (name, _), value in samples(database).items() if "revocation_oldest" in name]
    assert ages == [pytest.approx(7200, abs=60)]


def test_a_database_that_is_gone_leaves_no_numbers_that_look_like_health() -> None:
    def broken() -> Totals:
        raise RuntimeError("Postgres does not answer.")

    assert list(TotalsCollector(broken).collect()) == []


def test_a_scrape_does_not_wait_for_a_database_that_hangs() -> None:
    """The rest of the scheduler's metrics come all the same, and Postgres is asked once only."""
    asked, answer = [], threading.Event()

    def hanging() -> Totals:
        asked.append(1)
        answer.wait(60)
        return Totals()

    registry = CollectorRegistry()
    Gauge("other", "What else the process tells.", registry=registry)
    registry.register(TotalsCollector(hanging, timeout_s=0.1))
    for _ in range(3):
        told = generate_latest(registry).decode()
        assert "other" in told
        assert "posthouse_outbox_messages" not in told
    answer.set()
    deadline = time.monotonic() + 30
    while "posthouse_outbox_messages" not in generate_latest(registry).decode():
        assert time.monotonic() < deadline
    assert len(asked) == 1
