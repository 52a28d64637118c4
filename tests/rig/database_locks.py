"""Who waits for whom in Postgres."""

from __future__ import annotations

from shared.storage.pool import Database


def waits_for_lock(database: Database) -> bool:
    """Whether a transaction of this database waits for an advisory lock that another one has."""
    with database.transaction() as session:
        row = session.execute(
            "SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
            " WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
        ).fetchone()
    return row is not None


def waits_for_any_lock(database: Database) -> bool:
    """Whether a transaction of this database waits for a lock of whatever kind, as of a row."""
    with database.transaction() as session:
        row = session.execute(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchone()
    return row is not None
