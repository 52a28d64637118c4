"""One connection: how it is doing, its runs, its mails over time."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.authentication import session_of
from services.admin.auth.route_permissions import OPERATE_ON_PART, VIEW_PART
from services.admin.operations import authorisation, connection_tests, connection_views, doctor
from services.admin.operations.connection_views import Day
from services.admin.operations.credentials import get_credential
from services.admin.pages import charts
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form, list_start
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of, is_part
from shared.errors import NotFound, PosthouseError
from shared.mailbox_logins import GrantShared, Others

router = APIRouter(prefix="/connections")
_RUNS = 15


@router.get("/{connection_id:int}", dependencies=[VIEW_PART])
def page(request: Request, connection_id: int) -> Response:
    return render(request, "connections/detail.html", report=None, **_read(request, connection_id))


@router.get("/{connection_id:int}/live", dependencies=[VIEW_PART])
def live(request: Request, connection_id: int) -> Response:
    return render(request, "connections/_detail.html", **_read(request, connection_id))


@router.get("/{connection_id:int}/runs", dependencies=[VIEW_PART])
def runs(request: Request, connection_id: int, before: str = "") -> Response:
    ctx, start = context_of(request), list_start(before)
    found = connection_views.runs_of_connection(ctx, connection_id, before=start, limit=51)
    view = connection_views.get_connection(ctx, connection_id)
    return render(
        request, "connections/runs.html", view=view, runs=found[:50], more=len(found) > 50
    )


@router.post("/{connection_id:int}/test", dependencies=[OPERATE_ON_PART])
def test(request: Request, connection_id: int) -> Response:
    report = connection_tests.test(context_of(request), None, connection_id)
    if is_part(request):
        return render(request, "connections/_test.html", report=report, error=None)
    context = _read(request, connection_id)
    return render(request, "connections/detail.html", report=report, **context)


@router.post("/{connection_id:int}/doctor", dependencies=[OPERATE_ON_PART])
def examine(request: Request, connection_id: int, form: Form) -> Response:
    """What the server makes of every form of request, with a recording to read and keep."""
    ctx = context_of(request)
    try:
        report, error = doctor.examine_connection(ctx, connection_id, record=True), None
    except NotFound:
        raise
    except PosthouseError as refused:
        report, error = None, refused
    if is_part(request):
        return render(request, "connections/_doctor.html", report=report, error=error)
    return render(
        request,
        "connections/doctor.html",
        view=connection_views.get_connection(ctx, connection_id),
        report=report,
        error=error,
    )


@router.post("/{connection_id:int}/authorise", dependencies=[OPERATE_ON_PART])
def authorise(request: Request, connection_id: int) -> Response:
    """A page with the way to the provider: a form may not lead to another site by itself (the
    content security policy), and people see where they are going."""
    ctx, signed_in = context_of(request), session_of(request)
    assert signed_in is not None
    try:
        address = authorisation.start(
            ctx, connection_id, session=f"session {signed_in.digest.hex()}"
        )
    except NotFound:
        raise
    except PosthouseError as error:
        return redirect(f"/connections/{connection_id}", f"{error} {error.hint}".strip(), "bad")
    return render(
        request,
        "connections/authorise.html",
        view=connection_views.get_connection(ctx, connection_id),
        address=address,
        host=urlsplit(address).hostname,
    )


@router.post("/{connection_id:int}/revoke", dependencies=[OPERATE_ON_PART])
def revoke(request: Request, connection_id: int, form: Form) -> Response:
    ctx = context_of(request)
    chosen = form.text("others")
    others = Others(chosen) if chosen in set(Others) else Others.ASK
    try:
        confirmed = authorisation.revoke(ctx, connection_id, others)
    except GrantShared as shared:
        view = connection_views.get_connection(ctx, connection_id)
        return render(request, "connections/revoke.html", view=view, names=shared.names)
    text = "The authorisation is revoked."
    if others is Others.KEEP:
        return redirect(f"/connections/{connection_id}", "The authorisation is forgotten here.")
    if not confirmed:
        text += " The provider did not confirm it: remove Posthouse on its account page, too."
    return redirect(f"/connections/{connection_id}", text, "good" if confirmed else "warn")


def _read(request: Request, connection_id: int) -> dict[str, Any]:
    ctx = context_of(request)
    view = connection_views.get_connection(ctx, connection_id)
    credential = None
    if view.connection.credential_id:
        credential = get_credential(ctx, view.connection.credential_id).credential
    found = connection_views.runs_of_connection(ctx, connection_id, limit=_RUNS + 1)
    return {
        "view": view,
        "credential": credential,
        "authorised": ctx.app_state.logins.authorisation(connection_id) if credential else None,
        "runs": found[:_RUNS],
        "more": len(found) > _RUNS,
        "chart": _chart(list(connection_views.days_of_connection(ctx, connection_id))),
    }


def _chart(days: list[Day]) -> charts.Chart:
    total = sum(day.mails for day in days)
    return charts.bars(
        [(f"{day.day.day} {day.day:%b}", day.mails) for day in days],
        f"Mails a day over the last {counted(len(days), 'day')}, {counted(total, 'mail')} in all.",
        unit="mail",
    )
