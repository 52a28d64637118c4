"""Who may do what: people, their roles, and what each role permits.

Pure values and rules. Pages and API ask `Principal.may`; nobody else decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from shared.errors import InvalidInput
from shared.input_fields import text


class Role(StrEnum):
    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Permission(StrEnum):
    VIEW = "view"  # lists, states, paths of mails; no content of mails
    READ_MAIL = "read-mail"  # the content of mails
    OPERATE = "operate"  # change connections and handlers; re-deliver mails
    ADMINISTER = "administer"  # people, tokens, credentials, certificates, audit, settings


PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.OPERATOR: frozenset({Permission.VIEW, Permission.READ_MAIL, Permission.OPERATE}),
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What somebody may. `tags`: for connections with one of them alone; empty: for all."""

    role: Role
    tags: tuple[str, ...] = ()


def email_of(value: Any) -> str:
    """An email address as somebody gave it, or empty. Raises InvalidInput."""
    email = text("email", value, 0, 320)
    if email and ("@" not in email or " " in email):
        raise InvalidInput("This is not an email address.", field="email")
    return email


def bounded(rights: Rights, by: Rights) -> Rights | None:
    """The part of `rights` that `by` has, too; None where that is nothing.

    A connection with one tag of each is left out where they share none: less than both could see,
    and never more than either.
    """
    role = min(rights.role, by.role, key=lambda one: len(PERMISSIONS[one]))
    if not (rights.tags and by.tags):
        return Rights(role=role, tags=rights.tags or by.tags)
    shared = tuple(tag for tag in rights.tags if tag in by.tags)
    return Rights(role=role, tags=shared) if shared else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who may log in: with a password, through the identity provider, or both.

    `groups`: those of the identity provider that gave role and tags at the last login; empty: an
    administrator did. `without_group`: none did, so they may not log in until one does.
    """

    id: int
    name: str
    email: str
    role: Role
    tags: tuple[str, ...]
    enabled: bool
    has_password: bool
    uses_oidc: bool
    groups: tuple[str, ...]
    without_group: bool
    has_second_factor: bool
    created_at: datetime
    last_login_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A program's way in. The token itself was shown once and is stored as a digest only.

    `now`: what it opens at present, which is no more than whoever made it may; None: nothing, as
    they may not log in or see none of its tags, until somebody takes it over.
    """

    id: int
    name: str
    role: Role
    tags: tuple[str, ...]
    now: Rights | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who makes this request, as told by its cookie or bearer token.

    `name` is what the audit log shows (`alice`, `token deploy`, `bootstrap token`,
    `handler crm`). A handler has no role: it reads its own mails and nothing else, which the one
    operation that serves raw mail checks by `handler_id`. Who came by a link that authorises a
    mailbox has no role either: `link_id` opens the pages of that link. With `tags` it has a part:
    connections that have one of them, their mails, and what routes say they show of those alone.
    """

    name: str
    role: Role | None
    person_id: int | None = None
    handler_id: int | None = None
    link_id: int | None = None
    tags: tuple[str, ...] = ()

    def may(self, permission: Permission) -> bool:
        return self.role is not None and permission in PERMISSIONS[self.role]


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """An open session as its owner sees it. `digest` names it; it is no secret."""

    digest: bytes
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A browser's session. `csrf` is the token that each of its forms must carry."""

    principal: Principal
    csrf: str
    digest: bytes
    expires_at: datetime
