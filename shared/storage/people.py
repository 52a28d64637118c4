"""People, their browser sessions, API tokens and failed logins: rows in, values out.

Secrets come here as digests (SHA-256 of random tokens) or argon2id hashes, never in the clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import errors as pg

from shared.errors import Conflict, InvalidInput, NotFound
from shared.people import ApiToken, BrowserSession, Person, Principal, Role, SignedIn
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("people")
BOOTSTRAP = "bootstrap token"


# --- people ---------------------------------------------------------------------------------


def people(session: Session) -> list[Person]:
    return [_person(row) for row in session.execute(_QUERIES["people"])]


def person(session: Session, person_id: int) -> Person:
    """Raises NotFound."""
    row = session.execute(_QUERIES["person"], {"id": person_id}).fetchone()
    if row is None:
        raise NotFound("There is no such person (any more).")
    return _person(row)


def add_person(
    session: Session, *, name: str, email: str, role: Role, password_hash: str | None
) -> int:
    """Raises InvalidInput where the name or the address is taken."""
    with _unique():
        row = session.execute(
            _QUERIES["add_person"],
            {"name": name, "email": email, "role": role, "password_hash": password_hash},
        ).fetchone()
    assert row is not None
    return int(row[0])


def change_person(
    session: Session,
    person_id: int,
    *,
    name: str,
    email: str,
    role: Role,
    enabled: bool,
    password_hash: str | None,
) -> None:
    """`password_hash` None keeps the password. A new address unbinds the identity provider's
    account. Raises Conflict where this would leave no administrator who can log in."""
    if role is not Role.ADMIN or not enabled:
        _refuse_without_admin(session, person_id)
    with _unique():
        session.execute(
            _QUERIES["change_person"],
            {
                "id": person_id,
                "name": name,
                "email": email,
                "role": role,
                "enabled": enabled,
                "password_hash": password_hash,
            },
        )


def delete_person(session: Session, person_id: int) -> None:
    """Ends the person's sessions too. Raises Conflict for the last administrator."""
    _refuse_without_admin(session, person_id)
    session.execute(_QUERIES["delete_person"], {"id": person_id})


def password_of(session: Session, name: str) -> tuple[int, str | None] | None:
    """Id and argon2id hash of an enabled person; None where there is none of this name."""
    row = session.execute(_QUERIES["password_of"], {"name": name}).fetchone()
    return None if row is None else (row[0], row[1])


def replace_hash(session: Session, person_id: int, password_hash: str) -> None:
    session.execute(_QUERIES["replace_hash"], {"id": person_id, "password_hash": password_hash})


def claim_subject(session: Session, subject: str, email: str) -> int | None:
    """The person whose account at the identity provider this is; binds it at the first login.

    `email` is empty where the provider did not verify it.
    """
    row = session.execute(
        _QUERIES["person_of_subject"], {"subject": subject, "email": email}
    ).fetchone()
    if row is None:
        return None
    session.execute(_QUERIES["bind_subject"], {"id": row[0], "subject": subject})
    return int(row[0])


def _refuse_without_admin(session: Session, leaving: int) -> None:
    admins = {row[0] for row in session.execute(_QUERIES["lock_admins"])}
    if leaving in admins and len(admins) == 1:
        raise Conflict("This is the last administrator.", hint="Give somebody else the role first.")


def _person(row: tuple[Any, ...]) -> Person:
    (
        number,
        name,
        email,
        role,
        enabled,
        has_password,
        uses_oidc,
        has_second_factor,
        created_at,
        last_login_at,
    ) = row
    return Person(
        id=number,
        name=name,
        email=email,
        role=Role(role),
        enabled=bool(enabled),
        has_password=bool(has_password),
        uses_oidc=bool(uses_oidc),
        has_second_factor=bool(has_second_factor),
        created_at=created_at,
        last_login_at=last_login_at,
    )


@contextmanager
def _unique() -> Iterator[None]:
    try:
        yield
    except pg.UniqueViolation as error:
        which = "email" if "email" in (error.diag.constraint_name or "") else "name"
        word = "address" if which == "email" else "name"
        raise InvalidInput(f"This {word} is taken.", field=which) from error


# --- sessions -------------------------------------------------------------------------------


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
    person_id, name, role, csrf, expires_at, seen_lately = row
    if touch and not seen_lately:
        session.execute(_QUERIES["touch_session"], {"digest": digest})
    principal = Principal(
        name=name or BOOTSTRAP, role=Role(role or Role.ADMIN), person_id=person_id
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


# --- one-time codes -------------------------------------------------------------------------


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


# --- attempts to log in ---------------------------------------------------------------------


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


# --- tokens ---------------------------------------------------------------------------------


def tokens(session: Session) -> list[ApiToken]:
    return [_token(row) for row in session.execute(_QUERIES["tokens"])]


def add_token(
    session: Session,
    *,
    name: str,
    digest: bytes,
    role: Role,
    created_by: str,
    person_id: int | None,
    expires_at: datetime | None,
) -> ApiToken:
    """Raises InvalidInput where the name is taken."""
    with _unique():
        row = session.execute(
            _QUERIES["add_token"],
            {
                "name": name,
                "digest": digest,
                "role": role,
                "created_by": created_by,
                "person_id": person_id,
                "expires_at": expires_at,
            },
        ).fetchone()
    assert row is not None
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


def delete_token(session: Session, token_id: int) -> tuple[str, Role]:
    """Returns its name and role. Raises NotFound."""
    row = session.execute(_QUERIES["delete_token"], {"id": token_id}).fetchone()
    if row is None:
        raise NotFound("There is no such token (any more).")
    return row[0], Role(row[1])


def bearer(session: Session, digest: bytes) -> Principal | None:
    """Whose API or handler token this is the digest of; None for an unknown or expired one."""
    row = session.execute(_QUERIES["token_by_digest"], {"digest": digest}).fetchone()
    if row is not None:
        session.execute(_QUERIES["touch_token"], {"id": row[0]})
        return Principal(name=f"token {row[1]}", role=Role(row[2]))
    row = session.execute(_QUERIES["handler_by_token"], {"digest": digest}).fetchone()
    if row is not None:
        return Principal(name=f"handler {row[1]}", role=None, handler_id=row[0])
    return None


def _token(row: tuple[Any, ...]) -> ApiToken:
    number, name, role, created_by, created_at, expires_at, last_used_at = row
    return ApiToken(
        id=number,
        name=name,
        role=Role(role),
        created_by=created_by,
        created_at=created_at,
        expires_at=expires_at,
        last_used_at=last_used_at,
    )
