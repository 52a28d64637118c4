"""People, API tokens and the audit log: who may come in, with what, and what was changed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from services.admin.auth import passwords
from services.admin.auth.request_principals import SESSION_IDLE
from services.admin.auth.tokens import digest_of, new_token
from services.admin.context import Context
from services.admin.operations.edit_conflicts import check_version
from shared import input_fields as typed
from shared.clock import utc_now
from shared.connection_editing import FIELDS
from shared.errors import Conflict, InvalidInput, NotFound, Refusals
from shared.people import ApiToken, BrowserSession, Person, Role, email_of
from shared.storage import api_tokens, audit, browser_sessions, people, second_factors
from shared.storage.audit import Entry as Entry

_NEW_PERSON: Final = frozenset({"name", "email", "role", "tags", "password"})
_PERSON: Final = _NEW_PERSON | {"enabled"}
_IN_ORDER: Final = ("name", "email", "role", "enabled", "password")
_TOKEN: Final = frozenset({"name", "role", "tags", "days"})
_LONGEST_DAYS: Final = 3650


def list_people(ctx: Context) -> Sequence[Person]:
    with ctx.transaction() as session:
        return people.people(session)


def get_person(ctx: Context, person_id: int) -> Person:
    """Raises NotFound."""
    with ctx.transaction() as session:
        return people.person(session, person_id)


def create_person(ctx: Context, changes: Mapping[str, Any]) -> Person:
    """Raises InvalidInput naming the field. A password may be missing only where the identity
    provider proves who it is: then an email address is needed."""
    typed.only(changes, _NEW_PERSON, "new person")
    refusals = Refusals()
    name = refusals.read(lambda: _name(changes.get("name", "")), "")
    email = refusals.read(lambda: email_of(changes.get("email", "")), "")
    none: tuple[str, ...] = ()
    role, tags = refusals.read(lambda: _rights(changes, Role.VIEWER, none), (Role.VIEWER, none))
    password = refusals.read(lambda: _password(changes.get("password")), None)
    if password is None and not (email and ctx.app_state.settings.oidc_issuer):
        refusals.add(InvalidInput("A new person needs a password.", field="password"))
    refusals.finish(_IN_ORDER)
    with ctx.transaction() as session:
        number = people.add_person(
            session,
            name=name,
            email=email,
            role=role,
            tags=tags,
            password_hash=password,
        )
        added = people.person(session, number)
        ctx.record(session, "create", f"person/{number}", None, added)
    return added


def update_person(ctx: Context, person_id: int, changes: Mapping[str, Any]) -> Person:
    """Changes the given fields; a new password, or disabling, ends the person's sessions.

    Raises NotFound, InvalidInput; Conflict where no administrator would be left."""
    typed.only(changes, _PERSON, "person")
    refusals = Refusals()
    password = refusals.read(lambda: _password(changes.get("password")), None)
    with ctx.transaction() as session:
        before = people.person(session, person_id)
        check_version(ctx, session, f"person/{person_id}", before)
        name = refusals.read(lambda: _name(changes.get("name", before.name)), "")
        email = refusals.read(lambda: email_of(changes.get("email", before.email)), "")
        role, tags = refusals.read(
            lambda: _rights(changes, before.role, before.tags), (before.role, before.tags)
        )
        enabled = refusals.read(
            lambda: typed.truth("enabled", changes.get("enabled", before.enabled)), False
        )
        refusals.finish(_IN_ORDER)
        people.change_person(
            session,
            person_id,
            name=name,
            email=email,
            role=role,
            tags=tags,
            enabled=enabled,
            password_hash=password,
        )
        if password or not enabled:
            browser_sessions.end_sessions_of(session, person_id)
        after = people.person(session, person_id)
        ctx.record(session, "change", f"person/{person_id}", before, after)
        if password:
            ctx.record(session, "set password", f"person/{person_id}")
    return after


def delete_person(ctx: Context, person_id: int, *, take_over_tokens: bool = False) -> Person:
    """The API tokens that the person made end too, or are taken over by who asks.

    Raises NotFound; Conflict where no administrator would be left, or who leaves asks to keep
    their tokens."""
    with ctx.transaction() as session:
        before = people.person(session, person_id)
        if take_over_tokens and ctx.principal.person_id == person_id:
            raise Conflict(
                "Who leaves takes nothing over.",
                hint="Have another administrator remove you, or let your tokens end.",
            )
        if take_over_tokens:
            names = api_tokens.take_over_tokens_of(
                session, person_id, ctx.principal.person_id, ctx.principal.name
            )
        else:
            names = api_tokens.end_tokens_of(session, person_id)
        people.delete_person(session, person_id)
        ctx.record(session, "delete", f"person/{person_id}", before, None)
        if names:
            action = "take over tokens" if take_over_tokens else "end tokens"
            ctx.record(session, action, f"person/{person_id}", None, {"names": names})
    return before


def tokens_of(ctx: Context, person_id: int) -> Sequence[ApiToken]:
    """The API tokens that this person made."""
    with ctx.transaction() as session:
        return api_tokens.tokens_of(session, person_id)


def sessions_of(ctx: Context, person_id: int | None) -> Sequence[BrowserSession]:
    """The open sessions of a person; None: of the bootstrap token."""
    with ctx.transaction() as session:
        return browser_sessions.sessions_of(session, person_id, SESSION_IDLE)


def end_session(ctx: Context, person_id: int | None, digest: bytes) -> None:
    """Ends one. Raises NotFound."""
    with ctx.transaction() as session:
        if not browser_sessions.end_own_session(session, digest, person_id):
            raise NotFound("There is no such session (any more).")
        subject = "bootstrap" if person_id is None else f"person/{person_id}"
        ctx.record(session, "end session", subject)


def end_sessions(ctx: Context, person_id: int) -> None:
    """Ends all of a person. Raises NotFound."""
    with ctx.transaction() as session:
        people.person(session, person_id)
        browser_sessions.end_sessions_of(session, person_id)
        ctx.record(session, "end sessions", f"person/{person_id}")


def remove_second_factor(ctx: Context, person_id: int) -> None:
    """For somebody who lost it. Their sessions end too. Raises NotFound."""
    with ctx.transaction() as session:
        people.person(session, person_id)
        second_factors.disable_totp(session, person_id)
        browser_sessions.end_sessions_of(session, person_id)
        ctx.record(session, "remove second factor", f"person/{person_id}")


def list_tokens(ctx: Context) -> Sequence[ApiToken]:
    with ctx.transaction() as session:
        return api_tokens.tokens(session)


def create_token(ctx: Context, changes: Mapping[str, Any]) -> tuple[ApiToken, str]:
    """`days` None: without an end. The token itself is given here and never again."""
    typed.only(changes, _TOKEN, "token")
    days = changes.get("days")
    if days is not None:
        days = typed.whole("days", days, 1, _LONGEST_DAYS)
    token = new_token()
    role, tags = _rights(changes, Role.VIEWER, ())
    with ctx.transaction() as session:
        added = api_tokens.add_token(
            session,
            name=_name(changes.get("name", "")),
            digest=digest_of(token),
            role=role,
            tags=tags,
            created_by=ctx.principal.name,
            person_id=ctx.principal.person_id,
            expires_at=_end(days),
        )
        ctx.record(session, "create", f"token/{added.id}", None, added)
    return added, token


def get_token(ctx: Context, token_id: int) -> ApiToken:
    """Raises NotFound."""
    with ctx.transaction() as session:
        return api_tokens.token(session, token_id)


def take_over_token(ctx: Context, token_id: int) -> ApiToken:
    """It is of whoever asks from now on, and may no more than they. Raises NotFound."""
    asks = ctx.principal
    with ctx.transaction() as session:
        before = api_tokens.token(session, token_id)
        after = api_tokens.take_over_token(session, token_id, asks.person_id, asks.name)
        ctx.record(session, "take over", f"token/{token_id}", before, after)
    return after


def delete_token(ctx: Context, token_id: int) -> str:
    """It opens nothing from now on. Returns its name. Raises NotFound."""
    with ctx.transaction() as session:
        name, role = api_tokens.delete_token(session, token_id)
        ctx.record(session, "delete", f"token/{token_id}", {"name": name, "role": role}, None)
    return name


def audit_log(
    ctx: Context,
    *,
    q: str = "",
    subject: str = "",
    before: uuid.UUID | None = None,
    limit: int = 50,
) -> tuple[Sequence[Entry], uuid.UUID | None]:
    """A page, newest first, and what to continue `before`; None at the end."""
    with ctx.transaction() as session:
        found = audit.entries(
            session, subject=subject, query=q.strip(), before=before, limit=limit + 1
        )
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def _rights(
    changes: Mapping[str, Any], role: Role, tags: tuple[str, ...]
) -> tuple[Role, tuple[str, ...]]:
    """Role and tags as they will be."""
    role = typed.choice(Role, changes.get("role", role), "role")
    tags = FIELDS["tags"].parse(changes.get("tags", tags))
    if tags and role is Role.ADMIN:
        raise InvalidInput(
            "An administrator sees all connections.",
            field="tags",
            hint="Choose another role, or leave the tags empty.",
        )
    return role, tags


def _end(days: int | None) -> datetime | None:
    return None if days is None else utc_now() + timedelta(days=days)


def _name(value: Any) -> str:
    name = typed.text("name", value, 0, 1000)
    if not 1 <= len(name) <= 100:
        raise InvalidInput("A name has 1 to 100 characters.", field="name")
    return name


def _password(value: Any) -> str | None:
    """The hash of a given password. Raises InvalidInput where it is too short."""
    password = typed.secret("password", value, 1000)
    return passwords.hashed(password) if password else None
