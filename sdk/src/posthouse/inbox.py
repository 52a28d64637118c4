"""Did I have this event? Asked in the handler's own transaction, in Postgres or SQLite.

    with connection:                                   # the handler's own transaction
        if is_first_time(connection, event.idempotency_key):
            open_a_ticket(connection, event)

Delivery is at least once: an event comes again after a crash between the work and the
acknowledgement. What the handler writes and the note that it did so are committed together here,
or neither is.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")


#: PQTRANS_IDLE of libpq: no transaction is open.
_IDLE = 0


class _Connection(Protocol):
    """A connection of sqlite3, psycopg or another module of DB-API 2 (PEP 249)."""

    def cursor(self) -> Any: ...


def create_table(connection: _Connection, table: str = "posthouse_inbox") -> None:
    """Makes the table where it is not there; commit it. Run once, before the first event."""
    _execute(
        connection,
        f"CREATE TABLE IF NOT EXISTS {_checked(table)} (event_id text PRIMARY KEY, "
        "handled_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP)",
    )


def is_first_time(connection: _Connection, key: str, table: str = "posthouse_inbox") -> bool:
    """Notes the event by its `idempotency_key`; False where it was noted before.

    A second consumer with the same event waits until the first one's transaction ends, and then
    knows. Raises whatever the database raises, and ValueError where the connection commits each
    statement by itself and no transaction is open: the note would stay where the work is undone,
    and the event would never be handled.
    """
    if _commits_at_once(connection):
        raise ValueError(
            "the connection commits each statement by itself (autocommit), so that an event whose "
            "handling fails would be known as handled: open a transaction first"
        )
    sign = "?" if _is_sqlite(connection) else "%s"
    count: int = _execute(
        connection,
        f"INSERT INTO {_checked(table)} (event_id) VALUES ({sign}) "  # noqa: S608 (checked)
        "ON CONFLICT DO NOTHING",
        (key,),
    )
    return count == 1


def forget(connection: _Connection, days: int, table: str = "posthouse_inbox") -> int:
    """Removes notes older than `days`, which should be more than Posthouse keeps mails; how many.

    Mails can be delivered again on purpose for as long as they are kept (30 days by default).
    """
    if _is_sqlite(connection):
        old, values = "datetime('now', ?)", (f"-{int(days)} days",)
    else:
        old, values = "CURRENT_TIMESTAMP - %s::interval", (f"{int(days)} days",)
    return _execute(
        connection,
        f"DELETE FROM {_checked(table)} WHERE handled_at < {old}",  # noqa: S608 (checked)
        values,
    )


def _is_sqlite(connection: _Connection) -> bool:
    return any(one.__module__.startswith("sqlite3") for one in type(connection).__mro__)


def _commits_at_once(connection: Any) -> bool:
    """Whether what is executed next is committed by itself, as far as the modules tell: sqlite3,
    psycopg, psycopg2."""
    by_itself = getattr(connection, "autocommit", None)
    if _is_sqlite(connection):
        # Before Python 3.12, and unless it is told otherwise since, the isolation level says it.
        if by_itself is not True and (by_itself is False or connection.isolation_level is not None):
            return False
        return not connection.in_transaction
    status = getattr(getattr(connection, "info", None), "transaction_status", None)
    return by_itself is True and status == _IDLE


def _execute(connection: _Connection, sql: str, values: tuple[str, ...] = ()) -> int:
    cursor = connection.cursor()
    try:
        cursor.execute(sql, values)
        return int(cursor.rowcount)
    finally:
        cursor.close()


def _checked(table: str) -> str:
    if not _NAME.fullmatch(table):
        raise ValueError(f"{table!r} is no name of a table")
    return table
