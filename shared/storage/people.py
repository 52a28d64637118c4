"""People, as rows.

Secrets come here as digests (SHA-256 of random tokens) or argon2id hashes, never in the clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.errors import Conflict, NotFound
from shared.people import Person, Role
from shared.storage.constraint_violations import unique_name
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("people")


def people(session: Session) -> list[Person]:
    return [_person(row) for row in session.execute(_QUERIES["people"])]


def person(session: Session, person_id: int) -> Person:
    """Raises NotFound."""
    row = session.execute(_QUERIES["person"], {"id": person_id}).fetchone()
    if row is None:
        raise NotFound("There is no such person (any more).")
    return _person(row)


def add_person(
    session: Session,
    *,
    name: str,
    email: str,
    role: Role,
    tags: Sequence[str] = (),
    password_hash: str | None,
) -> int:
    """Raises InvalidInput where the name or the address is taken."""
    with unique_name():
        row = session.execute(
            _QUERIES["add_person"],
            {
                "name": name,
                "email": email,
                "role": role,
                "tags": list(tags),
                "password_hash": password_hash,
            },
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
    tags: Sequence[str],
    enabled: bool,
    password_hash: str | None,
) -> None:
    """`password_hash` None keeps the password. A new address unbinds the identity provider's
    account. Raises Conflict where this would leave no administrator who can log in."""
    if role is not Role.ADMIN or not enabled:
        _refuse_without_admin(session, person_id)
    with unique_name():
        session.execute(
            _QUERIES["change_person"],
            {
                "id": person_id,
                "name": name,
                "email": email,
                "role": role,
                "tags": list(tags),
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


def claim_subject(
    session: Session, subject: str, email: str, *, groups_decide: bool = False
) -> int | None:
    """The person whose account at the identity provider this is; binds it at the first login.

    `email` is empty where the provider did not verify it. `groups_decide`: also who is locked out
    for want of a group (`lock_out_without_group`); nobody else who may not log in.
    """
    row = session.execute(
        _QUERIES["person_of_subject"],
        {"subject": subject, "email": email, "groups_decide": groups_decide},
    ).fetchone()
    if row is None:
        return None
    session.execute(_QUERIES["bind_subject"], {"id": row[0], "subject": subject})
    return int(row[0])


def give_rights(
    session: Session, person_id: int, role: Role, tags: Sequence[str], groups: Sequence[str]
) -> None:
    """What groups of the identity provider give; who was locked out for want of one comes in
    again. Raises Conflict for the last administrator."""
    if role is not Role.ADMIN:
        _refuse_without_admin(session, person_id)
    session.execute(
        _QUERIES["give_rights"],
        {"id": person_id, "role": role, "tags": list(tags), "groups": list(groups)},
    )


def lock_out_without_group(session: Session, person_id: int) -> None:
    """None of their groups gives rights any more: whatever they come with (password, tokens that
    they made) opens nothing until one does, or an administrator lets them in. Raises Conflict for
    the last administrator."""
    _refuse_without_admin(session, person_id)
    session.execute(_QUERIES["lock_out_without_group"], {"id": person_id})


def is_last_admin(session: Session, person_id: int) -> bool:
    """Whether nobody else is an administrator who may log in; holds for the transaction."""
    return {row[0] for row in session.execute(_QUERIES["lock_admins"])} == {person_id}


def _refuse_without_admin(session: Session, leaving: int) -> None:
    if is_last_admin(session, leaving):
        raise Conflict("This is the last administrator.", hint="Give somebody else the role first.")


def _person(row: tuple[Any, ...]) -> Person:
    (
        number,
        name,
        email,
        role,
        tags,
        enabled,
        has_password,
        uses_oidc,
        groups,
        without_group,
        has_second_factor,
        created_at,
        last_login_at,
    ) = row
    return Person(
        id=number,
        name=name,
        email=email,
        role=Role(role),
        tags=tuple(tags),
        enabled=bool(enabled),
        has_password=bool(has_password),
        uses_oidc=bool(uses_oidc),
        groups=tuple(groups),
        without_group=bool(without_group),
        has_second_factor=bool(has_second_factor),
        created_at=created_at,
        last_login_at=last_login_at,
    )
