"""Whom signatures are trusted from: trust anchors, authorities' lists, keys of senders.

They are added and deleted on the page of the settings.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import ADMINISTER
from services.admin.operations import certificates, revocations, sender_keys
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form
from services.admin.pages.rendering import redirect
from services.admin.pages.request_context import context_of
from services.admin.pages.settings import page_with
from shared.errors import Conflict, InvalidInput

router = APIRouter(prefix="/settings")


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
        return page_with(request, error)
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
        return page_with(request, InvalidInput(str(error), field="list_file", hint=error.hint))
    except Conflict as error:
        return page_with(request, error)
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
        return page_with(request, named)
    except Conflict as error:
        return page_with(request, error)
    text = f"{counted(len(ids), 'sender is', 'senders are')} known from now on."
    return redirect("/settings", text)


@router.post("/sender-keys/{sender_id:int}/delete", dependencies=[ADMINISTER])
def delete_sender(request: Request, sender_id: int) -> Response:
    sender_keys.delete_sender_key(context_of(request), sender_id)
    return redirect("/settings", "Signatures of this sender no longer count by themselves.")
