"""A handler's forward: where its events go, a test, the delivery log, pause and resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import OPERATE
from services.admin.operations import forwards as operations
from services.admin.operations import handlers
from services.admin.pages.forms import Form, PostedForm, Values, whole_number
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of
from shared.errors import InvalidInput, PosthouseError
from shared.forward_kinds import CREDENTIAL_NAMES, KINDS, ForwardProtocol
from shared.forwarding.outcome import ForwardOutcome, ForwardVerdict
from shared.forwards import (
    Format,
    Forward,
    ForwardOptions,
    ForwardOrder,
    Links,
    RecordKey,
    SaslMechanism,
)

router = APIRouter(prefix="/handlers")
_LINES: Final = 50
_CHOICES: Final = ("format", "links", "order")
_SPECIAL: Final = ("subject", "topic", "key", "sasl_mechanism")
#: What may be chosen, with the words for it.
_OPTIONS: Final[Mapping[str, list[tuple[str, str]]]] = {
    "formats": [
        (Format.STRUCTURED, "Structured: all in the body"),
        (Format.BINARY, "Binary: attributes in header fields"),
    ],
    "orders": [
        (ForwardOrder.NONE, "None: mails may overtake each other"),
        (ForwardOrder.CONNECTION, "Of each connection, in order"),
    ],
    "keys": [
        (RecordKey.CONNECTION, "The connection"),
        (RecordKey.THREAD, "The thread of the mail"),
    ],
    "mechanisms": [(one, one.value) for one in SaslMechanism],
    "links": [
        (Links.TOKEN, "The handler's token"),
        (Links.SIGNED, "Its address alone, for a day"),
    ],
}
_NUMBERS: Final = ("timeout_seconds", "concurrency", "retry_for_hours", "max_bytes")


# An answer in the log may quote what was posted, which is the content of a mail.
@router.get("/{handler_id:int}/forward", dependencies=[OPERATE])
def show(request: Request, handler_id: int, kind: ForwardProtocol | None = None) -> Response:
    """`kind`: shows the fields of another kind than it has."""
    return _page(request, handler_id, kind=kind)


@router.post("/{handler_id:int}/forward", dependencies=[OPERATE])
def save(request: Request, handler_id: int, form: Form) -> Response:
    """Saves, or sends a test event to what is typed and saves nothing."""
    ctx = context_of(request)
    changes = _changes(form)
    try:
        if form.text("do") == "test":
            tested = operations.send_test(ctx, handler_id, changes)
            return _page(request, handler_id, typed=form, tested=tested)
        view = handlers.update_handler(ctx, handler_id, {"forward": changes})
    except PosthouseError as error:
        return _page(request, handler_id, typed=form, error=error)
    if view.forward_secret:
        return _page(request, handler_id, secret=view.forward_secret)
    return redirect(f"/handlers/{handler_id}/forward", "Your changes are saved.")


@router.post("/{handler_id:int}/forward/end", dependencies=[OPERATE])
def end(request: Request, handler_id: int) -> Response:
    handlers.update_handler(context_of(request), handler_id, {"forward": None})
    return redirect(f"/handlers/{handler_id}", "Its events stay in its queue from now on.")


@router.post("/{handler_id:int}/forward/pause", dependencies=[OPERATE])
def pause(request: Request, handler_id: int) -> Response:
    operations.pause(context_of(request), handler_id)
    return redirect(f"/handlers/{handler_id}/forward", "Nothing is sent until you resume it.")


@router.post("/{handler_id:int}/forward/resume", dependencies=[OPERATE])
def resume(request: Request, handler_id: int) -> Response:
    operations.resume(context_of(request), handler_id)
    return redirect(f"/handlers/{handler_id}/forward", "What waits is sent now.")


@router.post("/{handler_id:int}/forward/secret", dependencies=[OPERATE])
def renew_secret(request: Request, handler_id: int) -> Response:
    secret = operations.renew_secret(context_of(request), handler_id)
    return _page(request, handler_id, secret=secret)


@router.post("/{handler_id:int}/forward/secret/end-former", dependencies=[OPERATE])
def end_former_secret(request: Request, handler_id: int) -> Response:
    operations.end_former_secret(context_of(request), handler_id)
    return redirect(f"/handlers/{handler_id}/forward", "The former secret has ended.")


def _page(
    request: Request,
    handler_id: int,
    *,
    kind: ForwardProtocol | None = None,
    typed: PostedForm | None = None,
    tested: ForwardOutcome | None = None,
    secret: str = "",
    error: PosthouseError | None = None,
) -> Response:
    ctx = context_of(request)
    view = handlers.get_handler(ctx, handler_id)
    values = _stored(view.forward) if typed is None else _typed(typed)
    if typed is not None and typed.text("kind") in list(ForwardProtocol):
        kind = ForwardProtocol(typed.text("kind"))
    chosen = KINDS[kind or (view.forward.kind if view.forward else ForwardProtocol.HTTP)]
    if isinstance(error, InvalidInput):
        error.field = error.field.removeprefix("forward.")
        if error.field == "retry_for_seconds":
            error.field = "retry_for_hours"
    return render(
        request,
        "handlers/forward.html",
        422 if error else 200,
        view=view,
        values=values,
        kinds=list(KINDS.values()),
        chosen=chosen,
        is_other=view.forward is not None and view.forward.kind is not chosen.kind,
        tested=tested,
        taken=tested is not None and tested.verdict is ForwardVerdict.DELIVERED,
        secret=secret,
        attempts=operations.attempts(ctx, handler_id, limit=_LINES),
        **_OPTIONS,
        error=error,
    )


def _stored(forward: Forward | None) -> Values:
    options = forward.options if forward else ForwardOptions()
    return Values(
        options.to_json() | {"retry_for_hours": max(1, options.retry_for_seconds // 3600)}
    )


def _typed(form: PostedForm) -> Values:
    names = ("address", *_CHOICES, "ca_certificate", *_SPECIAL, *_NUMBERS)
    return Values({name: form.text(name) for name in names})


def _changes(form: PostedForm) -> dict[str, Any]:
    """As the API takes them. A secret that is left empty stays as it is."""
    changes: dict[str, Any] = {name: form.text(name) for name in (*_CHOICES, "ca_certificate")}
    kind = form.text("kind")
    if kind:
        changes["kind"] = kind
    if kind in list(ForwardProtocol):
        changes |= {name: form.text(name) for name in KINDS[ForwardProtocol(kind)].options}
    login = {name: form.raw(f"credential_{name}") for name in CREDENTIAL_NAMES}
    if any(login.values()):
        changes["credentials"] = {name: text for name, text in login.items() if text}
    elif form.flag("no_credentials"):
        changes["credentials"] = {}
    for name in _NUMBERS:
        text = form.text(name)
        number = whole_number(text)
        changes[name] = text if number is None else number
    hours = changes.pop("retry_for_hours")
    changes["retry_for_seconds"] = hours * 3600 if isinstance(hours, int) else hours
    for name in ("address", "secret"):
        if form.text(name):
            changes[name] = form.text(name)
    if form.text("header_name"):
        changes["headers"] = {form.text("header_name"): form.raw("header_value")}
    elif form.flag("no_headers"):
        changes["headers"] = {}
    if form.text("client_certificate"):
        changes["client_certificate"] = form.raw("client_certificate")
    elif form.flag("no_client_certificate"):
        changes["client_certificate"] = ""
    return changes
