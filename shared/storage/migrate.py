"""Brings the schema to this version. Any number of processes may try at once: one does it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from shared.clock import utc_now
from shared.errors import TryAgain
from shared.storage.pool import Database
from shared.storage.retention import create_partitions

#: Any number that nobody else uses for an advisory lock in this database.
_LOCK = 0x706F7374


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def migrate(database_url: str, retention_days: int = 30) -> str:
    """Applies what is missing; returns the schema's version. TryAgain without a server."""
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool)
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
    except OperationalError as error:
        raise TryAgain(
            f"Postgres at {url.host}:{url.port} does not answer: {error.orig}",
            hint="Check POSTHOUSE_DATABASE_URL and that Postgres runs.",
        ) from error
    # Today's partitions of the ledger are there before the first mail is.
    with Database(database_url, size=1) as database:
        create_partitions(database, utc_now(), retention_days)
    return version


def _version(connection: Connection) -> str:
    context = MigrationContext.configure(connection, opts={"version_table": "posthouse_schema"})
    return context.get_current_revision() or ""
