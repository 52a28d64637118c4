"""Services and init containers know whether the schema fits."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest

from shared.errors import InvalidInput
from shared.storage import schema
from shared.storage.migrate import migrate
from shared.storage.migrations import expected_version
from shared.storage.pool import Database
from tests.servers.postgres import PostgresServer


def test_an_empty_or_older_database_is_not_ready(empty_database_url: str) -> None:
    with Database(empty_database_url, size=1) as database:
        with pytest.raises(schema.SchemaBehind, match="none"):
            schema.check(database)
        with database.transaction() as session:
            session.execute("CREATE TABLE posthouse_schema (version_num text)")
            session.execute("INSERT INTO posthouse_schema VALUES ('0000')")
        with pytest.raises(schema.SchemaBehind, match="0000"):
            schema.check(database)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused(
    postgres: PostgresServer, encoding: str
) -> None:
    name = f"encoded_{encoding.lower()}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    try:
        with pytest.raises(
            InvalidInput, match=f"encoding {encoding}; Posthouse needs UTF8"
        ) as told:
            migrate(postgres.url(name))
        assert "createdb -E UTF8" in told.value.hint
    finally:
        postgres.drop_database(postgres.url(name))


def test_a_newer_schema_fits_because_migrations_only_add(database_url: str) -> None:
    with Database(database_url, size=1) as database:
        schema.check(database)
        with database.transaction() as session:
            session.execute("UPDATE posthouse_schema SET version_num = '9999'")
        schema.check(database)


def test_the_init_container_waits_until_somebody_has_migrated(empty_database_url: str) -> None:
    environment = {
        **os.environ,
        "POSTHOUSE_DATABASE_URL": empty_database_url,
        "POSTHOUSE_BROKER_URL": "redis://127.0.0.1:1",
        "POSTHOUSE_STORE_URL": "s3://none",
        "POSTHOUSE_SECRET_KEYS": "k1:" + "A" * 43 + "=",
    }

    def posthouse(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli.main", *arguments]

    given_up = subprocess.run(
        posthouse("migrate", "--wait", "0"), env=environment, capture_output=True, text=True
    )
    assert given_up.returncode == 1
    assert "posthouse migrate" in given_up.stderr
    with psycopg.connect(empty_database_url) as session:
        found = session.execute("SELECT to_regclass('connection')").fetchone()
    assert found == (None,)
    waiting = subprocess.Popen(
        posthouse("migrate", "--wait", "60"), env=environment, stdout=subprocess.PIPE, text=True
    )
    subprocess.run(posthouse("migrate"), env=environment, check=True, capture_output=True)
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert expected_version() in output
