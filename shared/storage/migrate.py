"""Brings the schema to this version. Any number of processes may try at once: one does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from shared.clock import utc_now
from shared.errors import TryAgain
from shared.storage.grants import Account, grant_services
from shared.storage.pool import Database, read_address
from shared.storage.retention import create_partitions

#: Any number that nobody else uses for an advisory lock in this database.
_LOCK = 0x706F7374


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def migrate(
    database_url: str, retention_days: int = 30, *, services: Mapping[str, str] | None = None
) -> str:
    """Applies what is missing; returns the schema's version. TryAgain without a server.

    `services` gives the addresses of services that have accounts of their own: their roles are
    made and granted what they need.
    """
    read_address(database_url)
    # libpq reads the address, here as in the services: several hosts, key=value, sockets.
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database_url), poolclass=NullPool
    )
    config = _config()
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
            connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            version = _version(connection)
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")
    except (OperationalError, psycopg.OperationalError) as error:
        reason = error.orig if isinstance(error, OperationalError) else error
        raise TryAgain(
            f"Postgres does not answer: {str(reason).strip()}",
            hint="Check POSTHOUSE_DATABASE_URL and that Postgres runs.",
        ) from error
    # Today's partitions of the ledger are there before the first mail is.
    with Database(database_url, size=1) as database:
        create_partitions(database, utc_now(), retention_days)
        grant(database, services or {})
    return version


def grant(database: Database, services: Mapping[str, str]) -> None:
    """Grants the accounts of these services (name: address) what they need. One at a time."""
    accounts = {name: Account.of_address(address) for name, address in services.items()}
    with database.transaction() as session:
        session.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        grant_services(session, accounts)


def _version(connection: Connection) -> str:
    context = MigrationContext.configure(connection, opts={"version_table": "posthouse_schema"})
    return context.get_current_revision() or ""
