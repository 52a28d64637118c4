"""What each service may do in the database, and the roles that may do it.

A service that is taken over, the decryptor by a hostile mail say, reads what its role may read and
no more. Columns that hold secrets are granted to the services that open them (`SEALED_COLUMNS`).
Without roles of their own all services work with one account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import errors as pg
from psycopg import sql

from shared.errors import NeedsPerson
from shared.storage.pool import Session, read_address
from shared.storage.queries import Queries
from shared.storage.sealed_columns import SEALED_COLUMNS

_QUERIES = Queries("database_roles")

SERVICES: Final = ("scheduler", "fetcher", "decryptor", "forwarder", "admin")
_VERBS: Final = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}
#: Not sealed, and still nobody's business but admin's.
_ADMIN_ONLY: Final = frozenset({("handler", "token_digest")})

#: Of every service. `r` SELECT, `a` INSERT, `w` UPDATE, `d` DELETE, as psql's \dp shows them.
_EVERYBODY: Final = {
    "posthouse_schema": "r",
    "service": "rawd",
}
#: Of those that handle mails and the octets of mails. The forwarder sees events alone.
_OF_MAILS: Final = {
    "store": "ra",
    "connection": "r",
    "connection_certificate": "r",
    "handler": "r",
    "handler_connection": "r",
}
#: Of each but admin, which reads and writes all rows. Nobody owns a table.
_TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "scheduler": {
        "connection_state": "rw",
        "fetcher": "rwd",
        "credential": "r",
        "certificate": "r",
        "authorisation": "rw",
        "outbox": "raw",
        "settlement": "r",
        "delivery": "r",
        "message_rest": "d",
        "delivery_rest": "rd",
        "filtered_rest": "rd",
        "message_history": "rad",
        "dead_letter": "rad",
        "handler_queue": "raw",
        "webhook": "r",
        "alert": "rawd",
        "alert_delivery": "ra",
        "fetch_run": "rd",
        "chore": "raw",
        "revocation": "rwd",
        "revocation_list": "rawd",
        "revocation_host": "rawd",
    },
    "fetcher": {
        "connection_state": "rw",
        "credential": "r",
        "authorisation": "rw",
        "fetcher": "rawd",
        "crowded_host": "raw",
        "session_limit": "raw",
        "session_share": "rawd",
        "lease": "raw",
        "fetch_run": "a",
        "request_slot": "rawd",  # by fetchers of release 0.1, while they are replaced
        "request_pause": "rawd",
        "request_process": "rawd",
        "request_permit": "rawd",
        "request_budget": "raw",
        "message": "a",
        "outbox": "raw",
        "delivery": "r",
        "settlement": "rawd",
        "known_uid": "rawd",
        "known_key": "rawd",
        "known_content": "rawd",
        "packed_content": "rawd",
        "download_failure": "rawd",
        "quarantine": "raw",
        "alert": "rawd",
    },
    "decryptor": {
        "certificate": "r",
        "trust_anchor": "r",
        "sender_key": "r",
        "revocation": "r",
        "message": "rw",
        "outbox": "rwd",
        "delivery": "raw",
        "filtered": "rawd",
        "message_history": "a",
        "quarantine": "raw",
        "alert": "raw",
    },
    "forwarder": {
        "handler": "r",
        "forward": "r",
        "forward_retry": "rawd",
        "forward_attempt": "rad",
        "handler_queue": "r",  # how much waits, for the scaler, which has the same account
        "alert": "ra",
    },
}
#: What admin asks for a number before its row is there (an insert into an identity needs nothing).
_SEQUENCES: Final = ("webhook_id_seq",)
#: Tables of which a service may remove rows by their age, and sees nothing else.
_BY_AGE: Final = {
    "scheduler": {
        "session": "expires_at",
        "oauth_flow": "created_at",
        "authorisation_link": "expires_at",
        "login_attempt": "at",
        "forward_attempt": "at",
        "forward_retry": "next_attempt_at",
    }
}
#: Columns of a table where the others are not a service's business: whom a mail is from and what it
#: says is the decryptor's; who reads hostile mail says which certificates it saw, and not what is
#: known of them.
_COLUMNS: Final[Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]] = {
    "scheduler": {
        "message": {"SELECT": ("id", "connection_id", "published_at", "raw_key", "opened_key")},
        "message_rest": {"SELECT": ("id",)},
        "quarantine": {"SELECT": ("id", "raw_key")},
    },
    "fetcher": {
        "message": {"SELECT": ("id", "raw_key"), "UPDATE": ("settled_at", "settled_as")},
    },
    "decryptor": {
        "revocation": {
            "INSERT": ("fingerprint", "certificate", "issuer", "issuer_key", "not_after"),
            "UPDATE": ("seen_at", "changed_at", "next_attempt_at"),
        }
    },
    "forwarder": {
        "forward": {"UPDATE": ("paused_at", "paused_by", "pause_reason", "sender", "sender_until")}
    },
}
_FUNCTIONS: Final = {
    "scheduler": ("create_ledger_partition", "drop_ledger_partition"),
}


@dataclass(frozen=True, slots=True)
class Account:
    """A user of Postgres, as a service's address names it."""

    user: str
    password: str = field(repr=False)

    @classmethod
    def of_address(cls, address: str) -> Account:
        """From an address as `read_address` takes it. Raises InvalidInput."""
        parts = read_address(address)
        return cls(parts.get("user", ""), parts.get("password", ""))


def grant_services(session: Session, accounts: Mapping[str, Account]) -> None:
    """Makes the role of each service where it is missing, and grants it what it needs.

    What it had before and does not need any more is taken back. The user of `session` itself is
    left alone: it owns everything. Raises NeedsPerson where it may not make roles.
    """
    (owner,) = session.execute(_QUERIES["whoami"]).fetchone() or ("",)
    services: dict[Account, list[str]] = {}
    for service, account in accounts.items():
        if account.user and account.user != owner:
            services.setdefault(account, []).append(service)
    if not services:
        return
    columns: dict[str, list[str]] = {}
    for table, column in session.execute(_QUERIES["columns"]):
        columns.setdefault(table, []).append(column)
    (schema,) = session.execute(_QUERIES["schema"]).fetchone() or ("",)
    for account, names in services.items():
        _make(session, account)
        role, space = sql.Identifier(account.user), sql.Identifier(schema)
        for what in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            revoke = sql.SQL("REVOKE ALL ON ALL {} IN SCHEMA {} FROM {}")
            session.execute(revoke.format(sql.SQL(what), space, role))
        session.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(space, role))
        for name in names:
            for rights in _rights(name, columns):
                session.execute(sql.SQL("GRANT {} TO {}").format(rights, role))


def _rights(service: str, columns: Mapping[str, Sequence[str]]) -> Iterator[sql.Composed]:
    """What is granted to a service, as it stands between GRANT and TO."""
    if service == "admin":
        yield sql.SQL("SELECT ON {}").format(sql.Identifier("posthouse_schema"))
        for table in columns.keys() - {"posthouse_schema"}:
            yield sql.SQL("SELECT, INSERT, UPDATE, DELETE ON {}").format(sql.Identifier(table))
        for sequence in _SEQUENCES:
            yield sql.SQL("USAGE ON SEQUENCE {}").format(sql.Identifier(sequence))
        return
    hidden = _ADMIN_ONLY | {(c.table, c.column) for c in SEALED_COLUMNS if service not in c.readers}
    of_mails: Mapping[str, str] = {} if service == "forwarder" else _OF_MAILS
    for tables in (_EVERYBODY, of_mails, _TABLES[service]):
        for table, verbs in tables.items():
            seen = [column for column in columns[table] if (table, column) not in hidden]
            part: sql.Composable = sql.SQL("")
            if len(seen) < len(columns[table]):
                part = sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, seen)))
            yield sql.SQL("{} ON {}").format(
                sql.SQL(", ").join(sql.SQL(_VERBS[verb]) + part for verb in verbs),
                sql.Identifier(table),
            )
    for table, column in _BY_AGE.get(service, {}).items():
        yield sql.SQL("DELETE, SELECT ({}) ON {}").format(
            sql.Identifier(column), sql.Identifier(table)
        )
    for table, verbs_of in _COLUMNS.get(service, {}).items():
        yield sql.SQL("{} ON {}").format(
            sql.SQL(", ").join(
                sql.SQL("{} ({})").format(
                    sql.SQL(verb), sql.SQL(", ").join(map(sql.Identifier, written))
                )
                for verb, written in verbs_of.items()
            ),
            sql.Identifier(table),
        )
    for function in _FUNCTIONS.get(service, ()):
        yield sql.SQL("EXECUTE ON FUNCTION {}").format(sql.Identifier(function))


def _make(session: Session, account: Account) -> None:
    exists = session.execute(_QUERIES["exists"], {"role": account.user}).fetchone() is not None
    encrypted = session.pgconn.encrypt_password(
        account.password.encode(), account.user.encode(), b"scram-sha-256"
    ).decode()
    statement = sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
        sql.SQL("ALTER" if exists else "CREATE"),
        sql.Identifier(account.user),
        sql.Literal(encrypted),
    )
    try:
        with session.transaction():
            session.execute(statement)
    except pg.InsufficientPrivilege as error:
        if exists:
            return  # its password is looked after by whoever made it
        raise NeedsPerson(
            f"The role {account.user!r} does not exist, and migrate may not make it.",
            hint=f'Make it (CREATE ROLE "{account.user}" LOGIN PASSWORD …), give migrate a user '
            "with CREATEROLE, or let all services use one account.",
        ) from error
