"""The inbox of a handler: an event is handled once, in the handler's own transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from posthouse.inbox import create_table, forget, is_first_time

pytestmark = pytest.mark.promise("F5")


@pytest.fixture
def handler_db(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url) as connection:
        create_table(connection, "public.inbox")
        connection.commit()
        yield connection


def test_in_sqlite_what_is_rolled_back_was_not_handled(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "handler.db")) as connection:
        create_table(connection)
        create_table(connection)
        assert is_first_time(connection, "a")
        connection.rollback()
        assert is_first_time(connection, "a")
        connection.commit()
        assert not is_first_time(connection, "a")
        assert is_first_time(connection, "b")
        connection.commit()
        connection.execute(
            "UPDATE posthouse_inbox SET handled_at = '2001-01-01' WHERE event_id='b'"
        )
        assert forget(connection, 60) == 1
        assert not is_first_time(connection, "a")


@pytest.mark.parametrize("first_commits", [True, False])
def test_in_postgres_two_consumers_of_one_event_handle_it_once(
    database_url: str, handler_db: psycopg.Connection, first_commits: bool
) -> None:
    assert is_first_time(handler_db, "a", "public.inbox")
    answers: list[bool] = []

    def second() -> None:
        with psycopg.connect(database_url) as other:
            answers.append(is_first_time(other, "a", "public.inbox"))

    thread = threading.Thread(target=second)
    thread.start()
    with psycopg.connect(database_url, autocommit=True) as watching:
        while not watching.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ).fetchone():
            assert thread.is_alive()
    if first_commits:
        handler_db.commit()
    else:
        handler_db.rollback()
    thread.join()
    assert answers == [not first_commits]


def test_a_connection_that_commits_by_itself_is_refused_outside_of_a_transaction(
    database_url: str, handler_db: psycopg.Connection, tmp_path: Path
) -> None:
    class Connection(sqlite3.Connection):
        pass

    with psycopg.connect(database_url, autocommit=True) as connection:
        with pytest.raises(ValueError, match="autocommit"):
            is_first_time(connection, "c", "public.inbox")
        with connection.transaction(force_rollback=True):
            assert is_first_time(connection, "c", "public.inbox")
    assert is_first_time(handler_db, "c", "public.inbox")
    path = tmp_path / "handler.db"
    with closing(sqlite3.connect(path, isolation_level=None, factory=Connection)) as file:
        create_table(file)
        with pytest.raises(ValueError, match="autocommit"):
            is_first_time(file, "c")
        file.execute("BEGIN")
        assert is_first_time(file, "c")
        file.rollback()
    with closing(sqlite3.connect(path)) as again:
        assert is_first_time(again, "c")


def test_old_notes_are_forgotten_in_postgres(handler_db: psycopg.Connection) -> None:
    assert is_first_time(handler_db, "old", "public.inbox")
    handler_db.execute("UPDATE public.inbox SET handled_at = handled_at - interval '61 days'")
    assert is_first_time(handler_db, "new", "public.inbox")
    assert forget(handler_db, 60, "public.inbox") == 1
    assert not is_first_time(handler_db, "new", "public.inbox")


@pytest.mark.parametrize("name", ["", "a b", "x; DROP TABLE y", 'a"b', "a.b.c"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection, pytest.raises(ValueError):
        create_table(connection, name)
