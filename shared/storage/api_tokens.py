"""API tokens, and whoever bears one or a handler's token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shared.errors import NotFound
from shared.people import ApiToken, Principal, Rights, Role, bounded
from shared.storage.constraint_violations import unique_name
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("api_tokens")


def tokens(session: Session) -> list[ApiToken]:
    return [_token(row) for row in session.execute(_QUERIES["tokens"])]


def add_token(
    session: Session,
    *,
    name: str,
    digest: bytes,
    role: Role,
    tags: Sequence[str] = (),
    created_by: str,
    person_id: int | None,
    expires_at: datetime | None,
) -> ApiToken:
    """Raises InvalidInput where the name is taken."""
    with unique_name():
        row = session.execute(
            _QUERIES["add_token"],
            {
                "name": name,
                "digest": digest,
                "role": role,
                "tags": list(tags),
                "created_by": created_by,
                "person_id": person_id,
                "expires_at": expires_at,
            },
        ).fetchone()
    assert row is not None
    return token(session, row[0])


def token(session: Session, token_id: int) -> ApiToken:
    """Raises NotFound."""
    row = session.execute(_QUERIES["token"], {"id": token_id}).fetchone()
    if row is None:
        raise NotFound("There is no such token (any more).")
    return _token(row)


def tokens_of(session: Session, person_id: int) -> list[ApiToken]:
    """Those that this person made."""
    return [_token(row) for row in session.execute(_QUERIES["tokens_of"], {"person_id": person_id})]


def end_tokens_of(session: Session, person_id: int) -> list[str]:
    """Returns their names."""
    rows = session.execute(_QUERIES["end_tokens_of"], {"person_id": person_id})
    return [row[0] for row in rows]


def take_over_tokens_of(
    session: Session, person_id: int, heir: int | None, heir_name: str
) -> list[str]:
    """They are the heir's from now on (None: nobody's in particular). Returns their names."""
    rows = session.execute(
        _QUERIES["take_over_tokens_of"],
        {"person_id": person_id, "heir": heir, "heir_name": heir_name},
    )
    return [row[0] for row in rows]


def take_over_token(session: Session, token_id: int, heir: int | None, heir_name: str) -> ApiToken:
    """It is the heir's from now on (None: nobody's in particular). Raises NotFound."""
    session.execute(
        _QUERIES["take_over_token"], {"id": token_id, "heir": heir, "heir_name": heir_name}
    )
    return token(session, token_id)


def delete_token(session: Session, token_id: int) -> tuple[str, Role]:
    """Returns its name and role. Raises NotFound."""
    row = session.execute(_QUERIES["delete_token"], {"id": token_id}).fetchone()
    if row is None:
        raise NotFound("There is no such token (any more).")
    return row[0], Role(row[1])


def bearer(session: Session, digest: bytes) -> Principal | None:
    """Whose API or handler token this is the digest of; None for an unknown or expired one, and
    for one whose maker may nothing now. What it makes in turn is its maker's."""
    row = session.execute(_QUERIES["token_by_digest"], {"digest": digest}).fetchone()
    if row is not None:
        number, name, role, tags, person_id, *maker = row
        now = _now(Rights(role=Role(role), tags=tuple(tags)), *maker)
        if now is None:
            return None
        session.execute(_QUERIES["touch_token"], {"id": number})
        return Principal(name=f"token {name}", role=now.role, tags=now.tags, person_id=person_id)
    row = session.execute(_QUERIES["handler_by_token"], {"digest": digest}).fetchone()
    if row is not None:
        return Principal(name=f"handler {row[1]}", role=None, handler_id=row[0])
    return None


def _token(row: tuple[Any, ...]) -> ApiToken:
    number, name, role, tags, created_by, created_at, expires_at, last_used_at, *maker = row
    return ApiToken(
        id=number,
        name=name,
        role=Role(role),
        tags=tuple(tags),
        now=_now(Rights(role=Role(role), tags=tuple(tags)), *maker),
        created_by=created_by,
        created_at=created_at,
        expires_at=expires_at,
        last_used_at=last_used_at,
    )


def _now(
    rights: Rights, role: str | None, tags: Sequence[str] | None, enabled: bool | None
) -> Rights | None:
    """What a token of these rights opens, whose maker has this role, these tags, and may log in;
    without a maker it is nobody's in particular."""
    if role is None:
        return rights
    return bounded(rights, Rights(role=Role(role), tags=tuple(tags or ()))) if enabled else None
