"""One's own account: password, second factor, open sessions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth import passwords
from services.admin.auth.authentication import session_of
from services.admin.auth.route_permissions import VIEW_PART, principal_of
from services.admin.operations import account as own
from services.admin.operations import people as operations
from services.admin.pages.forms import Form
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of
from shared.errors import InvalidInput, PosthouseError
from shared.people import SignedIn

router = APIRouter(prefix="/account")


@router.get("", dependencies=[VIEW_PART])
def account(request: Request) -> Response:
    return _page(request)


@router.post("", dependencies=[VIEW_PART])
def change_password(request: Request, form: Form) -> Response:
    signed_in, person_id = _person(request)
    ctx = context_of(request)
    try:
        if form.raw("password") != form.raw("again"):
            raise InvalidInput("The two new passwords differ.", field="again")
        own.change_password(
            ctx, person_id, signed_in, current=form.raw("current"), new=form.raw("password")
        )
    except (InvalidInput, passwords.Busy) as error:
        return _page(request, error=error)
    return redirect(
        "/account", "Your password is changed. Your other browsers have to log in again."
    )


@router.post("/sessions", dependencies=[VIEW_PART])
def end_session(request: Request, form: Form) -> Response:
    try:
        digest = bytes.fromhex(form.text("session"))
    except ValueError as error:
        raise InvalidInput("This is not one of your sessions.") from error
    operations.end_session(context_of(request), principal_of(request).person_id, digest)
    return redirect("/account", "That browser has to log in again.")


@router.post("/second-factor", dependencies=[VIEW_PART])
def offer(request: Request, form: Form) -> Response:
    _, person_id = _person(request)
    try:
        offered = own.offer_second_factor(
            context_of(request), person_id, current=form.raw("current")
        )
    except (InvalidInput, passwords.Busy) as error:
        return _page(request, factor_error=error)
    return _page(request, offered=offered)


@router.post("/second-factor/confirm", dependencies=[VIEW_PART])
def confirm(request: Request, form: Form) -> Response:
    signed_in, person_id = _person(request)
    try:
        codes = own.confirm_second_factor(
            context_of(request), person_id, signed_in, code=form.text("code")
        )
    except InvalidInput as error:
        return _page(request, factor_error=error)
    return _page(request, recovery_codes=codes)


@router.post("/second-factor/remove", dependencies=[VIEW_PART])
def remove(request: Request, form: Form) -> Response:
    _, person_id = _person(request)
    try:
        own.remove_second_factor(context_of(request), person_id, current=form.raw("current"))
    except (InvalidInput, passwords.Busy) as error:
        return _page(request, factor_error=error)
    return redirect("/account", "Your password alone is enough from now on.")


def _person(request: Request) -> tuple[SignedIn, int]:
    signed_in, person_id = session_of(request), principal_of(request).person_id
    if signed_in is None or person_id is None:
        raise InvalidInput("The bootstrap token is nobody in particular: it has no password.")
    return signed_in, person_id


def _page(
    request: Request,
    *,
    error: PosthouseError | None = None,
    factor_error: PosthouseError | None = None,
    **more: Any,
) -> Response:
    ctx, signed_in = context_of(request), session_of(request)
    person_id = principal_of(request).person_id
    return render(
        request,
        "account.html",
        422 if error or factor_error else 200,
        person=None if person_id is None else operations.get_person(ctx, person_id),
        sessions=operations.sessions_of(ctx, person_id),
        this_session=signed_in.digest if signed_in else b"",
        error=error,
        factor_error=factor_error,
        offered=more.get("offered"),
        recovery_codes=more.get("recovery_codes", ()),
    )
