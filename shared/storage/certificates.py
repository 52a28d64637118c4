"""Certificates and trust anchors in Postgres, in the caller's transaction.

A private key is opaque here: the caller seals it (`shared.vault`), bound to the row's id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from shared.errors import InUse, NotFound, User
from shared.quantities import counted
from shared.storage.constraint_violations import refused
from shared.storage.list_search import Page, contains, folded
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("certificates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What may be shown of an uploaded certificate. `fingerprint` and `serial` are hex.

    `kind` is `smime` or `openpgp`; `not_after` is None for a key without an end.
    """

    id: int = 0
    kind: str
    name: str
    alias: str
    subject: str
    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime | None
    not_after: datetime | None
    emails: tuple[str, ...]
    key_type: str
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def label(self) -> str:
        """`name (alias)`, as people see it everywhere."""
        return f"{self.name} ({self.alias})" if self.alias else self.name


@dataclass(frozen=True, slots=True)
class SealedKey:
    """What the decryptor loads: the certificate (DER or OpenPGP) and its sealed private key."""

    id: int
    kind: str
    certificate: bytes
    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchor:
    """A certificate authority that signatures are trusted from; `certificate` is DER."""

    id: int
    name: str
    subject: str
    fingerprint: str
    not_after: datetime | None
    certificate: bytes = field(repr=False)
    created_at: datetime


def get(session: Session, certificate_id: int, *, lock: bool = False) -> Certificate:
    """Raises NotFound."""
    if lock:
        query, values = _SQL["of_id_locked"], {"id": certificate_id}
        found = _select(session, _SQL["certificates"] + "\n" + query, values)
    else:
        found = get_many(session, [certificate_id])
    if not found:
        raise NotFound(f"There is no certificate {certificate_id}.")
    return found[0]


def get_many(session: Session, ids: Sequence[int]) -> list[Certificate]:
    """Those of `ids` that exist, by name."""
    return _select(session, _SQL["certificates"] + "\n" + _SQL["of_ids"], {"ids": list(ids)})


def search(
    session: Session, q: str = "", *, page: int = 1, per_page: int = 50
) -> Page[Certificate]:
    """By a part of the name, alias, subject, address or fingerprint, whatever its case."""
    values = {"pattern": contains(q), "limit": per_page, "offset": (page - 1) * per_page}
    found = _select(session, _SQL["certificates"] + "\n" + _SQL["matching"], values)
    row = session.execute(_SQL["count"], values).fetchone()
    return Page(tuple(found), total=row[0] if row else 0, page=page, per_page=per_page)


def names(session: Session) -> dict[int, str]:
    """The name of each certificate, by id."""
    return {row[0]: row[1] for row in session.execute(_SQL["names"])}


def expiring(session: Session, before: datetime) -> list[Certificate]:
    """Those that end before an instant, the soonest first; the expired ones too."""
    return _select(session, _SQL["certificates"] + "\n" + _SQL["expiring"], {"before": before})


def insert(
    session: Session, certificate: Certificate, *, der: bytes, chain: Sequence[bytes]
) -> int:
    """Returns its id; `write_key` follows in the same transaction. Raises NameTaken."""
    with refused("certificate", certificate.name):
        row = session.execute(_SQL["insert"], _values(certificate, der, chain)).fetchone()
    assert row is not None
    return int(row[0])


def replace(
    session: Session, certificate: Certificate, *, der: bytes, chain: Sequence[bytes]
) -> None:
    """Puts a new certificate in the place of an old one; name, alias and uses stay."""
    if session.execute(_SQL["replace"], _values(certificate, der, chain)).rowcount == 0:
        raise NotFound(f"There is no certificate {certificate.id}.")


def rename(session: Session, certificate: Certificate) -> None:
    """Writes its name and alias. Raises NameTaken."""
    with refused("certificate", certificate.name):
        session.execute(_SQL["rename"], _values(certificate, b"", ()))


def write_key(session: Session, certificate_id: int, sealed: bytes) -> None:
    session.execute(_SQL["write_key"], {"id": certificate_id, "sealed": sealed})


def sealed_keys(session: Session, ids: Sequence[int]) -> list[SealedKey]:
    """Certificates with their sealed keys."""
    rows = session.execute(_SQL["keys"], {"ids": list(ids)})
    return [SealedKey(row[0], row[1], bytes(row[2]), bytes(row[3])) for row in rows]


def delete(session: Session, certificate_id: int) -> None:
    """Raises InUse with the connections that use it."""
    users = used_by(session, certificate_id)
    if users:
        raise InUse(
            f"{counted(len(users), 'connection uses', 'connections use')} this certificate.",
            users,
            hint="Take it off these connections first; mails for it can then no longer be opened.",
        )
    if session.execute(_SQL["delete"], {"id": certificate_id}).rowcount == 0:
        raise NotFound(f"There is no certificate {certificate_id}.")


def used_by(session: Session, certificate_id: int) -> list[User]:
    """The connections that it is attached to."""
    rows = session.execute(_SQL["used_by"], {"id": certificate_id})
    return [User("connection", row[0], row[1]) for row in rows]


def uses(session: Session, ids: Sequence[int]) -> dict[int, int]:
    """How many connections each of `ids` is attached to."""
    found = {row[0]: row[1] for row in session.execute(_SQL["uses"], {"ids": list(ids)})}
    return {i: int(found.get(i, 0)) for i in ids}


def trust_anchors(session: Session) -> list[TrustAnchor]:
    with session.cursor(row_factory=dict_row) as cursor:
        return [TrustAnchor(**row) for row in cursor.execute(_SQL["anchors"])]


def trust_anchor_ders(session: Session) -> list[bytes]:
    """The certificates themselves, DER."""
    return [bytes(row[0]) for row in session.execute(_SQL["anchor_ders"])]


def insert_trust_anchor(
    session: Session,
    *,
    name: str,
    subject: str,
    fingerprint: str,
    not_after: datetime | None,
    der: bytes,
) -> int:
    """Returns its id. Raises NameTaken where it is there already."""
    values = {
        "name": name,
        "subject": subject,
        "fingerprint": fingerprint,
        "not_after": not_after,
        "certificate": der,
    }
    with refused("trust anchor", subject):
        row = session.execute(_SQL["insert_anchor"], values).fetchone()
    assert row is not None
    return int(row[0])


def delete_trust_anchor(session: Session, anchor_id: int) -> str:
    """Returns its name. Raises NotFound."""
    row = session.execute(_SQL["delete_anchor"], {"id": anchor_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no trust anchor {anchor_id}.")
    return str(row[0])


def _select(session: Session, query: Any, values: Mapping[str, Any]) -> list[Certificate]:
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query, values)
        return [Certificate(**{**row, "emails": tuple(row["emails"])}) for row in cursor]


def _values(certificate: Certificate, der: bytes, chain: Sequence[bytes]) -> dict[str, Any]:
    values = {name: getattr(certificate, name) for name in Certificate.__slots__}
    return {
        **values,
        "emails": list(certificate.emails),
        "certificate": der,
        "chain": list(chain),
        "search_text": folded(
            certificate.name,
            certificate.alias,
            certificate.subject,
            certificate.fingerprint,
            *certificate.emails,
        ),
    }
