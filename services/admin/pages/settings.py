"""Settings: where alerts go, whom signatures are trusted from, and how Posthouse is set up."""

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
    return _page(request)


@router.post("/webhooks", dependencies=[ADMINISTER])
def add_webhook(request: Request, form: Form) -> Response:
    try:
        changes = changes_of(form) | {"secret": form.text("secret")}
        made = webhooks.create_webhook(context_of(request), changes)
    except (InvalidInput, Conflict) as error:
        return _page(request, error, values_of(form))
    which = (
        "of every alert" if not made.kinds else f"of {counted(len(made.kinds), 'kind')} of alerts"
    )
    return redirect("/settings", f"{made.name} is told {which} from now on.")


@router.post("/trust-anchors", dependencies=[ADMINISTER])
def add_anchors(request: Request, form: Form) -> Response:
    data = form.files.get("file", b"")
    try:
        if not data:
            raise InvalidInput("Choose a file with the certificate.", field="file")
        ids = certificates.add_trust_anchors(
            context_of(request), data, name=form.text("anchor_name")
        )
    except (InvalidInput, Conflict) as error:
        return _page(request, error)
    text = f"{counted(len(ids), 'trust anchor counts', 'trust anchors count')} from now on."
    return redirect("/settings", text)


@router.post("/trust-anchors/{anchor_id:int}/delete", dependencies=[ADMINISTER])
def delete_anchor(request: Request, anchor_id: int) -> Response:
    certificates.delete_trust_anchor(context_of(request), anchor_id)
    return redirect("/settings", "Signatures are no longer trusted from this certificate.")


@router.post("/revocation-lists", dependencies=[ADMINISTER])
def add_list(request: Request, form: Form) -> Response:
    data = form.files.get("list_file", b"")
    try:
        if not data:
            raise InvalidInput("Choose a file with the authority's list.", field="list_file")
        revocations.add_revocation_list(context_of(request), data)
    except InvalidInput as error:
        return _page(request, InvalidInput(str(error), field="list_file", hint=error.hint))
    except Conflict as error:
        return _page(request, error)
    return redirect("/settings", "The list counts from now on.")


@router.post("/revocation-lists/{list_id:int}/delete", dependencies=[ADMINISTER])
def delete_list(request: Request, list_id: int) -> Response:
    revocations.delete_revocation_list(context_of(request), list_id)
    return redirect("/settings", "The list is forgotten; what it said stays known.")


@router.post("/sender-keys", dependencies=[ADMINISTER])
def add_senders(request: Request, form: Form) -> Response:
    data = form.files.get("sender_file", b"")
    try:
        if not data:
            raise InvalidInput("Choose a file with the sender's key.", field="file")
        ids = sender_keys.add_sender_keys(context_of(request), data, name=form.text("sender_name"))
    except InvalidInput as error:
        named = InvalidInput(str(error), field="sender_file", hint=error.hint)
        return _page(request, named)
    except Conflict as error:
        return _page(request, error)
    text = f"{counted(len(ids), 'sender is', 'senders are')} known from now on."
    return redirect("/settings", text)


@router.post("/sender-keys/{sender_id:int}/delete", dependencies=[ADMINISTER])
def delete_sender(request: Request, sender_id: int) -> Response:
    sender_keys.delete_sender_key(context_of(request), sender_id)
    return redirect("/settings", "Signatures of this sender no longer count by themselves.")


def _page(
    request: Request, error: PosthouseError | None = None, values: Values | None = None
) -> Response:
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
