"""People, API tokens and the audit log: for administrators."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth import passwords
from services.admin.auth.route_permissions import ADMINISTER
from services.admin.operations import people as operations
from services.admin.pages.forms import Form, PostedForm, Values, list_start
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import (
    context_of,
    editing_context_of,
    oidc_of,
    settings_of,
)
from shared.clock import utc_now
from shared.errors import ChangedMeanwhile, InvalidInput, PosthouseError
from shared.people import Role

router = APIRouter()
_LIFETIMES: Final = {"30": "30 days", "90": "90 days", "365": "a year", "": "no end"}


@router.get("/people", dependencies=[ADMINISTER])
def list_people(request: Request) -> Response:
    return render(request, "people/list.html", people=operations.list_people(context_of(request)))


@router.get("/people/new", dependencies=[ADMINISTER])
def new_person(request: Request) -> Response:
    return _person_form(request, values={"role": Role.VIEWER, "enabled": True})


@router.post("/people/new", dependencies=[ADMINISTER])
def add_person(request: Request, form: Form) -> Response:
    try:
        added = operations.create_person(context_of(request), _changes(form))
    except InvalidInput as error:
        return _person_form(request, values=_values(form), error=error)
    return redirect("/people", f"{added.name} may log in now, as {added.role}.")


@router.get("/people/{person_id}", dependencies=[ADMINISTER])
def edit_person(request: Request, person_id: int) -> Response:
    person = operations.get_person(context_of(request), person_id)
    values = {n: getattr(person, n) for n in ("name", "email", "role", "enabled")}
    values["tags"] = ", ".join(person.tags)
    return _person_form(request, person_id, values)


@router.post("/people/{person_id}", dependencies=[ADMINISTER])
def change_person(request: Request, person_id: int, form: Form) -> Response:
    changes = _changes(form) | {"enabled": form.flag("enabled")}
    try:
        changed = operations.update_person(editing_context_of(request, form), person_id, changes)
    except (InvalidInput, ChangedMeanwhile) as error:
        return _person_form(request, person_id, _values(form), error)
    return redirect("/people", f"{changed.name} is changed.")


@router.post("/people/{person_id}/delete", dependencies=[ADMINISTER])
def delete_person(request: Request, person_id: int, form: Form) -> Response:
    gone = operations.delete_person(
        context_of(request), person_id, take_over_tokens=form.text("tokens") == "take-over"
    )
    return redirect("/people", f"{gone.name} can no longer log in.")


@router.post("/people/{person_id}/sessions", dependencies=[ADMINISTER])
def end_sessions(request: Request, person_id: int) -> Response:
    operations.end_sessions(context_of(request), person_id)
    return redirect(f"/people/{person_id}", "Every browser of this person has to log in again.")


@router.post("/people/{person_id}/second-factor", dependencies=[ADMINISTER])
def remove_second_factor(request: Request, person_id: int) -> Response:
    operations.remove_second_factor(context_of(request), person_id)
    return redirect(
        f"/people/{person_id}", "The password alone is enough until they set up another one."
    )


@router.get("/tokens", dependencies=[ADMINISTER])
def list_tokens(request: Request) -> Response:
    return _tokens(request)


@router.post("/tokens", dependencies=[ADMINISTER])
def add_token(request: Request, form: Form) -> Response:
    days = form.text("days")
    changes: dict[str, Any] = {n: form.text(n) for n in ("name", "role")}
    changes["tags"] = form.tags("tags")
    try:
        if days not in _LIFETIMES:
            raise InvalidInput("Choose how long the token is valid.", field="days")
        added, token = operations.create_token(
            context_of(request), changes | {"days": int(days) if days else None}
        )
    except InvalidInput as error:
        return _tokens(request, error=error, values=_values(form))
    return _tokens(request, made=token, name=added.name)


@router.post("/tokens/{token_id}/take-over", dependencies=[ADMINISTER])
def take_over_token(request: Request, token_id: int) -> Response:
    taken = operations.take_over_token(context_of(request), token_id)
    return redirect("/tokens", f"The token {taken.name} is yours now.")


@router.post("/tokens/{token_id}/delete", dependencies=[ADMINISTER])
def delete_token(request: Request, token_id: int) -> Response:
    name = operations.delete_token(context_of(request), token_id)
    return redirect("/tokens", f"The token {name} no longer opens anything.")


@router.get("/audit", dependencies=[ADMINISTER])
def list_audit(request: Request, q: str = "", subject: str = "", before: str = "") -> Response:
    start = list_start(before)
    found, more = operations.audit_log(context_of(request), q=q, subject=subject, before=start)
    return render(
        request,
        "people/audit.html",
        entries=found,
        q=q,
        subject=subject,
        more=more,
        first=start is None,
    )


def _person_form(
    request: Request,
    person_id: int | None = None,
    values: dict[str, Any] | None = None,
    error: PosthouseError | None = None,
) -> Response:
    ctx = context_of(request)
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
        by_groups=bool(settings_of(request).oidc_issuer and settings_of(request).oidc_groups),
        oidc_name=settings_of(request).oidc_name,
        person=operations.get_person(ctx, person_id) if person_id else None,
        sessions=operations.sessions_of(ctx, person_id) if person_id else (),
        tokens=operations.tokens_of(ctx, person_id) if person_id else (),
    )


def _tokens(
    request: Request,
    *,
    error: InvalidInput | None = None,
    values: dict[str, Any] | None = None,
    made: str = "",
    name: str = "",
) -> Response:
    return render(
        request,
        "people/tokens.html",
        422 if error else 200,
        tokens=operations.list_tokens(context_of(request)),
        error=error,
        values=Values(values or {"role": Role.VIEWER, "days": "90"}),
        made=made,
        name=name,
        roles=list(Role),
        lifetimes=_LIFETIMES,
        now=utc_now(),
    )


def _changes(form: PostedForm) -> dict[str, Any]:
    changes: dict[str, Any] = {n: form.text(n) for n in ("name", "email", "role")}
    changes["tags"] = form.tags("tags")
    return changes | {"password": form.raw("password") or None}


def _values(form: PostedForm) -> dict[str, Any]:
    """What was typed, to be shown again beside the error; never a password."""
    values: dict[str, Any] = {n: form.text(n) for n in ("name", "email", "role", "tags", "days")}
    values["enabled"] = form.flag("enabled")
    return values
