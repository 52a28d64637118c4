"""Whether the database has the schema that this code was written for.

Migrations only add, so a schema that is newer than the code is fine: services of the version before
go on while the new ones come. An older one is not.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Final

from psycopg import errors as pg

from shared.errors import TryAgain
from shared.storage.migrations import expected_version
from shared.storage.pool import Database, DatabaseCannotWrite, Session, only_reads

_POLL_SECONDS: Final = 1.0

_expected = cache(expected_version)


class SchemaBehind(TryAgain):
    """The migration of this version has not run yet."""

    code = "schema-behind"


def check(database: Database) -> None:
    """For `/readyz`. Raises SchemaBehind, or DatabaseUnavailable."""
    found = "none"
    with database.transaction() as session:
        try:
            row = session.execute("SELECT version_num FROM posthouse_schema").fetchone()
            found = str(row[0]) if row else found
        except pg.UndefinedTable:
            session.rollback()
    # Versions are numbered in order: 0001, 0002, …
    if found == "none" or found < _expected():
        raise SchemaBehind(
            f"The database has schema version {found}; this version needs {_expected()}.",
            hint="Run `posthouse migrate`.",
        )


def refusal(session: Session) -> DatabaseCannotWrite | None:
    """Why nothing could be written on this session; None where it could, as far as it says."""
    row = session.execute("SELECT current_setting('transaction_read_only')").fetchone()
    return only_reads() if row == ("on",) else None


def wait_until_there(database_url: str, seconds: float) -> str:
    """Returns the version needed once the database has it; raises TryAgain after `seconds`."""
    deadline = time.monotonic() + seconds
    with Database(database_url, size=1, timeout=5.0, prepared=False) as database:
        while True:
            try:
                check(database)
                return _expected()
            except TryAgain:
                if time.monotonic() + _POLL_SECONDS > deadline:
                    raise
            time.sleep(_POLL_SECONDS)
