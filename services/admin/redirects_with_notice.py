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
#: What a browser leaves out of an address wherever it stands (WHATWG URL, section 4.4).
_LEFT_OUT: Final = re.compile(r"[\t\r\n]")


def redirect(path: str, text: str = "", tone: Tone = "good") -> Response:
    """Leads on to a page of ours after a form (303), with a notice that it shows once."""
    notice = quote(json.dumps({"text": text[:1500], "tone": tone})) if text else ""
    return _LeadingOn(local_path(path), notice)


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


def _notice(cookie: str) -> Mapping[str, str] | None:
    try:
        found = json.loads(unquote(cookie))
        tone = found["tone"] if found["tone"] in ("good", "warn", "bad") else "good"
        return {"text": str(found["text"]), "tone": tone}
    except (ValueError, TypeError, KeyError):
        return None
