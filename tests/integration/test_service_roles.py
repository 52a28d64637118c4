"""Each service has a role of its own in Postgres, which reads what it needs and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from services.scheduler.retention import housekeeping
from shared.clock import utc_now
from shared.errors import NeedsPerson
from shared.storage.database_roles import SERVICES
from shared.storage.migrate import grant, migrate
from shared.storage.pool import Database
from shared.storage.sealed_columns import SEALED_COLUMNS
from shared.store import FileStore
from tests.rig.stack import Stack
from tests.servers.postgres import PostgresServer

WORKERS = ("scheduler", "fetcher", "decryptor")
#: What is admin's alone: people, their sessions and tokens, and the handlers' tokens.
ADMINS = (
    ("person", "password_hash"),
    ("person", "totp_secret"),
    ("recovery_code", "digest"),
    ("session", "digest"),
    ("session", "csrf"),
    ("api_token", "digest"),
    ("login_device", "digest"),
    ("oauth_flow", "flow"),
    ("audit", "after"),
    ("handler", "token_digest"),
)


@pytest.fixture
def stack(build_stack: Callable[..., Stack]) -> Stack:
    return build_stack("redis://unused")


@pytest.fixture
def role_name(postgres: PostgresServer, database_url: str) -> Iterator[str]:
    name = database_url.rpartition("/")[2] + "_own"
    yield name
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def allowed(url: str, statement: sql.Composed) -> bool:
    with psycopg.connect(url) as session:
        try:
            session.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


def reads(url: str, table: str, column: str) -> bool:
    query = sql.SQL("SELECT {} FROM {}").format(sql.Identifier(column), sql.Identifier(table))
    return allowed(url, query)


def writes(url: str, table: str, column: str) -> bool:
    query = sql.SQL("UPDATE {} SET {} = NULL").format(sql.Identifier(table), sql.Identifier(column))
    return allowed(url, query)


@pytest.mark.promise("I7")
@pytest.mark.parametrize("service", SERVICES)
def test_a_secret_is_read_by_the_services_that_open_it(stack: Stack, service: str) -> None:
    url = stack.url_of(service)
    readable = {(c.table, c.column) for c in SEALED_COLUMNS if reads(url, c.table, c.column)}
    assert readable == {
        (c.table, c.column) for c in SEALED_COLUMNS if service == "admin" or service in c.readers
    }


@pytest.mark.promise("I7")
def test_who_reads_hostile_mail_reads_no_password_and_no_token(stack: Stack) -> None:
    decryptor, fetcher = stack.url_of("decryptor"), stack.url_of("fetcher")
    assert reads(decryptor, "certificate", "private_key")
    for column in (("connection", "password"), ("authorisation", "cache")):
        assert not reads(decryptor, *column)
        assert reads(fetcher, *column)
    assert not reads(fetcher, "certificate", "private_key")
    for place in (("connection", "host"), ("credential", "settings"), ("trust_anchor", "name")):
        assert not writes(decryptor, *place), "nor can it send the fetchers elsewhere"
        assert not writes(fetcher, *place)


@pytest.mark.promise("I7")
@pytest.mark.parametrize("service", WORKERS)
def test_people_and_tokens_are_admins_alone(stack: Stack, service: str) -> None:
    assert [place for place in ADMINS if reads(stack.url_of(service), *place)] == []
    assert [place for place in ADMINS if writes(stack.url_of(service), *place)] == []
    assert [place for place in ADMINS if not reads(stack.url_of("admin"), *place)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_changes_the_schema(stack: Stack, service: str) -> None:
    url = stack.url_of(service)
    for statement in (
        "CREATE TABLE mine (id int)",
        "ALTER TABLE connection ADD COLUMN mine int",
        "DROP TABLE message",
        "TRUNCATE message",
        "UPDATE posthouse_schema SET version_num = '0'",
    ):
        assert not allowed(url, sql.Composed([sql.SQL(statement)])), statement


def test_the_scheduler_makes_and_drops_partitions_with_its_own_role(
    stack: Stack, tmp_path: Path
) -> None:
    later = utc_now() + timedelta(days=40)
    with Database(stack.url_of("scheduler"), size=1) as database:
        report = housekeeping(database, FileStore(tmp_path / "raw"), later, 30)
    assert report.created
    assert report.dropped
    statement = sql.SQL("SELECT drop_ledger_partition('20200101', NULL, NULL)")
    assert not allowed(stack.url_of("fetcher"), sql.Composed([statement]))


def test_migrate_makes_the_roles_and_takes_back_what_is_not_needed(
    database_url: str, role_name: str
) -> None:
    """By the command, as the Job in the cluster does it."""
    own = database_url.replace("postgres:posthouse@", f"{role_name}:first@")
    environment = {
        **os.environ,
        "POSTHOUSE_DATABASE_URL": database_url,
        "POSTHOUSE_DECRYPTOR_DATABASE_URL": own,
    }

    def run() -> None:
        command = [sys.executable, "-m", "cli.main", "migrate"]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    run()
    assert reads(own, "certificate", "private_key")
    with psycopg.connect(database_url) as session:
        session.execute(
            sql.SQL("GRANT SELECT ON connection, person TO {}").format(sql.Identifier(role_name))
        )
    assert reads(own, "connection", "password")
    own = own.replace(":first@", ":second@")
    environment["POSTHOUSE_DECRYPTOR_DATABASE_URL"] = own
    run()
    assert not reads(own, "connection", "password")
    assert not reads(own, "person", "name")
    assert reads(own, "connection", "host")


def test_one_account_for_all_stays_possible(database_url: str) -> None:
    """Where nobody may make roles: every service has the address that migrate has."""
    migrate(database_url, services=dict.fromkeys(SERVICES, database_url))
    assert reads(database_url, "connection", "password")


def test_who_may_not_make_roles_is_told_what_to_do(
    database_url: str, role_name: str, stack: Stack
) -> None:
    with psycopg.connect(database_url) as session:
        name = sql.Identifier(role_name)
        session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'own'").format(name))
    poor = database_url.replace("postgres:posthouse@", f"{role_name}:own@")
    wanted = database_url.replace("postgres:posthouse@", f"{role_name}_none:own@")
    with (
        Database(poor, size=1) as database,
        pytest.raises(NeedsPerson, match="may not make it") as caught,
    ):
        grant(database, {"fetcher": wanted})
    assert "CREATE ROLE" in caught.value.hint
