"""The API's reference with try-out: Swagger UI, as the package `fastapi-swagger` carries it.

A call tried here is made by the session that looks at the page, with its rights and its CSRF token,
or with a token that is given under "Authorize".
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from services.admin.auth.route_permissions import VIEW_PART
from services.admin.pages.rendering import HEADERS, render
from shared.errors import NotFound

router = APIRouter(prefix="/reference")

_ASSETS: Final = files("fastapi_swagger.resources")
_TYPES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
#: Its pictures are in its style sheet, and it sets styles at elements. Still no script but files.
_POLICY: Final = (
    HEADERS["content-security-policy"]
    .replace("img-src 'self'", "img-src 'self' data:")
    .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
)


@router.get("", dependencies=[VIEW_PART])
def page(request: Request) -> Response:
    shown = render(request, "reference.html")
    shown.headers["content-security-policy"] = _POLICY
    return shown


@router.get("/assets/{name}", dependencies=[VIEW_PART])
def asset(name: str) -> Response:
    """A file of the package; it changes with the release only."""
    if name not in _TYPES:
        raise NotFound(f"There is no file {name!r}.")
    return FileResponse(
        str(_ASSETS / name),
        media_type=_TYPES[name],
        headers={"cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"},
    )
