"""Cookies of ours: only for us, never for scripts, and over HTTPS under names that no other host
or path can set (`__Host-`, RFC 6265bis section 4.1.3.2).

Whether Posthouse is reached over HTTPS is told by PUBLIC_URL; `auth.authentication` notes it at
each request.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response

SESSION: Final = "posthouse_session"
#: Proves, before there is a session, that the login form came from our own page.
LOGIN: Final = "posthouse_login"
#: Somebody has logged in here before: such a browser has its own count of failed logins.
DEVICE: Final = "posthouse_device"
OIDC: Final = "posthouse_oidc"
#: The link of an authorisation that this browser began, and what nobody else knows of it.
LINK: Final = "posthouse_link"
#: What the next page tells (`services.admin.redirects_with_notice`).
NOTICE: Final = "posthouse_notice"


def read(request: HTTPConnection, name: str) -> str:
    """The value; empty where the browser sent none."""
    return request.cookies.get(name_of(name, https=is_https(request)), "")


def write(request: HTTPConnection, response: Response, name: str, value: str, seconds: int) -> None:
    https = is_https(request)
    response.set_cookie(
        name_of(name, https=https),
        value,
        max_age=seconds,
        httponly=True,
        samesite="lax",
        secure=https,
    )


def delete(request: HTTPConnection, response: Response, name: str) -> None:
    https = is_https(request)
    response.delete_cookie(name_of(name, https=https), httponly=True, samesite="lax", secure=https)


def name_of(name: str, *, https: bool) -> str:
    """What the browser calls it."""
    return f"__Host-{name}" if https else name


def is_https(request: HTTPConnection) -> bool:
    https: bool = getattr(request.state, "https", False)
    return https
