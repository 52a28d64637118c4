"""Leads a browser on after a form, with a notice that the next page shows once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Final, Literal
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

NOTICE_COOKIE: Final = "posthouse_notice"
Tone = Literal["good", "warn", "bad"]


def go(path: str, text: str = "", tone: Tone = "good") -> Response:
    """Leads on after a form (303), with a notice that the next page shows once."""
    response = RedirectResponse(path, status_code=303)
    if text:
        response.set_cookie(
            NOTICE_COOKIE,
            quote(json.dumps({"text": text[:1500], "tone": tone})),
            max_age=60,
            httponly=True,
            samesite="lax",
        )
    return response


def notice_of(request: Request) -> Mapping[str, str] | None:
    """What the redirect left for this page."""
    return _notice(request.cookies.get(NOTICE_COOKIE, ""))


def notice_in(headers: Headers) -> Mapping[str, str] | None:
    """What an answer leaves for the next page."""
    cookies = SimpleCookie("; ".join(headers.getlist("set-cookie")))
    return _notice(cookies[NOTICE_COOKIE].value) if NOTICE_COOKIE in cookies else None


def _notice(cookie: str) -> Mapping[str, str] | None:
    try:
        found = json.loads(unquote(cookie))
        tone = found["tone"] if found["tone"] in ("good", "warn", "bad") else "good"
        return {"text": str(found["text"]), "tone": tone}
    except (ValueError, TypeError, KeyError):
        return None
