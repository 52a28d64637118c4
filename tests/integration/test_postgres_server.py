"""The ground the other tests stand on: the schema is there, and a kill loses nothing committed."""

import os
import socket
from contextlib import ExitStack

import psycopg
import pytest

from shared.storage.migrate import migrate
from shared.storage.migrations import expected_version
from shared.storage.pool import Database, DatabaseCannotWrite, DatabaseUnavailable
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


def test_a_connection_that_postgres_ended_meanwhile_is_not_used(database_url: str) -> None:
    with Database(database_url, size=1) as database:
        with database.transaction() as session:
            (ended,) = session.execute("SELECT pg_backend_pid()").fetchone() or ()
        with psycopg.connect(database_url) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", (ended,))
        with database.transaction() as session:
            assert session.execute("SELECT pg_backend_pid()").fetchone() != (ended,)


def test_each_statement_of_its_own_is_kept_whatever_becomes_of_the_next(database_url: str) -> None:
    with Database(database_url, size=1) as database:
        with database.transaction() as session:
            session.execute("CREATE TABLE noted (number integer)")
        with pytest.raises(ZeroDivisionError), database.autocommit() as session:
            session.execute("INSERT INTO noted VALUES (1)")
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), database.transaction() as session:
            session.execute("INSERT INTO noted VALUES (2)")
            raise ZeroDivisionError
        with database.autocommit() as session:
            assert session.execute("SELECT number FROM noted").fetchall() == [(1,)]


@pytest.mark.promise("T2")
def test_sessions_that_only_read_are_replaced_by_some_that_write(
    empty_database_url: str,
) -> None:
    """After a failover sessions may stay with what is a standby by then, alive and refusing. One
    refusal replaces them all; the overview says what it was (`Database.refusal`)."""
    server, _, name = empty_database_url.rpartition("/")
    change = f'ALTER DATABASE "{name}" SET default_transaction_read_only = '
    with psycopg.connect(f"{server}/postgres", autocommit=True) as elsewhere:
        elsewhere.execute(f"{change} on")
        with Database(empty_database_url, size=4) as database:
            several(database, "SELECT 1")
            elsewhere.execute(f"{change} off")
            with pytest.raises(DatabaseCannotWrite), database.transaction() as session:
                session.execute("CREATE TABLE noted (number integer)")
            assert isinstance(database.refusal, DatabaseCannotWrite)
            with database.transaction() as session:
                session.execute("CREATE TABLE noted (number integer)")
            several(database, "INSERT INTO noted VALUES (1)")
            with database.transaction() as session:
                assert session.execute("SELECT count(*) FROM noted").fetchone() == (4,)


def several(database: Database, statement: str) -> None:
    """In four sessions at once."""
    with ExitStack() as open_together:
        for _ in range(4):
            open_together.enter_context(database.transaction()).execute(statement.encode())


@pytest.mark.promise("T2")
@pytest.mark.parametrize("code", ["25P03", "25P04"])
def test_a_session_that_postgres_ends_as_it_waits_is_an_outage(
    empty_database_url: str, code: str
) -> None:
    """`idle_in_transaction_session_timeout`, `transaction_timeout`, which whoever runs Postgres may
    set. Said by a statement here: as the session ends, what is read first is left to chance."""
    ended = f"DO $$ BEGIN RAISE 'the session ends' USING ERRCODE = '{code}'; END $$"
    with Database(empty_database_url, size=1) as database:
        with (
            pytest.raises(DatabaseUnavailable, match="the session ends"),
            database.transaction() as session,
        ):
            session.execute(ended.encode())
        database.check()


@pytest.mark.promise("I5")
def test_a_postgres_that_is_gone_without_a_word_is_noticed_in_a_minute(database_url: str) -> None:
    """By the kernel, on whatever a thread waits for; what the address says goes before."""
    asked = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    ]
    for more, told in ("", [1, 30, 10, 3, 60_000]), ("?keepalives_idle=7", [1, 7, 10, 3, 60_000]):
        with (
            Database(database_url + more, size=1) as database,
            database.transaction() as session,
            socket.socket(fileno=os.dup(session.fileno())) as underneath,
        ):
            assert [underneath.getsockopt(*option) for option in asked] == told
