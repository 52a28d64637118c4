"""The ground the other tests stand on: the schema is there, and a kill loses nothing committed."""

import psycopg

from shared.storage.migrate import migrate
from shared.storage.migrations import expected_version
from tests.servers.postgres import PostgresServer


def test_every_test_has_a_migrated_database_of_its_own(database_url: str) -> None:
    with psycopg.connect(database_url) as session:
        found = session.execute("SELECT version_num FROM posthouse_schema").fetchall()
        assert found == [(expected_version(),)]
        assert session.execute("SELECT count(*) FROM connection").fetchone() == (0,)


def test_migrating_twice_is_migrating_once(empty_database_url: str) -> None:
    assert migrate(empty_database_url) == migrate(empty_database_url) == expected_version()


def test_a_killed_server_comes_back_with_what_was_committed(own_postgres: PostgresServer) -> None:
    url = own_postgres.create_database()
    with psycopg.connect(url) as session:
        session.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        session.commit()
    interrupted = psycopg.connect(url)
    interrupted.execute("INSERT INTO kept SELECT 0")  # never committed
    own_postgres.kill()
    interrupted.close()
    own_postgres.start()
    with psycopg.connect(url) as session:
        assert session.execute("SELECT count(*), min(n) FROM kept").fetchone() == (1000, 1)
    own_postgres.restart()
    with psycopg.connect(url) as session:
        assert session.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
