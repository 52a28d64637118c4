"""Enabling a connection: count, acknowledge, start."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import OPERATE_ON_PART
from services.admin.context import Context
from services.admin.operations import connection_views, enabling
from services.admin.operations import connections as operations
from services.admin.operations.enabling import AcknowledgementNeeded
from services.admin.operations.estimates import Estimate
from services.admin.pages.connection_editing import start_of
from services.admin.pages.forms import Form
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of
from shared.errors import InvalidInput, NotFound, PosthouseError

router = APIRouter(prefix="/connections")


@router.post("/{connection_id:int}/enable", dependencies=[OPERATE_ON_PART])
def enable(request: Request, connection_id: int, form: Form) -> Response:
    ctx = context_of(request)
    try:
        start = start_of(form)
        if form.flag("recount"):
            estimate = enabling.estimate_connection(ctx, connection_id, start_from=start)
            return _page_with_estimate(request, ctx, connection_id, estimate, form=form)
        saved = operations.enable_connection(
            ctx, connection_id, acknowledged=form.flag("acknowledged"), start_from=start
        )
    except AcknowledgementNeeded as needed:
        asked = bool(form.text("start_from"))
        unticked = InvalidInput("Tick this to enable it.", field="acknowledged") if asked else None
        return _page_with_estimate(
            request, ctx, connection_id, needed.estimate, unticked, form=form
        )
    except NotFound:
        raise
    except PosthouseError as error:
        return _page_with_estimate(request, ctx, connection_id, None, error, form=form)
    name = saved.view.connection.name
    if not saved.view.handlers:
        text = f"{name} is enabled, but nothing is downloaded before an enabled handler takes it."
        return redirect(f"/connections/{connection_id}", text, "warn")
    return redirect(f"/connections/{connection_id}", saved.notice)


@router.post("/{connection_id:int}/disable", dependencies=[OPERATE_ON_PART])
def disable(request: Request, connection_id: int) -> Response:
    saved = operations.disable_connection(context_of(request), connection_id)
    name = saved.view.connection.name
    return redirect(
        f"/connections/{connection_id}",
        f"{name} is disabled: no mail is fetched. What is already here is still handed over.",
    )


@router.post("/{connection_id:int}/fetch", dependencies=[OPERATE_ON_PART])
def fetch(request: Request, connection_id: int) -> Response:
    operations.fetch_connection(context_of(request), connection_id)
    return redirect(
        f"/connections/{connection_id}", "A fetch is on its way. This page shows its result."
    )


def _page_with_estimate(
    request: Request,
    ctx: Context,
    connection_id: int,
    estimate: Estimate | None,
    error: PosthouseError | None = None,
    *,
    form: Form,
) -> Response:
    by_date = form.text("start_from") == "since"
    if isinstance(error, InvalidInput) and error.field == "start_from" and by_date:
        error = InvalidInput(str(error), field="since", hint=error.hint)
    return render(
        request,
        "connections/enable.html",
        422 if error else 200,
        view=connection_views.get_connection(ctx, connection_id),
        estimate=estimate,
        error=error,
        start_from=form.text("start_from") or "everything",
        since=form.text("since"),
        log=getattr(error, "transcript", ()),
    )
