"""Settings: where alerts go, and how Posthouse is set up. `trust`: whose signatures count."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import ADMINISTER
from services.admin.operations import certificates, revocations, sender_keys, webhooks
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form, Values
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of, settings_of
from services.admin.pages.webhooks import KINDS, TEMPLATES, changes_of, values_of
from shared.alerts.kinds import CHOICES
from shared.alerts.raised import Template
from shared.clock import utc_now
from shared.errors import Conflict, InvalidInput, PosthouseError

router = APIRouter(prefix="/settings")


@router.get("", dependencies=[ADMINISTER])
def page(request: Request) -> Response:
    return page_with(request)


@router.post("/webhooks", dependencies=[ADMINISTER])
def add_webhook(request: Request, form: Form) -> Response:
    try:
        changes = changes_of(form) | {"secret": form.text("secret")}
        made = webhooks.create_webhook(context_of(request), changes)
    except (InvalidInput, Conflict) as error:
        return page_with(request, error, values_of(form))
    which = (
        "of every alert" if not made.kinds else f"of {counted(len(made.kinds), 'kind')} of alerts"
    )
    return redirect("/settings", f"{made.name} is told {which} from now on.")


def page_with(
    request: Request, error: PosthouseError | None = None, values: Values | None = None
) -> Response:
    """The page, with what was refused and what was typed (422)."""
    ctx, settings = context_of(request), settings_of(request)
    return render(
        request,
        "settings.html",
        422 if error else 200,
        webhooks=webhooks.list_webhooks(ctx),
        log=webhooks.alert_log(ctx),
        anchors=certificates.list_trust_anchors(ctx),
        senders=sender_keys.list_sender_keys(ctx),
        revocation_lists=revocations.list_revocation_lists(ctx),
        known_revocations=revocations.known_revocations(ctx),
        templates=TEMPLATES,
        kinds=KINDS,
        values=Values(template=Template.JSON, kinds=tuple(CHOICES)) if values is None else values,
        error=error,
        settings=settings,
        now=utc_now(),
    )
