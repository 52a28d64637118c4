"""One-time codes (TOTP) and recovery codes of people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import Conflict, NotFound
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("second_factors")


@dataclass(frozen=True, slots=True)
class Totp:
    """`secret` is sealed and in use; `offered` is sealed and waits for its first code."""

    name: str
    secret: bytes | None
    offered: bytes | None


def totp(session: Session, person_id: int) -> Totp:
    """Locks the person, so that one code is not taken twice. Raises NotFound."""
    row = session.execute(_QUERIES["totp"], {"id": person_id}).fetchone()
    if row is None:
        raise NotFound("There is no such person (any more).")
    name, sealed, in_use = row
    return Totp(name, sealed if in_use else None, None if in_use else sealed)


def offer_totp(session: Session, person_id: int, sealed: bytes) -> None:
    """Raises Conflict where one is in use."""
    values = {"id": person_id, "sealed": sealed}
    if session.execute(_QUERIES["offer_totp"], values).fetchone() is None:
        raise Conflict("There is a second factor already.", hint="Switch it off first.")


def enable_totp(
    session: Session, person_id: int, step: int, recovery_digests: Sequence[bytes]
) -> None:
    session.execute(
        _QUERIES["enable_totp"],
        {"id": person_id, "step": step, "digests": list(recovery_digests)},
    )


def use_totp(session: Session, person_id: int, step: int) -> bool:
    """False where a code of this time step, or of a later one, was used already."""
    row = session.execute(_QUERIES["use_totp"], {"id": person_id, "step": step}).fetchone()
    return row is not None


def use_recovery_code(session: Session, person_id: int, digest: bytes) -> bool:
    row = session.execute(
        _QUERIES["use_recovery_code"], {"id": person_id, "digest": digest}
    ).fetchone()
    return row is not None


def disable_totp(session: Session, person_id: int) -> None:
    session.execute(_QUERIES["disable_totp"], {"id": person_id})
