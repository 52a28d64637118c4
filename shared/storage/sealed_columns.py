"""Every column that holds a sealed secret, and how all of them are sealed anew.

A sealed value is bound to its table, column and primary key (see `shared.vault`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from shared.errors import SecretKeyMissing, SecretUnreadable
from shared.storage.pool import Database
from shared.storage.queries import Queries

_queries = Queries("sealed_columns")
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class SealedColumn:
    table: str
    column: str
    key: str = "id"
    key_type: str = "bigint"
    #: The services that open it, besides admin.
    readers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of one column: values sealed anew, and values that no key opens."""

    column: SealedColumn
    resealed: int
    unreadable: int


#: Complete: a test compares it with the schema.
SEALED_COLUMNS: Final = (
    SealedColumn("connection", "password", readers=frozenset({"fetcher"})),
    SealedColumn("connection", "client_certificate", readers=frozenset({"fetcher"})),
    # The scheduler refreshes the grants of disabled connections.
    SealedColumn("credential", "client_secret", readers=frozenset({"fetcher", "scheduler"})),
    SealedColumn("credential", "client_certificate", readers=frozenset({"fetcher", "scheduler"})),
    SealedColumn("certificate", "private_key", readers=frozenset({"decryptor"})),
    SealedColumn(
        "authorisation", "cache", "connection_id", readers=frozenset({"fetcher", "scheduler"})
    ),
    SealedColumn("oauth_flow", "flow", "state", "text"),
    SealedColumn("person", "totp_secret"),
    # The decryptor signs events, the forwarder verifies what it takes from a queue.
    SealedColumn("handler", "signing_key", readers=frozenset({"decryptor", "forwarder"})),
    SealedColumn("handler", "former_signing_key", readers=frozenset({"decryptor", "forwarder"})),
    SealedColumn("forward", "address", "handler_id", readers=frozenset({"forwarder"})),
    SealedColumn("forward", "secret", "handler_id", readers=frozenset({"forwarder"})),
    SealedColumn("forward", "former_secret", "handler_id", readers=frozenset({"forwarder"})),
    SealedColumn("forward", "headers", "handler_id", readers=frozenset({"forwarder"})),
    SealedColumn("forward", "client_certificate", "handler_id", readers=frozenset({"forwarder"})),
    SealedColumn("forward", "credentials", "handler_id", readers=frozenset({"forwarder"})),
    SealedColumn("forward", "link_key", "handler_id", readers=frozenset({"forwarder"})),
    SealedColumn("webhook", "url", readers=frozenset({"scheduler"})),
    SealedColumn("webhook", "secret", readers=frozenset({"scheduler"})),
)


def columns_of(service: str) -> tuple[tuple[str, str], ...]:
    """The columns (table, column) that a service opens. Admin opens, and seals, all of them."""
    return tuple(
        (c.table, c.column) for c in SEALED_COLUMNS if service == "admin" or service in c.readers
    )


#: Seals a value anew for `(table, column, row)`; None where the active key sealed it already.
#: Raises SecretUnreadable, SecretKeyMissing.
Reseal = Callable[[str, str, str, bytes], bytes | None]


def rotate(database: Database, column: SealedColumn, reseal: Reseal) -> Rotation:
    """Seals a column anew, a batch a transaction; what changes meanwhile keeps its new value."""
    names = {
        "table": sql.Identifier(column.table),
        "column": sql.Identifier(column.column),
        "key": sql.Identifier(column.key),
        "type": sql.SQL("text") if column.key_type == "text" else sql.SQL("bigint"),
    }
    batch = sql.SQL(_queries["batch"]).format(**names)
    replace = sql.SQL(_queries["replace"]).format(**names)
    after: str | None = None
    resealed = unreadable = 0
    while True:
        with database.transaction() as session:
            rows = session.execute(batch, {"after": after, "size": _BATCH}).fetchall()
            changes = []
            for key, sealed in rows:
                try:
                    new = reseal(column.table, column.column, key, bytes(sealed))
                except (SecretUnreadable, SecretKeyMissing):
                    unreadable += 1
                    continue
                if new is not None:
                    changes.append((key, sealed, new))
            if changes:
                keys, old, fresh = (list(part) for part in zip(*changes, strict=True))
                done = session.execute(replace, {"keys": keys, "old": old, "new": fresh})
                resealed += done.rowcount
        if len(rows) < _BATCH:
            return Rotation(column, resealed, unreadable)
        after = rows[-1][0]
