"""Certificates and OpenPGP keys of known senders in Postgres, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from psycopg.rows import dict_row

from shared.errors import NotFound
from shared.storage.constraint_violations import refused
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("sender_keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderKey:
    """A sender whose signatures count without a trust anchor. `kind` is `smime` or `openpgp`.

    `revoked`: an OpenPGP key says so, which is not looked at in Postgres.
    """

    id: int
    kind: str
    name: str
    subject: str
    emails: list[str]
    fingerprint: str
    not_after: datetime | None
    certificate: bytes = field(repr=False)
    created_at: datetime
    revoked: bool = False


def sender_keys(session: Session) -> list[SenderKey]:
    """All of them, by name."""
    with session.cursor(row_factory=dict_row) as cursor:
        return [SenderKey(**row) for row in cursor.execute(_SQL["all"])]


def sender_certificates(session: Session) -> list[bytes]:
    """The certificates (DER) and OpenPGP keys themselves."""
    return [bytes(row[0]) for row in session.execute(_SQL["certificates"])]


def insert_sender_key(
    session: Session,
    *,
    kind: str,
    name: str,
    subject: str,
    emails: Sequence[str],
    fingerprint: str,
    not_after: datetime | None,
    certificate: bytes,
) -> int:
    """Returns its id. Raises NameTaken where it is there already."""
    values = {
        "kind": kind,
        "name": name,
        "subject": subject,
        "emails": list(emails),
        "fingerprint": fingerprint,
        "not_after": not_after,
        "certificate": certificate,
    }
    with refused("sender's key", subject):
        row = session.execute(_SQL["insert"], values).fetchone()
    assert row is not None
    return int(row[0])


def delete_sender_key(session: Session, sender_id: int) -> str:
    """Returns its name. Raises NotFound."""
    row = session.execute(_SQL["delete"], {"id": sender_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no sender's key {sender_id}.")
    return str(row[0])
