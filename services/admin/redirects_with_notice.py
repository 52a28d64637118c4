"""Leads a browser on after a form, with a notice that the next page shows once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Final, Literal
from urllib.parse import quote, unquote

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from services.admin.auth import cookies

Tone = Literal["good", "warn", "bad"]
_NOTICE_SECONDS: Final = 60
#: Browsers keep no cookie of more than 4096 octets, its name and attributes among them (RFC 6265
#: section 6.1). A character takes up to 16 of them.
_LONGEST_COOKIE: Final = 3800
#: Characters of a notice, as many as fit.
_LENGTHS: Final = (1500, 1000, 600, 400, 200)
#: What a browser leaves out of an address wherever it stands (WHATWG URL, section 4.4).
_LEFT_OUT: Final = re.compile(r"[\t\r\n]")


def redirect(path: str, text: str = "", tone: Tone = "good") -> Response:
    """Leads on to a page of ours after a form (303), with a notice that it shows once."""
    return _LeadingOn(local_path(path), _written(text, tone) if text else "")


def local_path(path: str) -> str:
    """`path` where it is one of ours, else `/`: whatever a caller wrote leads to no other site.

    A browser takes `//host` and `/\\host` for another host.
    """
    plain = _LEFT_OUT.sub("", path)
    return plain if plain.startswith("/") and plain[1:2] not in ("/", "\\") else "/"


def notice_of(connection: HTTPConnection) -> Mapping[str, str] | None:
    """What the redirect left for this page."""
    return _notice(cookies.read(connection, cookies.NOTICE))


def notice_in(connection: HTTPConnection, headers: Headers) -> Mapping[str, str] | None:
    """What an answer leaves for the next page."""
    set_here = SimpleCookie("; ".join(headers.getlist("set-cookie")))
    name = cookies.name_of(cookies.NOTICE, https=cookies.is_https(connection))
    return _notice(set_here[name].value) if name in set_here else None


class _LeadingOn(RedirectResponse):
    """Its notice is a cookie as the others: over HTTPS no other host can leave one."""

    def __init__(self, path: str, notice: str) -> None:
        super().__init__(path, status_code=303)
        self._notice = notice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._notice:
            connection = HTTPConnection(scope)
            cookies.write(connection, self, cookies.NOTICE, self._notice, _NOTICE_SECONDS)
        await super().__call__(scope, receive, send)


def _written(text: str, tone: Tone) -> str:
    """What the cookie holds: so much of the text as fits."""
    written = ""
    for length in _LENGTHS:
        shown = text if len(text) <= length else f"{text[: length - 1]}…"
        written = quote(json.dumps({"text": shown, "tone": tone}))
        if len(written) <= _LONGEST_COOKIE:
            break
    return written


def _notice(cookie: str) -> Mapping[str, str] | None:
    try:
        found = json.loads(unquote(cookie))
        tone = found["tone"] if found["tone"] in ("good", "warn", "bad") else "good"
        return {"text": str(found["text"]), "tone": tone}
    except (ValueError, TypeError, KeyError):
        return None
