"""Our own servers failing for a while: each fault begins at a step of a run and ends again.

The failures are real ones: Postgres itself refuses to write, the store's folder is no folder any
more, the broker's process is gone, another owner has the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg

from tests.rig.stack import Stack
from tests.servers.redis import RedisServer

_TAKE_OVER = (
    "UPDATE lease SET owner = 'another', fence = fence + 1, until = now() + interval '10 minutes'"
)

Fault = Callable[[Stack, RedisServer], AbstractContextManager[None]]


def prepare(stack: Stack) -> None:
    """Lets `database_without_space` begin later without a lock that a stalled service could hold.

    Each table looks before it is written at a sequence, whose value is in no transaction.
    """
    with psycopg.connect(stack.database_url) as session:
        session.execute("CREATE SEQUENCE no_space_now")
        session.execute("GRANT SELECT ON SEQUENCE no_space_now TO PUBLIC")
        session.execute(
            "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF (SELECT last_value FROM no_space_now) > 1 THEN RAISE"
            " 'could not extend file: No space left on device' USING ERRCODE = '53100';"
            " END IF; RETURN NULL; END $$"
        )
        tables = session.execute(
            "SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relkind IN ('r', 'p')"
            " AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            session.execute(
                f"CREATE TRIGGER no_space BEFORE INSERT OR UPDATE OR DELETE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION no_space()"
            )


@contextmanager
def database_without_space(stack: Stack, _: RedisServer) -> Iterator[None]:
    """Every statement that writes ends with Postgres' own word for it (53100)."""
    with psycopg.connect(stack.database_url, autocommit=True) as session:
        session.execute("SELECT setval('no_space_now', 2)")
        yield
        session.execute("SELECT setval('no_space_now', 1)")


@contextmanager
def database_read_only(stack: Stack, _: RedisServer) -> Iterator[None]:
    """As after a failover to a standby: sessions end, new ones only read."""
    name = stack.database_url.rpartition("/")[2]
    server = stack.database_url.rpartition("/")[0] + "/postgres"

    def switch(value: str) -> None:
        with psycopg.connect(server, autocommit=True) as session:
            session.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )

    switch("on")
    yield
    switch("off")


@contextmanager
def store_away(stack: Stack, _: RedisServer) -> Iterator[None]:
    """The volume is not mounted: what lies in its place is no folder."""
    away = stack.store.with_name("store.away")
    stack.store.rename(away)
    stack.store.touch()
    yield
    stack.store.unlink()
    away.rename(stack.store)


@contextmanager
def broker_away(_: Stack, redis: RedisServer) -> Iterator[None]:
    redis.stop()
    try:
        yield
    finally:
        redis.start()


@contextmanager
def lease_lost(stack: Stack, _: RedisServer) -> Iterator[None]:
    """Another fetcher took the mailbox over, as after a pause that was too long."""
    with psycopg.connect(stack.database_url, autocommit=True) as session:
        session.execute("SET lock_timeout = '2s'")
        try:
            session.execute(_TAKE_OVER)
        except psycopg.errors.LockNotAvailable:
            # The fetcher was stopped while it renewed its lease: its session holds the row.
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'lease'::regclass"
                " AND pid <> pg_backend_pid()"
            )
            session.execute(_TAKE_OVER)
    yield
    stack.execute("UPDATE lease SET until = now()")


FAULTS: dict[str, Fault] = {
    "database-without-space": database_without_space,
    "database-read-only": database_read_only,
    "store-away": store_away,
    "broker-away": broker_away,
    "lease-lost": lease_lost,
}
