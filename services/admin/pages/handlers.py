"""Handlers: who takes which mails, what waits for them, and how a program subscribes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import OPERATE, VIEW
from services.admin.operations import connection_views, dead_letters, forwards
from services.admin.operations import handlers as operations
from services.admin.operations import rules as rule_operations
from services.admin.operations.connection_list import search_connections
from services.admin.operations.connection_views import ConnectionView
from services.admin.operations.dead_letters import DeadLetters
from services.admin.operations.handlers import HandlerView
from services.admin.operations.rules import DryRun
from services.admin.pages import rule_form
from services.admin.pages.consumer_examples import snippets
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form, PostedForm, Values, whole_number
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of, editing_context_of, settings_of
from services.admin.pages.rule_form import NOTHING, Written
from shared.errors import (
    ChangedMeanwhile,
    Conflict,
    InvalidInput,
    NameTaken,
    NeedsPerson,
    PosthouseError,
    TryAgain,
)
from shared.handlers import ALL
from shared.input_fields import instant
from shared.people import Permission
from shared.queueing.output import DeadChoice

router = APIRouter(prefix="/handlers")
_LISTED = 500


@router.get("", dependencies=[VIEW])
def list_handlers(request: Request) -> Response:
    return render(
        request, "handlers/list.html", found=operations.search_handlers(context_of(request))
    )


@router.get("/new", dependencies=[OPERATE])
def new_handler(request: Request) -> Response:
    return _form(request, Values(enabled=True, connections=ALL))


@router.post("/new", dependencies=[OPERATE])
def create(request: Request, form: Form) -> Response:
    if rule_form.is_of_rules(act := form.text("do")):
        return _form(request, _typed(form), written=rule_form.changed(form, act))
    written = rule_form.of_form(form)
    changes = _changes(form) | {"rules": rule_form.to_rules(written)}
    try:
        view = operations.create_handler(context_of(request), changes)
    except (InvalidInput, NameTaken) as error:
        return _form(request, _typed(form), error=error, written=written)
    return _detail(request, view)


@router.get("/{handler_id:int}", dependencies=[VIEW])
def detail(request: Request, handler_id: int) -> Response:
    return _detail(request, operations.get_handler(context_of(request), handler_id))


@router.get("/{handler_id:int}/live", dependencies=[VIEW])
def live(request: Request, handler_id: int) -> Response:
    view = operations.get_handler(context_of(request), handler_id)
    work = operations.work_in_hand(context_of(request), handler_id)
    return render(request, "handlers/_state.html", view=view, work=work)


@router.get("/{handler_id:int}/edit", dependencies=[OPERATE])
def edit(request: Request, handler_id: int) -> Response:
    view = operations.get_handler(context_of(request), handler_id)
    handler = view.handler
    values = Values(
        name=handler.name,
        description=handler.description,
        enabled=handler.enabled,
        connections=ALL if handler.connection_ids is None else "chosen",
        ids=handler.connection_ids or (),
        group=handler.group,
        position=handler.position,
    )
    return _form(request, values, view)


@router.post("/{handler_id:int}/edit", dependencies=[OPERATE])
def change(request: Request, handler_id: int, form: Form) -> Response:
    ctx = editing_context_of(request, form)
    view = operations.get_handler(ctx, handler_id)
    changes = _changes(form)
    del changes["name"]
    try:
        operations.update_handler(ctx, handler_id, changes)
    except (InvalidInput, ChangedMeanwhile) as error:
        return _form(request, _typed(form), view, error)
    return redirect(f"/handlers/{handler_id}", "Your changes are saved.")


@router.post("/{handler_id:int}/token", dependencies=[OPERATE])
def renew_token(request: Request, handler_id: int) -> Response:
    return _detail(request, operations.renew_token(context_of(request), handler_id))


@router.post("/{handler_id:int}/signing-key", dependencies=[OPERATE])
def renew_signing_key(request: Request, handler_id: int) -> Response:
    return _detail(request, operations.renew_signing_key(context_of(request), handler_id))


@router.post("/{handler_id:int}/signing-key/end-former", dependencies=[OPERATE])
def end_former_signing_key(request: Request, handler_id: int) -> Response:
    operations.end_former_signing_key(context_of(request), handler_id)
    return redirect(f"/handlers/{handler_id}", "The former signing key has ended.")


@router.post("/{handler_id:int}/delete", dependencies=[OPERATE])
def delete(request: Request, handler_id: int, form: Form) -> Response:
    ctx = context_of(request)
    view = operations.get_handler(ctx, handler_id)
    try:
        operations.delete_handler(ctx, handler_id, force=form.flag("force"))
    except Conflict as error:
        return _detail(request, view, error)
    return redirect("/handlers", f"{view.handler.name} is deleted.")


@router.get("/{handler_id:int}/dead-letters", dependencies=[VIEW])
def rejected(request: Request, handler_id: int, event: str = "") -> Response:
    """What the program rejected, asked of the broker: the one page of a handler that waits."""
    ctx = context_of(request)
    view = operations.get_handler(ctx, handler_id)
    found = DeadLetters((), ())
    error = None
    try:
        found = dead_letters.list_dead_letters(ctx, handler_id)
    except (TryAgain, NeedsPerson) as failure:
        error = failure
    return render(
        request,
        "handlers/dead_letters.html",
        503 if error else 200,
        view=view,
        found=found.listed,
        reasons=found.reasons,
        marked=event,
        error=error,
    )


@router.post("/{handler_id:int}/dead-letters", dependencies=[OPERATE])
def act_on_dead_letters(request: Request, handler_id: int, form: Form) -> Response:
    """Delivers again, or discards, the ticked ones, all, or those with one reason."""
    what, _, which = form.text("do").partition("-")
    back = f"/handlers/{handler_id}/dead-letters"
    if what not in {"deliver", "discard"} or which not in {"ticked", "all", "reason"}:
        return redirect(
            back, "Nothing was done: the form does not say what to do with which.", "bad"
        )
    ids = form.many("id") if which == "ticked" else None
    if ids == []:
        return redirect(back, "Tick the mails first.", "warn")
    chosen = DeadChoice(ids, form.raw("reason") if which == "reason" else None)
    ctx = context_of(request)
    try:
        if what == "discard":
            done = dead_letters.discard_dead_letters(ctx, handler_id, chosen)
            return redirect(
                back, f"{counted(done, 'dead letter is', 'dead letters are')} discarded."
            )
        done = dead_letters.deliver_dead_letters_again(ctx, handler_id, chosen)
    except (TryAgain, NeedsPerson) as error:
        return redirect(back, f"{error} {error.hint}".strip(), "bad")
    return redirect(back, f"{counted(done, 'mail is', 'mails are')} in the queue again.")


def _detail(request: Request, view: HandlerView, error: PosthouseError | None = None) -> Response:
    ids = view.handler.connection_ids
    chosen: Sequence[ConnectionView] = ()
    if ids:
        chosen = connection_views.connections_of(context_of(request), ids[:_LISTED])
    return render(
        request,
        "handlers/detail.html",
        409 if error else 200,
        view=view,
        chosen=chosen,
        work=operations.work_in_hand(context_of(request), view.handler.id),
        newest=next(iter(forwards.attempts(context_of(request), view.handler.id, limit=1)), None)
        if view.forward
        else None,
        group=rule_operations.group_of(context_of(request), view.handler),
        snippets=snippets(view, settings_of(request)),
        first_day=rule_operations.first_day().date(),
        past=_past_mails(request, view),
        error=error,
    )


def _past_mails(request: Request, view: HandlerView) -> DryRun | None:
    """What delivering past mails would come to, where somebody chose a day to look from."""
    ctx, since = context_of(request), request.query_params.get("since", "")
    is_next = "before" in request.query_params
    if not since or is_next or not view.handler.enabled:
        return None
    if not ctx.principal.may(Permission.OPERATE):
        return None
    try:
        day = instant("since", since)
        return rule_operations.dry_run(ctx, view.handler.id, {}, since=day, listed=0)
    except InvalidInput:
        return None


def _form(
    request: Request,
    values: Values,
    view: HandlerView | None = None,
    error: PosthouseError | None = None,
    *,
    written: Written = NOTHING,
) -> Response:
    """`written`: the rules of a handler that is still to be added; others have a page of theirs."""
    ctx = context_of(request)
    first = search_connections(ctx, per_page=_LISTED)
    chosen = connection_views.connections_of(ctx, values["ids"] or ())
    # What is ticked stays ticked, however many there are beyond the first.
    listed = {one.connection.id: one.connection for one in chosen}
    listed |= {item.connection.id: item.connection for item in first.items}
    return render(
        request,
        "handlers/form.html",
        422 if error else 200,
        view=view,
        values=values,
        error=error,
        listed=sorted(listed.values(), key=lambda one: one.name.casefold()),
        unlisted=max(0, first.total - len(listed)),
        has_rules=any(written),
        **rule_form.in_template(written),
    )


def _changes(form: PostedForm) -> dict[str, Any]:
    chosen = form.text("connections") == "chosen"
    return {
        "name": form.text("name"),
        "description": form.text("description"),
        "enabled": form.flag("enabled"),
        "connections": form.ids("ids") if chosen else ALL,
        "group": form.text("group"),
        "position": _whole(form.text("position")),
    }


def _whole(typed: str) -> Any:
    """A number where it is one; the operations say what is wrong with anything else."""
    number = whole_number(typed or "0")
    return typed if number is None else number


def _typed(form: PostedForm) -> Values:
    names = ("name", "description", "connections", "group", "position")
    values = Values({n: form.text(n) for n in names})
    values["enabled"] = form.flag("enabled")
    values["ids"] = form.ids("ids")
    return values
