"""People, API tokens and the audit log: for administrators."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.pages.house import database_of, oidc_of
from services.admin.pages.posted import Form, Posted, Values
from services.admin.pages.rendering import go, render
from services.admin.people import passwords
from services.admin.people.access import digest_of, new_token
from services.admin.people.gate import principal_of
from shared.clock import utc_now
from shared.errors import InvalidInput
from shared.people import Role
from shared.storage import audit, people

router = APIRouter()
_LIFETIMES: Final = {"30": "30 days", "90": "90 days", "365": "a year", "": "no end"}
_AUDIT_PAGE: Final = 50


@router.get("/people")
def list_people(request: Request) -> Response:
    with database_of(request).transaction() as session:
        found = people.people(session)
    return render(request, "people/list.html", people=found)


@router.get("/people/new")
def new_person(request: Request) -> Response:
    return _person_form(request, values={"role": Role.OPERATOR, "enabled": True})


@router.post("/people/new")
def add_person(request: Request, form: Form) -> Response:
    try:
        name, email, role, password_hash = _read(form)
        if password_hash is None and not (email and oidc_of(request)):
            raise InvalidInput("A new person needs a password.", field="password")
        with database_of(request).transaction() as session:
            number = people.add_person(
                session, name=name, email=email, role=role, password_hash=password_hash
            )
            added = people.person(session, number)
            audit.record(
                session, principal_of(request).name, "create", f"person/{number}", None, added
            )
    except InvalidInput as error:
        return _person_form(request, values=_values(form), error=error)
    return go("/people", f"{name} may log in now, as {role}.")


@router.get("/people/{person_id}")
def edit_person(request: Request, person_id: int) -> Response:
    with database_of(request).transaction() as session:
        person = people.person(session, person_id)
    values = {n: getattr(person, n) for n in ("name", "email", "role", "enabled")}
    return _person_form(request, person_id, values)


@router.post("/people/{person_id}")
def change_person(request: Request, person_id: int, form: Form) -> Response:
    try:
        name, email, role, password_hash = _read(form)
        with database_of(request).transaction() as session:
            before = people.person(session, person_id)
            people.change_person(
                session,
                person_id,
                name=name,
                email=email,
                role=role,
                enabled=form.flag("enabled"),
                password_hash=password_hash,
            )
            if password_hash or not form.flag("enabled"):
                people.end_sessions_of(session, person_id)
            after = people.person(session, person_id)
            actor, subject = principal_of(request).name, f"person/{person_id}"
            audit.record(session, actor, "change", subject, before, after)
            if password_hash:
                audit.record(session, actor, "set password", subject)
    except InvalidInput as error:
        return _person_form(request, person_id, _values(form), error)
    return go("/people", f"{name} is changed.")


@router.post("/people/{person_id}/delete")
def delete_person(request: Request, person_id: int) -> Response:
    with database_of(request).transaction() as session:
        before = people.person(session, person_id)
        people.delete_person(session, person_id)
        audit.record(
            session, principal_of(request).name, "delete", f"person/{person_id}", before, None
        )
    return go("/people", f"{before.name} can no longer log in.")


@router.get("/tokens")
def list_tokens(request: Request) -> Response:
    return _tokens(request)


@router.post("/tokens")
def add_token(request: Request, form: Form) -> Response:
    try:
        name, role = _name(form), _role(form)
        days = form.text("days")
        if days not in _LIFETIMES:
            raise InvalidInput("Choose how long the token is valid.", field="days")
        token = new_token()
        with database_of(request).transaction() as session:
            actor = principal_of(request).name
            added = people.add_token(
                session,
                name=name,
                digest=digest_of(token),
                role=role,
                created_by=actor,
                expires_at=utc_now() + timedelta(days=int(days)) if days else None,
            )
            audit.record(session, actor, "create", f"token/{added.id}", None, added)
    except InvalidInput as error:
        return _tokens(request, error=error, values=_values(form))
    return _tokens(request, made=token, name=name)


@router.post("/tokens/{token_id}/delete")
def delete_token(request: Request, token_id: int) -> Response:
    with database_of(request).transaction() as session:
        name, role = people.delete_token(session, token_id)
        before = {"name": name, "role": role}
        actor = principal_of(request).name
        audit.record(session, actor, "delete", f"token/{token_id}", before, None)
    return go("/tokens", f"The token {name} no longer opens anything.")


@router.get("/audit")
def list_audit(request: Request, q: str = "", subject: str = "", before: str = "") -> Response:
    start: uuid.UUID | None
    try:
        start = uuid.UUID(before) if before else None
    except ValueError:
        start = None
    with database_of(request).transaction() as session:
        found = audit.entries(
            session, subject=subject, query=q.strip(), before=start, limit=_AUDIT_PAGE + 1
        )
    more = found[_AUDIT_PAGE - 1].id if len(found) > _AUDIT_PAGE else None
    return render(
        request,
        "people/audit.html",
        entries=found[:_AUDIT_PAGE],
        q=q,
        subject=subject,
        more=more,
        first=start is None,
    )


def _person_form(
    request: Request,
    person_id: int | None = None,
    values: dict[str, Any] | None = None,
    error: InvalidInput | None = None,
) -> Response:
    return render(
        request,
        "people/form.html",
        422 if error else 200,
        person_id=person_id,
        values=Values(values or {}),
        error=error,
        roles=list(Role),
        shortest=passwords.SHORTEST,
        has_oidc=oidc_of(request) is not None,
    )


def _tokens(
    request: Request,
    *,
    error: InvalidInput | None = None,
    values: dict[str, Any] | None = None,
    made: str = "",
    name: str = "",
) -> Response:
    with database_of(request).transaction() as session:
        found = people.tokens(session)
    return render(
        request,
        "people/tokens.html",
        422 if error else 200,
        tokens=found,
        error=error,
        values=Values(values or {"role": Role.VIEWER, "days": "90"}),
        made=made,
        name=name,
        roles=list(Role),
        lifetimes=_LIFETIMES,
        now=utc_now(),
    )


def _read(form: Posted) -> tuple[str, str, Role, str | None]:
    email = form.text("email")
    if email and ("@" not in email or len(email) > 320 or " " in email):
        raise InvalidInput("This is not an email address.", field="email")
    password = form.raw("password")
    return _name(form), email, _role(form), passwords.hashed(password) if password else None


def _name(form: Posted) -> str:
    name = form.text("name")
    if not name or len(name) > 100:
        raise InvalidInput("A name has 1 to 100 characters.", field="name")
    return name


def _role(form: Posted) -> Role:
    try:
        return Role(form.text("role"))
    except ValueError:
        raise InvalidInput("Choose a role.", field="role") from None


def _values(form: Posted) -> dict[str, Any]:
    """What was typed, to be shown again beside the error; never a password."""
    values: dict[str, Any] = {n: form.text(n) for n in ("name", "email", "role", "days")}
    values["enabled"] = form.flag("enabled")
    return values
