"""OAuth2 credentials in Postgres, in the caller's transaction.

Their secrets are opaque here: the caller seals them (`shared.vault`), bound to the row's id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.credentials import Credential, Grant, Provider
from shared.errors import InUse, NotFound, User
from shared.quantities import counted
from shared.storage.constraint_violations import refused
from shared.storage.list_search import contains
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("credentials")


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """What is kept of a credential's secrets; None where there is none."""

    client_secret: bytes | None = field(repr=False)
    client_certificate: bytes | None = field(repr=False)


def get(session: Session, credential_id: int, *, lock: bool = False) -> Credential:
    """Raises NotFound."""
    which = _SQL["of_id_locked"] if lock else _SQL["of_id"]
    found = _select(session, _SQL["credentials"] + "\n" + which, {"id": credential_id})
    if not found:
        raise NotFound(f"There is no credential {credential_id}.")
    return found[0]


def get_many(session: Session, ids: Sequence[int]) -> list[Credential]:
    """Those of `ids` that exist, by rising id."""
    return _select(session, _SQL["credentials"] + "\n" + _SQL["of_ids"], {"ids": list(ids)})


def search(session: Session, q: str = "") -> list[Credential]:
    """All whose name or client id holds `q`, by name."""
    return _select(session, _SQL["credentials"] + "\n" + _SQL["matching"], {"pattern": contains(q)})


def expiring(session: Session, before: datetime) -> list[Credential]:
    """Those whose client secret or certificate ends before an instant, the soonest first."""
    return _select(session, _SQL["credentials"] + "\n" + _SQL["expiring"], {"before": before})


def insert(session: Session, credential: Credential) -> int:
    """Returns its id; `write_secrets` follows in the same transaction. Raises NameTaken."""
    with refused("credential", credential.name):
        row = session.execute(_SQL["insert"], _values(credential)).fetchone()
    assert row is not None
    return int(row[0])


def update(session: Session, credential: Credential) -> None:
    """Writes everything but the secrets. Raises NotFound, NameTaken."""
    with refused("credential", credential.name):
        if session.execute(_SQL["update"], _values(credential)).rowcount == 0:
            raise NotFound(f"There is no credential {credential.id}.")


def write_client_secret(session: Session, credential_id: int, sealed: bytes | None) -> None:
    session.execute(_SQL["write_client_secret"], {"id": credential_id, "sealed": sealed})


def write_client_certificate(session: Session, credential_id: int, sealed: bytes | None) -> None:
    session.execute(_SQL["write_client_certificate"], {"id": credential_id, "sealed": sealed})


def sealed_secrets(session: Session, credential_id: int) -> SealedSecrets:
    """Raises NotFound."""
    row = session.execute(_SQL["sealed"], {"id": credential_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no credential {credential_id}.")
    return SealedSecrets(*(None if value is None else bytes(value) for value in row))


def delete(session: Session, credential_id: int) -> None:
    """Raises InUse with the connections that use it."""
    users = used_by(session, credential_id)
    if users:
        raise InUse(
            f"{counted(len(users), 'connection uses', 'connections use')} this credential.",
            users,
            hint="Give these connections another credential first.",
        )
    if session.execute(_SQL["delete"], {"id": credential_id}).rowcount == 0:
        raise NotFound(f"There is no credential {credential_id}.")


def used_by(session: Session, credential_id: int) -> list[User]:
    """The connections that log in with it."""
    rows = session.execute(_SQL["used_by"], {"id": credential_id})
    return [User("connection", row[0], row[1]) for row in rows]


def uses(session: Session, ids: Sequence[int]) -> dict[int, int]:
    """How many connections log in with each of `ids`."""
    found = {row[0]: row[1] for row in session.execute(_SQL["uses"], {"ids": list(ids)})}
    return {i: int(found.get(i, 0)) for i in ids}


def _select(session: Session, query: Any, values: Mapping[str, Any]) -> list[Credential]:
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query, values)
        return [
            Credential(
                **{**row, "provider": Provider(row["provider"]), "grant": Grant(row["grant"])}
            )
            for row in cursor
        ]


def _values(credential: Credential) -> dict[str, Any]:
    values = {name: getattr(credential, name) for name in Credential.__slots__}
    return {**values, "settings": Jsonb(dict(credential.settings))}
