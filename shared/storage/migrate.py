"""Brings the schema to this version. Any number of processes may try at once: one does it."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from shared.clock import utc_now
from shared.errors import InvalidInput, TryAgain
from shared.storage.database_roles import Account, grant_services
from shared.storage.migrations import statements, versions
from shared.storage.pool import Database, read_address
from shared.storage.retention import create_partitions

#: Any number that nobody else uses for an advisory lock in this database.
_LOCK = 0x706F7374


def migrate(
    database_url: str, retention_days: int = 30, *, services: Mapping[str, str] | None = None
) -> str:
    """Applies what is missing; returns the schema's version. TryAgain without a server.

    `services` gives the addresses of services that have accounts of their own: their roles are
    made and granted what they need.
    """
    read_address(database_url)
    try:
        # libpq reads the address, here as in the services: several hosts, key=value, sockets.
        with psycopg.connect(database_url, autocommit=True) as connection:
            _check_encoding(connection)
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            version = _upgrade(connection)
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    except psycopg.OperationalError as error:
        raise TryAgain(
            f"Postgres does not answer: {str(error).strip()}",
            hint="Check POSTHOUSE_DATABASE_URL and that Postgres runs.",
        ) from error
    # Today's partitions of the ledger are there before the first mail is.
    with Database(database_url, size=1) as database:
        create_partitions(database, utc_now(), retention_days)
        grant(database, services or {})
    return version


def _check_encoding(connection: psycopg.Connection) -> None:
    """Raises InvalidInput: what mails say does not fit into any other encoding."""
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise InvalidInput(
            f"The database {connection.info.dbname!r} has the encoding {encoding}; Posthouse needs "
            "UTF8.",
            hint="Make it anew: `createdb -E UTF8 -T template0 NAME`.",
        )


def _upgrade(connection: psycopg.Connection) -> str:
    """Each version in a transaction of its own, with what says that it is there."""
    connection.execute("CREATE TABLE IF NOT EXISTS posthouse_schema (version_num text PRIMARY KEY)")
    row = connection.execute("SELECT max(version_num) FROM posthouse_schema").fetchone()
    found = str(row[0] or "") if row else ""
    for version in versions():
        if version <= found:
            continue
        with connection.transaction():
            for text in statements(version):
                connection.execute(text.encode())  # several statements, and no parameters
            connection.execute("DELETE FROM posthouse_schema")
            connection.execute("INSERT INTO posthouse_schema VALUES (%s)", (version,))
        found = version
    return found


def grant(database: Database, services: Mapping[str, str]) -> None:
    """Grants the accounts of these services (name: address) what they need. One at a time."""
    accounts = {name: Account.of_address(address) for name, address in services.items()}
    with database.transaction() as session:
        session.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        grant_services(session, accounts)
