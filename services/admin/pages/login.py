"""Logging in and out."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.admin.auth import cookies, passwords, stateless_bootstrap_sessions
from services.admin.auth.authentication import address_of, session_of
from services.admin.auth.browser_logins import SESSION_LIFETIME, LoginRefused
from services.admin.auth.login_attempts import Origin
from services.admin.auth.route_permissions import PUBLIC, VIEW
from services.admin.auth.token_guesses import TooManyAttempts
from services.admin.pages.forms import Form
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import logins_of, oidc_of, settings_of
from services.admin.redirects_with_notice import local_path
from shared.errors import NotFound, PosthouseError, TryAgain

router = APIRouter()
_DEVICE_SECONDS = 180 * 86_400
_CODE_SECONDS = 300


@router.get("/login", dependencies=[PUBLIC])
def login(request: Request, next: str = "/") -> Response:
    return _form(request, follow=next)


@router.post("/login", dependencies=[PUBLIC])
def log_in(request: Request, form: Form) -> Response:
    logins, follow = logins_of(request), form.text("next")
    origin = Origin(address_of(request), cookies.read(request, cookies.DEVICE))
    by_token = form.text("way") == "token"
    try:
        if by_token:
            entered = logins.log_in_with_token(form.text("token"), origin)
        else:
            entered = logins.log_in_with_password(form.text("name"), form.raw("password"), origin)
    except (LoginRefused, TooManyAttempts, passwords.Busy) as error:
        status = 401 if isinstance(error, LoginRefused) else 429
        return _form(request, follow, error, form.text("name"), by_token, status)
    if entered.is_sealed:
        return _enter(request, entered.cookie, follow, stateless_bootstrap_sessions.LIFETIME)
    if not entered.needs_code:
        return _enter_known(request, entered.cookie, follow)
    response = RedirectResponse(f"/login/code?{urlencode({'next': follow})}", status_code=303)
    cookies.write(request, response, cookies.SESSION, entered.cookie, _CODE_SECONDS)
    return response


@router.get("/login/code", dependencies=[PUBLIC])
def code_form(request: Request, next: str = "/") -> Response:
    return _code_form(request, next)


@router.post("/login/code", dependencies=[PUBLIC])
def take_code(request: Request, form: Form) -> Response:
    follow = form.text("next")
    origin = Origin(address_of(request), cookies.read(request, cookies.DEVICE))
    pending = cookies.read(request, cookies.SESSION)
    try:
        cookie = logins_of(request).give_code(pending, form.text("code"), origin)
    except (LoginRefused, TooManyAttempts) as error:
        return _code_form(request, follow, error, 401 if isinstance(error, LoginRefused) else 429)
    return _enter_known(request, cookie, follow)


@router.get("/login/oidc", dependencies=[PUBLIC])
def start_oidc(request: Request, next: str = "/") -> Response:
    oidc = oidc_of(request)
    if oidc is None:
        return RedirectResponse("/login", status_code=303)
    try:
        address, browser = oidc.start(local_path(next))
    except TryAgain as error:
        return _form(request, next, error, status=503)
    response = RedirectResponse(address, status_code=303)
    cookies.write(request, response, cookies.OIDC, browser, 900)
    return response


@router.get("/login/oidc/callback", dependencies=[PUBLIC])
def finish_oidc(request: Request) -> Response:
    oidc = oidc_of(request)
    if oidc is None:
        return RedirectResponse("/login", status_code=303)
    try:
        cookie, follow = oidc.finish(
            dict(request.query_params), cookies.read(request, cookies.OIDC)
        )
    except (LoginRefused, TryAgain) as error:
        return _form(request, error=error, status=401)
    response = _enter(request, cookie, follow)
    cookies.delete(request, response, cookies.OIDC)
    return response


@router.get("/login/consent/{answer}", dependencies=[PUBLIC])
def consented(request: Request, answer: str) -> Response:
    """What an administrator of a tenant sees after the consent. Nothing of the address is shown."""
    if answer not in {"given", "refused"}:
        raise NotFound("There is no such page.")
    return render(request, "consent.html", given=answer == "given")


@router.post("/logout", dependencies=[VIEW])
def log_out(request: Request) -> Response:
    signed_in = session_of(request)
    if signed_in and not stateless_bootstrap_sessions.is_sealed(
        cookies.read(request, cookies.SESSION)
    ):
        logins_of(request).log_out(signed_in)
    response = redirect("/login", "You are logged out.")
    cookies.delete(request, response, cookies.SESSION)
    return response


def _form(
    request: Request,
    follow: str = "/",
    error: PosthouseError | None = None,
    name: str = "",
    by_token: bool = False,
    status: int = 200,
) -> Response:
    first = logins_of(request).is_new
    token = cookies.read(request, cookies.LOGIN) or secrets.token_urlsafe(32)
    context: dict[str, Any] = {
        "follow": local_path(follow),
        "error": error,
        "name": name,
        "first": first,
        "by_token": by_token or first,
        "has_token": logins_of(request).has_bootstrap,
        "oidc_name": settings_of(request).oidc_name if oidc_of(request) else "",
        "login_csrf": token,
    }
    response = render(request, "login.html", status, **context)
    cookies.write(request, response, cookies.LOGIN, token, 86_400)
    return response


def _code_form(
    request: Request, follow: str, error: PosthouseError | None = None, status: int = 200
) -> Response:
    token = cookies.read(request, cookies.LOGIN) or secrets.token_urlsafe(32)
    context = {"follow": local_path(follow), "error": error, "login_csrf": token}
    response = render(request, "code.html", status, **context)
    cookies.write(request, response, cookies.LOGIN, token, 86_400)
    return response


def _enter_known(request: Request, cookie: str, follow: str) -> Response:
    """Like `_enter`; from now on this browser is one in which that person has logged in."""
    response = _enter(request, cookie, follow)
    device = logins_of(request).new_device(cookie)
    cookies.write(request, response, cookies.DEVICE, device, _DEVICE_SECONDS)
    return response


def _enter(
    request: Request, cookie: str, follow: str, lifetime: timedelta = SESSION_LIFETIME
) -> Response:
    response = RedirectResponse(local_path(follow), status_code=303)
    cookies.write(request, response, cookies.SESSION, cookie, int(lifetime.total_seconds()))
    cookies.delete(request, response, cookies.LOGIN)
    return response
