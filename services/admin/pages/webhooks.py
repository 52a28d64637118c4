"""A webhook that alerts go to: its page, where it is changed, muted, tested and deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import ADMINISTER
from services.admin.operations import webhooks
from services.admin.pages.forms import Form, PostedForm, Values
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of, editing_context_of
from shared.alerts.kinds import CHOICES
from shared.alerts.raised import Template
from shared.clock import utc_now
from shared.errors import Conflict, InvalidInput, PosthouseError

router = APIRouter(prefix="/settings/webhooks/{webhook_id:int}")
TEMPLATES: Final = (
    (Template.JSON, "CloudEvents JSON, for a program"),
    (Template.SLACK, "Slack"),
    (Template.TEAMS, "Microsoft Teams"),
    (Template.OPSGENIE, "OpsGenie"),
)
#: What is ticked in a form, in its order.
KINDS: Final = tuple(CHOICES.items())
_MUTE_HOURS: Final = (
    ("1", "an hour"),
    ("4", "4 hours"),
    ("12", "12 hours"),
    ("24", "a day"),
    ("168", "a week"),
)


def changes_of(form: PostedForm) -> dict[str, Any]:
    """What a webhook's form says of every field but its secret. Every kind ticked: all there are
    and will be."""
    kinds = form.many("kinds")
    if not kinds:
        raise InvalidInput("Tick at least one kind of alert.", field="kinds")
    return {
        "name": form.text("name"),
        "url": form.text("url"),
        "template": form.text("template"),
        "kinds": [] if set(kinds) == set(CHOICES) else kinds,
    }


def values_of(form: PostedForm) -> Values:
    """What was typed, but for secrets."""
    return Values(name=form.text("name"), template=form.text("template"), kinds=form.many("kinds"))


@router.get("", dependencies=[ADMINISTER])
def page(request: Request, webhook_id: int) -> Response:
    return _page(request, webhook_id)


@router.post("", dependencies=[ADMINISTER])
def change(request: Request, webhook_id: int, form: Form) -> Response:
    secret = "" if form.flag("no_secret") else form.text("secret") or None
    try:
        changes = changes_of(form) | {"secret": secret}
        hook = webhooks.update_webhook(editing_context_of(request, form), webhook_id, changes)
    except (InvalidInput, Conflict) as error:
        return _page(request, webhook_id, error, values_of(form))
    return redirect("/settings", f"{hook.name} is changed.")


@router.post("/switch", dependencies=[ADMINISTER])
def switch(request: Request, webhook_id: int, form: Form) -> Response:
    enabled = form.text("enabled") == "yes"
    hook = webhooks.update_webhook(context_of(request), webhook_id, {"enabled": enabled})
    return redirect("/settings", f"{hook.name} is {'enabled' if enabled else 'disabled'}.")


@router.post("/mute", dependencies=[ADMINISTER])
def mute(request: Request, webhook_id: int, form: Form) -> Response:
    hours = next((int(value) for value, _ in _MUTE_HOURS if value == form.text("hours")), 0)
    until = utc_now() + timedelta(hours=hours) if hours else None
    hook = webhooks.update_webhook(context_of(request), webhook_id, {"muted_until": until})
    if until is None:
        return redirect("/settings", f"{hook.name} is told of alerts again.")
    return redirect("/settings", f"{hook.name} is told nothing until {until:%Y-%m-%d %H:%M} UTC.")


@router.post("/test", dependencies=[ADMINISTER])
def send_test(request: Request, webhook_id: int) -> Response:
    try:
        hook = webhooks.test_webhook(context_of(request), webhook_id)
    except InvalidInput as error:
        return redirect("/settings", f"{error} {error.hint}".strip(), "bad")
    return redirect("/settings", f"A test is on its way to {hook.name}. Below is how that went.")


@router.post("/delete", dependencies=[ADMINISTER])
def delete(request: Request, webhook_id: int) -> Response:
    hook = webhooks.delete_webhook(context_of(request), webhook_id)
    return redirect("/settings", f"{hook.name} is deleted.")


def _page(
    request: Request,
    webhook_id: int,
    error: PosthouseError | None = None,
    values: Values | None = None,
) -> Response:
    hook = webhooks.get_webhook(context_of(request), webhook_id)
    shown = Values(name=hook.name, template=hook.template, kinds=hook.kinds or tuple(CHOICES))
    return render(
        request,
        "webhook.html",
        422 if error else 200,
        hook=hook,
        values=shown if values is None else values,
        templates=TEMPLATES,
        kinds=KINDS,
        mute_hours=_MUTE_HOURS,
        error=error,
    )
