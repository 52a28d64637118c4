"""The first page: what flows, what is stuck, what needs somebody."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.admin.auth.route_permissions import VIEW, VIEW_PART, principal_of
from services.admin.operations.overview import get_overview
from services.admin.pages import charts
from services.admin.pages.formatting import counted
from services.admin.pages.rendering import render
from services.admin.pages.request_context import context_of, logins_of
from shared.connections import Health

router = APIRouter()
#: How many of the connections that need somebody are shown; the list has all of them.
_LISTED: Final = 8


@router.get("/", dependencies=[VIEW_PART])
def page(request: Request) -> Response:
    if principal_of(request).tags:  # the numbers are of all connections
        return RedirectResponse("/connections", 303)
    return render(request, "overview.html", **_read(request))


@router.get("/overview/live", dependencies=[VIEW])
def live(request: Request) -> Response:
    return render(request, "_overview.html", **_read(request))


def _read(request: Request) -> dict[str, Any]:
    ctx = context_of(request)
    view = get_overview(ctx)
    total = sum(slot.mails for slot in view.last_day)
    need_somebody = (Health.FAILING, Health.NEEDS_AUTHORISATION, Health.OVERDUE)
    return {
        "overview": view,
        "nobody": logins_of(request).is_new,
        "connections": sum(view.connections.values()),
        "listed": _LISTED,
        "need_somebody": sum(view.connections.get(health, 0) for health in need_somebody),
        "mails_day": total,
        "mails_hour": sum(slot.mails for slot in view.last_hour),
        "chart": charts.bars(
            [(f"{slot.start:%H:%M}", slot.mails) for slot in view.last_day],
            f"Mails downloaded in each half hour of the last day, {counted(total, 'mail')} in all. "
            "Times are UTC.",
            unit="mail",
            labels=8,
            times=[slot.start for slot in view.last_day],
        ),
    }
