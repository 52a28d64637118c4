"""The services' accounts in Postgres, as `posthouse migrate` makes them.

They are the same in all databases of a server: what they may do lies in the template that tests
get copies of, so that it is granted once a session.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from shared.storage.database_roles import SERVICES
from shared.storage.migrate import grant
from shared.storage.pool import Database

_HAVE_RIGHTS = """SELECT count(*) FROM pg_roles
WHERE rolname = ANY(%s) AND has_table_privilege(oid, to_regclass('service'), 'INSERT')"""


def url_of(service: str, database_url: str) -> str:
    """The address of a database for the account of a service."""
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{_role(service)}:secret@{host}"))


def make_accounts(database: Database, database_url: str) -> None:
    """Makes them and grants them their rights, where this database has it not from its template."""
    with database.transaction() as session:
        found = session.execute(_HAVE_RIGHTS, ([_role(name) for name in SERVICES],)).fetchone()
    if found != (len(SERVICES),):
        grant(database, {name: url_of(name, database_url) for name in SERVICES})


def _role(service: str) -> str:
    return f"posthouse_{service}"
