"""Links with which the owner of a mailbox, who has no account here, authorises its connection once.

What is kept of a link is the SHA-256 digest of its token.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.errors import Conflict, NotFound
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("authorisation_links")


class LinkState(StrEnum):
    """What a link is good for: `OPEN` for a login, the others for nothing any more."""

    OPEN = "open"
    USED = "used"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorisationLink:
    """A link without its token. `account` is who logged in with it."""

    id: int
    connection_id: int
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    account: str
    state: LinkState


class LinkClosed(Conflict):
    """The link was used, was revoked or is over."""

    code = "link-closed"


def add(session: Session, *, connection_id: int, digest: bytes, by: str, days: int) -> int:
    """Keeps a link that is good for so many days; returns its id."""
    row = session.execute(
        _QUERIES["add"],
        {"connection_id": connection_id, "digest": digest, "by": by, "days": days},
    ).fetchone()
    assert row is not None
    return int(row[0])


def of_connection(session: Session, connection_id: int) -> list[AuthorisationLink]:
    """Newest first."""
    rows = session.execute(_QUERIES["of_connection"], {"connection_id": connection_id})
    return [_link(row) for row in rows]


def link(session: Session, link_id: int) -> AuthorisationLink:
    """Raises NotFound."""
    row = session.execute(_QUERIES["link"], {"id": link_id}).fetchone()
    if row is None:
        raise NotFound("There is no such link (any more).")
    return _link(row)


def by_digest(session: Session, digest: bytes) -> int | None:
    """The id of the link whose token has this digest."""
    row = session.execute(_QUERIES["by_digest"], {"digest": digest}).fetchone()
    return int(row[0]) if row else None


def use(session: Session, link_id: int, account: str) -> None:
    """Uses the link up, in the transaction that keeps the tokens. Raises LinkClosed."""
    if not session.execute(_QUERIES["use"], {"id": link_id, "account": account}).rowcount:
        raise LinkClosed("This link is not open any more.")


def revoke(session: Session, link_id: int) -> bool:
    """Revokes the link; False where it is used or revoked already."""
    return bool(session.execute(_QUERIES["revoke"], {"id": link_id}).rowcount)


def _link(row: tuple[Any, ...]) -> AuthorisationLink:
    number, connection_id, by, created_at, expires_at, used_at, account, revoked_at, now = row
    if used_at is not None:
        state = LinkState.USED
    elif revoked_at is not None:
        state = LinkState.REVOKED
    else:
        state = LinkState.OPEN if expires_at > now else LinkState.EXPIRED
    return AuthorisationLink(
        id=number,
        connection_id=connection_id,
        created_by=by,
        created_at=created_at,
        expires_at=expires_at,
        used_at=used_at,
        account=account,
        state=state,
    )
