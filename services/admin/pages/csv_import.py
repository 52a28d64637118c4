"""Connections from a CSV file: what it would add, what is wrong with it, and adding them."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.authentication import session_of
from services.admin.auth.route_permissions import OPERATE_ON_PART
from services.admin.operations.csv_import import (
    HEADINGS,
    Imported,
    ImportRefused,
    import_connections,
)
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form, PostedForm
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of
from shared.errors import InvalidInput, PosthouseError
from shared.vault import SecretPath

router = APIRouter(prefix="/connections/import")
#: Octets: sealed and in base64 it comes back in a form.
_LARGEST: Final = 1 << 20


@router.get("", dependencies=[OPERATE_ON_PART])
def form(request: Request) -> Response:
    return _page(request)


@router.post("", dependencies=[OPERATE_ON_PART])
def check(request: Request, form: Form) -> Response:
    """Shows what a file would do. It comes back with the answer, sealed, as it holds passwords."""
    content = form.files.get("file") or form.raw("text").encode()
    if not content.strip():
        return _page(
            request, error=InvalidInput("Choose a file, or paste its lines.", field="file")
        )
    if len(content) > _LARGEST:
        error = InvalidInput("The file is larger than 1 MB.", field="file", hint="Split it.")
        return _page(request, error=error)
    ctx = context_of(request)
    found = import_connections(ctx, content, dry_run=True)
    sealed = ctx.app_state.vault.seal(content, _place(request))
    return _page(request, found, base64.b64encode(sealed).decode())


@router.post("/apply", dependencies=[OPERATE_ON_PART])
def apply(request: Request, form: Form) -> Response:
    ctx = context_of(request)
    try:
        content = ctx.app_state.vault.open(_sealed(form), _place(request))
    except (PosthouseError, binascii.Error, ValueError):
        text = "What was checked can no longer be read: choose the file again."
        return _page(request, error=InvalidInput(text, field="file"))
    try:
        done = import_connections(ctx, content, dry_run=False)
    except ImportRefused as refused:
        return _page(request, refused.found)
    text = f"{counted(len(done.rows), 'connection')} added, all disabled."
    return redirect("/connections?sort=-created", text)


def _sealed(form: PostedForm) -> bytes:
    return base64.b64decode(form.text("sealed"), validate=True)


def _place(request: Request) -> SecretPath:
    """Nobody else's browser session opens it."""
    signed_in = session_of(request)
    assert signed_in is not None
    return SecretPath("session", "import", signed_in.digest.hex())


def _page(
    request: Request,
    found: Imported | None = None,
    sealed: str = "",
    error: InvalidInput | None = None,
) -> Response:
    wrong = error is not None or (found is not None and found.fault_count > 0)
    return render(
        request,
        "connections/import.html",
        422 if wrong else 200,
        found=found,
        sealed=sealed,
        error=error,
        headings=HEADINGS,
    )
