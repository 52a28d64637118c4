"""Jumping to a connection, a handler, a mail or a page by its name: a page, and the box that the
keyboard opens on every page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import VIEW_PART, Needs, declared
from services.admin.operations.jump import JumpTarget, find_jump_targets
from services.admin.pages.documents import titles
from services.admin.pages.rendering import render
from services.admin.pages.request_context import context_of, is_part
from shared.people import Principal

router = APIRouter(prefix="/jump")
_LONGEST: Final = 200
#: Address and title. Who may open it, its route says.
_PAGES: Final = (
    ("/", "Overview"),  # who has rights by tag is led on to the connections
    ("/connections", "Connections"),
    ("/connections/new", "Add a connection"),
    ("/connections/import", "Import connections"),
    ("/mails", "Mails"),
    ("/quarantine", "Quarantine"),
    ("/handlers", "Handlers"),
    ("/handlers/new", "Add a handler"),
    ("/certificates", "Certificates"),
    ("/certificates/new", "Upload a certificate"),
    ("/credentials", "Credentials"),
    ("/credentials/new", "Add a credential"),
    ("/people", "People"),
    ("/people/new", "Add a person"),
    ("/tokens", "API tokens"),
    ("/audit", "Audit log"),
    ("/settings", "Settings"),
    ("/account", "My account"),
    ("/documents", "Documents"),
    ("/reference", "API reference"),
)


@router.get("", dependencies=[VIEW_PART])
def jump(request: Request, q: str = "") -> Response:
    ctx = context_of(request)
    typed = q.strip()[:_LONGEST]
    pages = _pages(_open_to(request.app, ctx.principal), typed)
    targets = [*pages, *find_jump_targets(ctx, typed), *_searches(typed)]
    template = "_jump.html" if is_part(request) else "jump.html"
    return render(request, template, typed=typed, targets=targets)


@cache
def _needs(app: FastAPI) -> Mapping[str, Needs]:
    return {route.path: route.needs for route in declared(app) if "GET" in route.methods}


def _open_to(app: FastAPI, principal: Principal) -> list[JumpTarget]:
    found = []
    for address, title in _PAGES:
        needs = _needs(app)[address]
        allowed = needs.permission is None or principal.may(needs.permission)
        if allowed and (needs.parts or needs.permission is None or not principal.tags):
            found.append(JumpTarget("Page", title, address))
    return found


def _pages(pages: list[JumpTarget], typed: str) -> list[JumpTarget]:
    """Those that have a word which begins with `typed`; all but the documents for an empty text."""
    found = list(pages)
    if typed:
        found += [JumpTarget("Document", t, f"/documents/{name}") for name, t in titles().items()]
    wanted = typed.casefold()
    return [one for one in found if f" {wanted}" in f" {one.name.casefold()}"]


def _searches(typed: str) -> list[JumpTarget]:
    query = urlencode({"q": typed})
    if not typed:
        return []
    return [
        JumpTarget("Search", f"Mails with “{typed}”", f"/mails?{query}"),
        JumpTarget("Search", f"Connections with “{typed}”", f"/connections?{query}"),
    ]
