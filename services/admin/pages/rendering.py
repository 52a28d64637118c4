"""Templates, notices and the headers that every page carries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.admin.auth import cookies
from services.admin.auth.authentication import session_of
from services.admin.operations.edit_conflicts import Versioned, version_of
from services.admin.pages import formatting
from services.admin.redirects_with_notice import Tone as Tone
from services.admin.redirects_with_notice import notice_of
from services.admin.redirects_with_notice import redirect as redirect
from shared.errors import ChangedMeanwhile, InvalidInput, PosthouseError
from shared.handlers import SILENT_S
from shared.kinds import KINDS
from shared.people import Permission
from shared.quantities import limit, sized
from shared.untrusted_text import in_words, shown

STATIC: Final = Path(str(files("services.admin") / "static"))

#: Nothing inline, nothing from elsewhere, no frame around us.
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


@cache
def static(name: str) -> str:
    """The address of a file of ours; it changes with its content, so browsers may keep it."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def _for_page(value: Any) -> Any:
    """What a template writes: no text of a stranger puts the page around it in another order."""
    if isinstance(value, Markup):  # of a macro, or checked
        return Markup(shown(str(value)))  # noqa: S704 (less of what was safe)
    return shown(value) if isinstance(value, str) else value


def at_field(error: PosthouseError | None, name: str) -> PosthouseError | None:
    """What is wrong with this field of a form, of all that an error says."""
    every = error.every if isinstance(error, InvalidInput) else (error,)
    return next((one for one in every if getattr(one, "field", "") == name), None)


def opened_version(request: Request, value: Versioned, error: PosthouseError | None) -> str:
    """The version that a form is about: of when it was opened, until somebody was told that it is
    another one by now."""
    opened: str = getattr(request.state, "opened_version", "")
    if opened and not isinstance(error, ChangedMeanwhile):
        return opened
    return version_of(value)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("services.admin", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_for_page,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "ago",
        "counted",
        "day",
        "exact",
        "milliseconds",
        "number",
        "seconds",
        "span",
    ):
        environment.filters[name] = getattr(formatting, name)
    environment.filters |= {"in_words": in_words, "size": sized, "limit": limit}
    environment.globals.update(
        static=static,
        at_field=at_field,
        opened_version=opened_version,
        KINDS=KINDS,
        HEALTHS=formatting.HEALTHS,
        SILENT_S=SILENT_S,
        Permission=Permission,
    )
    return environment


_ENVIRONMENT: Final = _environment()


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A whole page, or a part of one (templates that begin with `_`)."""
    signed_in = session_of(request)
    notice = notice_of(request)
    me = getattr(request.state, "principal", None)
    if me is not None and me.link_id is not None:
        me = None  # a page of its own, with no menu
    body = _ENVIRONMENT.get_template(template).render(
        request=request,
        path=request.url.path,
        me=me,
        csrf_token=signed_in.csrf if signed_in else "",
        notice=notice,
        **context,
    )
    response = HTMLResponse(body, status, headers=dict(HEADERS))
    if notice and not template.startswith("_"):
        cookies.delete(request, response, cookies.NOTICE)
    return response


def refusal(request: Request, status: int, message: str, hint: str = "") -> Response:
    """The page for what cannot be shown or done."""
    titles = {403: "Not allowed", 404: "Not found", 409: "Not possible", 503: "Not available"}
    title = titles.get(status, "Something went wrong")
    return render(request, "refusal.html", status=status, title=title, message=message, hint=hint)
