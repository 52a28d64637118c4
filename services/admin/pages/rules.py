"""The rules of a handler: changed fact by fact, tried on past mails before they are saved.

Everything is a form that the server writes anew, so that it works without JavaScript, too.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import OPERATE
from services.admin.operations import handlers as handler_operations
from services.admin.operations import rules as operations
from services.admin.operations.handlers import HandlerView
from services.admin.operations.rules import DryRun
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form, list_start
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of, editing_context_of
from services.admin.pages.rule_form import (
    Written,
    changed,
    in_template,
    is_of_rules,
    of_form,
    of_rules,
    to_rules,
)
from shared.errors import ChangedMeanwhile, InvalidInput
from shared.input_fields import instant

router = APIRouter(prefix="/handlers")
#: Where a dragged handler was dropped.
_PLACE: Final = re.compile("[0-9]{1,4}")


@router.get("/{handler_id:int}/rules", dependencies=[OPERATE])
def edit(request: Request, handler_id: int) -> Response:
    view = handler_operations.get_handler(context_of(request), handler_id)
    return _form(request, view, of_rules(view.handler.rules))


@router.post("/{handler_id:int}/rules", dependencies=[OPERATE])
def change(request: Request, handler_id: int, form: Form) -> Response:
    """Tries, saves, or writes the form anew with a rule more or less."""
    ctx = editing_context_of(request, form)
    view = handler_operations.get_handler(ctx, handler_id)
    act = form.text("do")
    if is_of_rules(act):
        return _form(request, view, changed(form, act))
    written = of_form(form)
    changes = {"rules": to_rules(written)}
    try:
        if act == "try":
            return _form(request, view, written, tried=operations.dry_run(ctx, handler_id, changes))
        handler_operations.update_handler(ctx, handler_id, changes)
    except (InvalidInput, ChangedMeanwhile) as error:
        return _form(request, view, written, error=error)
    return redirect(
        f"/handlers/{handler_id}",
        "The rules are saved. They hold for mails from now on; nothing is delivered by that.",
    )


@router.post("/{handler_id:int}/deliver-since", dependencies=[OPERATE])
def deliver_since(request: Request, handler_id: int, form: Form) -> Response:
    back = f"/handlers/{handler_id}"
    try:
        since = instant("since", form.text("since"))
        before = list_start(form.text("before"))
        done = operations.deliver_since(context_of(request), handler_id, since, before=before)
    except InvalidInput as error:
        return redirect(back, f"{error} {error.hint}".strip(), "bad")
    text = f"{counted(done.count, 'mail is', 'mails are')} looked at once more."
    if done.next:
        rest = urlencode({"since": form.text("since"), "before": done.next})
        return redirect(f"{back}?{rest}#past-mails", f"{text} There are older ones.", "warn")
    return redirect(back, text)


@router.post("/{handler_id:int}/move", dependencies=[OPERATE])
def move(request: Request, handler_id: int, form: Form) -> Response:
    """One place up or down in its group, or to a place; goes back to the handler that was looked
    at."""
    back, to = form.ids("back"), form.text("to")
    try:
        moved = operations.move_handler(
            context_of(request),
            handler_id,
            int(to) if _PLACE.fullmatch(to) else "down" if to == "down" else "up",
        )
    except InvalidInput as error:
        return redirect(f"/handlers/{handler_id}", str(error), "bad")
    return redirect(f"/handlers/{back[0] if back else handler_id}", f"{moved.name} was moved.")


def _form(
    request: Request,
    view: HandlerView,
    written: Written,
    *,
    tried: DryRun | None = None,
    error: InvalidInput | ChangedMeanwhile | None = None,
) -> Response:
    return render(
        request,
        "handlers/rules.html",
        422 if error else 200,
        view=view,
        tried=tried,
        first_day=tried and tried.since.date(),
        error=error,
        **in_template(written),
    )
