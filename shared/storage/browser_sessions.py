"""Browser sessions, attempts to log in, and the devices that did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from shared.people import BrowserSession, Principal, Role, SignedIn
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("browser_sessions")

BOOTSTRAP = "bootstrap token"


def start_session(
    session: Session,
    digest: bytes,
    person_id: int | None,
    csrf: str,
    lifetime: timedelta,
    address: str,
    *,
    pending: bool = False,
) -> None:
    """`person_id` None is the bootstrap token. `pending`: a second factor is still missing, so
    that nobody is signed in by it. Sweeps what has expired."""
    session.execute(_QUERIES["sweep"])
    session.execute(
        _QUERIES["start_session"],
        {
            "digest": digest,
            "person_id": person_id,
            "csrf": csrf,
            "lifetime": lifetime,
            "address": address,
            "pending": pending,
        },
    )
    if person_id is not None and not pending:
        session.execute(_QUERIES["touch_login"], {"id": person_id})


def signed_in(session: Session, digest: bytes, idle: timedelta, *, touch: bool) -> SignedIn | None:
    """None where the session ended, expired, was not used for `idle`, or its person was disabled.

    `touch` notes that it is used now, at most once a minute."""
    row = session.execute(_QUERIES["session"], {"digest": digest, "idle": idle}).fetchone()
    if row is None:
        return None
    person_id, name, role, tags, csrf, expires_at, seen_lately = row
    if touch and not seen_lately:
        session.execute(_QUERIES["touch_session"], {"digest": digest})
    principal = Principal(
        name=name or BOOTSTRAP,
        role=Role(role or Role.ADMIN),
        person_id=person_id,
        tags=tuple(tags or ()),
    )
    return SignedIn(principal=principal, csrf=csrf, digest=digest, expires_at=expires_at)


def sessions_of(session: Session, person_id: int | None, idle: timedelta) -> list[BrowserSession]:
    """The open sessions of a person (None: of the bootstrap token), the latest used first."""
    rows = session.execute(_QUERIES["sessions_of"], {"person_id": person_id, "idle": idle})
    return [BrowserSession(*row) for row in rows]


def pending_session(session: Session, digest: bytes) -> tuple[int, str] | None:
    """Id and name of whose password was right, and whose second factor is still missing."""
    row = session.execute(_QUERIES["pending_session"], {"digest": digest}).fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


def end_own_session(session: Session, digest: bytes, person_id: int | None) -> bool:
    """Whether there was such a session of this person (None: of the bootstrap token)."""
    row = session.execute(
        _QUERIES["end_own_session"], {"digest": digest, "person_id": person_id}
    ).fetchone()
    return row is not None


def end_session(session: Session, digest: bytes) -> None:
    session.execute(_QUERIES["end_session"], {"digest": digest})


def end_sessions_of(session: Session, person_id: int, *, keep: bytes = b"") -> None:
    """After a new password or role: every other browser has to log in again."""
    session.execute(_QUERIES["end_sessions_of"], {"person_id": person_id, "keep": keep})


def count_attempt(session: Session, sources: Sequence[str], window: timedelta) -> dict[str, int]:
    """Counts one attempt under each of `sources`; how many each has within `window` now.

    Attempts under one source wait for each other until their transactions end."""
    session.execute(_QUERIES["lock_sources"], {"sources": sorted(sources)})
    session.execute(_QUERIES["note_attempt"], {"sources": list(sources)})
    rows = session.execute(_QUERIES["attempts"], {"sources": list(sources), "window": window})
    return dict(rows.fetchall())


def forget_attempts(session: Session, sources: Sequence[str]) -> None:
    """After a success: all of a name or device, and this one of a network."""
    session.execute(_QUERIES["forget_attempts"], {"sources": list(sources)})


def add_device(session: Session, digest: bytes, session_digest: bytes) -> None:
    """The browser of this session logged in: `digest` is of the cookie that says so from now on."""
    session.execute(_QUERIES["add_device"], {"digest": digest, "session": session_digest})


def is_device_of(session: Session, digest: bytes, person_id: int | None) -> bool:
    """Whether this person (None: the holder of the bootstrap token) logged in there before."""
    row = session.execute(
        _QUERIES["is_device_of"], {"digest": digest, "person_id": person_id}
    ).fetchone()
    return row is not None
