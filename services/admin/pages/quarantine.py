"""Quarantine: mails that could not be processed, to be released or dropped."""

from __future__ import annotations

import uuid
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.admin.auth.route_permissions import OPERATE_ON_PART, READ_MAIL_OF_PART, VIEW_PART
from services.admin.downloads import download_mail
from services.admin.operations import quarantine as operations
from services.admin.operations.messages import get_message
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form, whole_number
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of
from shared.errors import NotFound, PosthouseError

router = APIRouter(prefix="/quarantine")


@router.get("", dependencies=[VIEW_PART])
def list_quarantine(
    request: Request, connection: str = "", code: str = "", before: str = ""
) -> Response:
    chosen = whole_number(connection)
    try:
        start = uuid.UUID(before) if before else None
    except ValueError:
        raise NotFound("There is no such page.") from None
    page = operations.search_quarantine(
        context_of(request), connection_id=chosen, code=code or None, before=start
    )

    def link(**changes: str) -> str:
        query = {"connection": connection, "code": code} | changes
        return "/quarantine?" + urlencode({n: v for n, v in query.items() if v})

    return render(request, "mails/quarantine.html", page=page, link=link, code=code, chosen=chosen)


@router.get("/{entry_id:uuid}", dependencies=[VIEW_PART])
def show(request: Request, entry_id: uuid.UUID) -> Response:
    """One entry: where alerts lead. Once it is decided about, its mail if there is one."""
    ctx = context_of(request)
    try:
        entry = operations.get_quarantined(ctx, entry_id)
    except NotFound:
        try:
            get_message(ctx, entry_id)
        except NotFound:
            return redirect("/quarantine", "That mail is not in quarantine any more.", "warn")
        return RedirectResponse(f"/mails/{entry_id}", 303)
    page = operations.QuarantinePage((entry,), None, 1)
    return render(request, "mails/quarantine.html", page=page, link=None, code="", chosen=entry.id)


@router.get("/{entry_id:uuid}/raw", dependencies=[READ_MAIL_OF_PART])
def raw(request: Request, entry_id: uuid.UUID) -> Response:
    size, chunks = operations.read_quarantined(context_of(request), entry_id)
    return download_mail(f"{entry_id}.eml", size, chunks)


@router.post("/act", dependencies=[OPERATE_ON_PART])
def act(request: Request, form: Form) -> Response:
    ctx = context_of(request)
    try:
        ids = [uuid.UUID(value) for value in form.many("id")]
    except ValueError:
        raise NotFound("There is no such mail in quarantine.") from None
    if not ids:
        return redirect("/quarantine", "Tick the mails first.", "warn")
    try:
        if form.text("do") == "drop":
            done = operations.drop_many(ctx, ids)
            return redirect("/quarantine", f"{counted(done, 'mail is', 'mails are')} dropped.")
        done = operations.release_many(ctx, ids)
    except PosthouseError as error:
        return redirect("/quarantine", f"{error} {error.hint}".strip(), "bad")
    return redirect("/quarantine", f"{counted(done, 'mail is', 'mails are')} released.")
