"""Many connections at once: what is to be done, and what became of each."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import OPERATE_ON_PART
from services.admin.operations import bulk as operations
from services.admin.operations.bulk import Action, BulkOutcome, Status, bulk_of
from services.admin.operations.certificates import search_certificates
from services.admin.operations.connection_list import ids_matching, tags_in_use
from services.admin.operations.tag_rights import own_tags
from services.admin.pages.connection_list import Asked
from services.admin.pages.forms import Form, PostedForm, Values, whole_number
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of, is_part
from shared.errors import InvalidInput

router = APIRouter(prefix="/connections")
_LISTED: Final = 200
#: Connections of one request of the page: fewer where mail servers are asked.
_BATCH: Final = {Action.TEST: 8, Action.ENABLE: 8}
_FILTERS: Final = ("q", "health", "mode", "tag", "handler")


@router.post("/bulk", dependencies=[OPERATE_ON_PART])
def choose(request: Request, form: Form) -> Response:
    """Asks what to do with those that are ticked, or with all that the filter matches."""
    action = form.text("action")
    ids = form.ids("id")
    if form.flag("every"):
        asked = Asked.of({name: form.text(name) for name in _FILTERS})
        ids = ids_matching(context_of(request), asked.filter)
    if not ids:
        return redirect("/connections", "Tick the connections first.", "warn")
    return _page(request, action, ids, Values({"start_from": "everything"}))


@router.post("/bulk/apply", dependencies=[OPERATE_ON_PART])
def apply(request: Request, form: Form) -> Response:
    """Does it. A script asks for a few at a time and shows how far it is."""
    ctx = context_of(request)
    named = (whole_number(one) for one in form.text("ids").split(","))
    ids = [one for one in named if one is not None]
    try:
        wanted = bulk_of(_changes(form))
    except InvalidInput as error:
        if is_part(request):
            return render(request, "connections/_bulk_rows.html", 422, error=error, outcomes=[])
        return _page(request, form.text("action"), ids, _typed(form), error=error)
    outcomes: list[BulkOutcome] = []
    for start in range(0, len(ids), operations.MOST):
        outcomes += operations.change_many(ctx, ids[start : start + operations.MOST], wanted)
    if is_part(request):
        return render(request, "connections/_bulk_rows.html", error=None, outcomes=outcomes)
    left = [one.id for one in outcomes if one.status in (Status.ASKS, Status.FAILED)]
    return _page(request, form.text("action"), left, _typed(form), outcomes=outcomes)


def _changes(form: PostedForm) -> dict[str, Any]:
    given: dict[str, Any] = {"action": form.text("action")}
    if given["action"] == Action.CHANGE:
        typed = form.text("interval_minutes")
        minutes = whole_number(typed)
        which = "remove" if form.text("certificates") == "remove" else "add"
        given |= {
            "interval_minutes": minutes if minutes is not None else typed or None,
            "add_tags": form.tags("add_tags"),
            "remove_tags": form.tags("remove_tags"),
            f"{which}_certificates": form.ids("certificate_ids"),
        }
    if given["action"] == Action.ENABLE:
        chosen = form.text("start_from")
        if chosen == "since" and not form.text("since"):
            raise InvalidInput("Say since when.", field="since")
        given |= {
            "start_from": form.text("since") if chosen == "since" else chosen.removeprefix("all-"),
            "acknowledged": chosen == "all-everything" or chosen == "since",
        }
    return given


def _typed(form: PostedForm) -> Values:
    names = ("interval_minutes", "add_tags", "remove_tags", "certificates", "start_from", "since")
    return Values({n: form.text(n) for n in names} | {"ids": form.ids("certificate_ids")})


def _page(
    request: Request,
    action: str,
    ids: list[int],
    values: Values,
    *,
    outcomes: list[BulkOutcome] | None = None,
    error: InvalidInput | None = None,
) -> Response:
    chosen = Action(action) if action in set(Action) else Action.CHANGE
    ctx = context_of(request)
    chosen_here = chosen is Action.CHANGE and not ctx.principal.tags
    listed = search_certificates(ctx, per_page=_LISTED).items if chosen_here else ()
    return render(
        request,
        "connections/bulk.html",
        422 if error else 200,
        action=chosen.value,
        batch=_BATCH.get(chosen, 50),
        ids=ids,
        values=values,
        outcomes=outcomes or [],
        error=error,
        certificates=[one.certificate for one in listed],
        known_tags=own_tags(ctx, list(tags_in_use(ctx))) if chosen is Action.CHANGE else [],
    )
