"""What is known of the revocation of certificates in Postgres, in the caller's transaction.

The decryptor notes the certificates that it believed a mail by and reads what is known; the
scheduler learns it; admin shows it, and takes lists by hand.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from psycopg.rows import dict_row

from shared.errors import NotFound
from shared.revocations import Revocation
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("revocations")

#: Certificates that are kept an eye on, octets of all lists, and requests of all replicas a day.
MOST_CERTIFICATES: Final = 20_000
MOST_OCTETS: Final = 1 << 30
MOST_REQUESTS: Final = 5_000
MOST_REQUESTS_OF_HOST: Final = 500


class Version(NamedTuple):
    """Of all that is known; another one says that something changed."""

    certificates: int
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class KnownRevocation:
    """One certificate, by its SHA-256, and when a mail was last believed by it."""

    fingerprint: bytes
    seen_at: datetime
    revocation: Revocation


@dataclass(frozen=True, slots=True)
class Noted:
    """A certificate that a mail was believed by, and its authority's (DER)."""

    fingerprint: bytes
    certificate: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    issuer_key: bytes
    not_after: datetime


@dataclass(frozen=True, slots=True)
class DueCertificate:
    """A certificate to learn about."""

    fingerprint: bytes
    certificate: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    issuer_key: bytes
    failures: int
    known: Revocation


@dataclass(frozen=True, slots=True)
class StoredList:
    """A list of an authority as it was had last; `list` is DER, None where none was had yet.

    `address` is empty where an administrator gave it.
    """

    id: int
    address: str
    list: bytes | None = field(repr=False)
    as_of: datetime | None
    next_update: datetime | None
    refresh_at: datetime
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationListView:
    """A list for people: where it is from, how old it is, and why it could not be had."""

    id: int
    issuer_name: str
    address: str
    octets: int
    as_of: datetime | None
    next_update: datetime | None
    fetched_at: datetime | None
    failures: int
    error: str


def version(session: Session) -> Version:
    row = session.execute(_SQL["version"]).fetchone()
    return Version(*row) if row else Version(0, None)


def known(session: Session) -> list[KnownRevocation]:
    """Everything that is known; `MOST_CERTIFICATES` rows at most."""
    return [
        KnownRevocation(bytes(row[0]), row[1], Revocation(*row[2:]))
        for row in session.execute(_SQL["known"])
    ]


def note(session: Session, noted: Sequence[Noted]) -> None:
    """Keeps an eye on certificates from now on; those that find no room are left out."""
    for one in noted:
        values = {name: getattr(one, name) for name in Noted.__slots__}
        session.execute(_SQL["note"], {**values, "most": MOST_CERTIFICATES})


def claim(session: Session, limit: int) -> list[DueCertificate]:
    """Certificates that are due, each for this caller alone, the longest due first."""
    return [
        DueCertificate(
            bytes(row[0]), bytes(row[1]), bytes(row[2]), bytes(row[3]), row[4], Revocation(*row[5:])
        )
        for row in session.execute(_SQL["claim"], {"limit": limit})
    ]


def record(
    session: Session,
    due: DueCertificate,
    revocation: Revocation,
    *,
    error: str,
    next_attempt_at: datetime,
) -> None:
    """Writes what is known now. `error` says why nothing new was learned, if so."""
    values = {
        **revocation._asdict(),
        "fingerprint": due.fingerprint,
        "error": error[:500],
        "failures": due.failures + 1 if error else 0,
        "next_attempt_at": next_attempt_at,
    }
    session.execute(_SQL["record"], values)


def lists_of(session: Session, issuer_key: bytes) -> list[StoredList]:
    """The lists of one authority."""
    rows = session.execute(_SQL["lists_of"], {"issuer_key": issuer_key})
    return [StoredList(r[0], r[1], r[2] and bytes(r[2]), *r[3:]) for r in rows]


def write_list(
    session: Session,
    *,
    issuer_key: bytes,
    issuer_name: str,
    address: str,
    list: bytes,
    as_of: datetime,
    next_update: datetime,
    refresh_at: datetime,
) -> int | None:
    """Keeps a list that was checked; None where a newer one is there, or no room for it."""
    values = {
        "issuer_key": issuer_key,
        "issuer_name": issuer_name[:200],
        "address": address,
        "list": list,
        "octets": len(list),
        "as_of": as_of,
        "next_update": next_update,
        "refresh_at": refresh_at,
    }
    (octets,) = session.execute(_SQL["octets"], values).fetchone() or (0,)
    if octets + len(list) > MOST_OCTETS:
        return None
    row = session.execute(_SQL["write_list"], values).fetchone()
    return int(row[0]) if row else None


def record_list_failure(
    session: Session,
    *,
    issuer_key: bytes,
    issuer_name: str,
    address: str,
    refresh_at: datetime,
    error: str,
) -> None:
    """A list could not be had; what was had before stays."""
    values = {
        "issuer_key": issuer_key,
        "issuer_name": issuer_name[:200],
        "address": address,
        "refresh_at": refresh_at,
        "error": error[:500],
    }
    session.execute(_SQL["record_list_failure"], values)


def make_due(session: Session, issuer_key: bytes) -> int:
    """Certificates of this authority are due now; returns how many there are."""
    return session.execute(_SQL["make_due"], {"issuer_key": issuer_key}).rowcount


def pause_unused(session: Session) -> None:
    """A trust anchor was removed: nobody is asked about a certificate until a mail is
    believed by it again."""
    session.execute(_SQL["pause_unused"])


def troubled(session: Session, limit: int) -> list[tuple[bytes, str, datetime]]:
    """Certificates (DER) of which nothing could be learned the last time, why, and when that was;
    the latest first."""
    rows = session.execute(_SQL["troubled"], {"limit": limit})
    return [(bytes(row[0]), str(row[1]), row[2]) for row in rows]


def issuers(session: Session) -> list[bytes]:
    """The authorities that are trusted, and those below them that vouched for a signer; DER."""
    return [bytes(row[0]) for row in session.execute(_SQL["issuers"])]


def lists(session: Session) -> list[RevocationListView]:
    """All lists, those that could not be had first."""
    with session.cursor(row_factory=dict_row) as cursor:
        return [RevocationListView(**row) for row in cursor.execute(_SQL["lists"])]


def delete_list(session: Session, list_id: int) -> tuple[str, str]:
    """Returns the authority's name and the address. Raises NotFound."""
    row = session.execute(_SQL["delete_list"], {"id": list_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no revocation list {list_id}.")
    return str(row[0]), str(row[1])


def counts(session: Session) -> dict[str, tuple[int, float]]:
    """By what is known: how many certificates, and the age in seconds of the oldest answer."""
    return {row[0]: (int(row[1]), float(row[2])) for row in session.execute(_SQL["counts"])}


def failing(session: Session) -> int:
    """How many certificates nothing could be learned about the last time."""
    row = session.execute(_SQL["failing"]).fetchone()
    return int(row[0]) if row else 0


def may_ask(session: Session, host: str) -> bool:
    """Whether the host may be asked now; then that counts among its requests of today."""
    values = {"host": host, "most": MOST_REQUESTS, "most_of_host": MOST_REQUESTS_OF_HOST}
    return session.execute(_SQL["may_ask"], values).fetchone() is not None


def record_host_answer(session: Session, host: str) -> None:
    session.execute(_SQL["record_host_answer"], {"host": host})


def record_host_failure(session: Session, host: str) -> None:
    """The host is left alone for a while, twice as long each time, a day at most."""
    jitter = random.uniform(0.8, 1.2)  # noqa: S311 (spreads requests, is no secret)
    session.execute(_SQL["record_host_failure"], {"host": host, "jitter": jitter})
