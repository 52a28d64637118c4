"""Connections: the form with its test, and deleting them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import OPERATE_ON_PART
from services.admin.operations import connection_tests, connection_views, drafts, duplicating
from services.admin.operations import connections as operations
from services.admin.operations.enabling import AcknowledgementNeeded
from services.admin.operations.tag_rights import as_copied
from services.admin.pages.connection_form import (
    changes_of,
    form_context,
    new_values,
    typed_values,
    values_of,
    worded,
)
from services.admin.pages.forms import Form, PostedForm, Values
from services.admin.pages.rendering import Tone, redirect, render
from services.admin.pages.request_context import context_of, editing_context_of, is_part
from shared.errors import InvalidInput, NameTaken, PosthouseError

router = APIRouter(prefix="/connections")


@router.get("/new", dependencies=[OPERATE_ON_PART])
def new_connection(request: Request, mode: str = "", credential: str = "") -> Response:
    return _form(request, new_values(mode, credential))


@router.post("/new", dependencies=[OPERATE_ON_PART])
def add_connection(request: Request, form: Form) -> Response:
    if form.flag("switch"):
        return _form(request, typed_values(form))
    try:
        saved = operations.create_connection(context_of(request), changes_of(form))
    except (InvalidInput, NameTaken) as error:
        return _form(request, typed_values(form), error=error)
    connection = saved.view.connection
    return redirect(
        f"/connections/{connection.id}",
        f"{connection.name} is saved, and disabled. Enable it when you are ready. "
        f"{saved.notice}".strip(),
        _tone(saved),
    )


@router.get("/{connection_id:int}/edit", dependencies=[OPERATE_ON_PART])
def edit_connection(request: Request, connection_id: int) -> Response:
    view = connection_views.get_connection(context_of(request), connection_id)
    return _form(request, values_of(view.connection), connection_id)


@router.get("/{connection_id:int}/duplicate", dependencies=[OPERATE_ON_PART])
def duplicate_form(request: Request, connection_id: int) -> Response:
    ctx = context_of(request)
    source = connection_views.get_connection(ctx, connection_id).connection
    values = values_of(as_copied(ctx, source))
    values["name"] = f"{values['name'][:190]} (copy)"
    return _form(request, values, connection_id)


@router.post("/{connection_id:int}/duplicate", dependencies=[OPERATE_ON_PART])
def duplicate_connection(request: Request, connection_id: int, form: Form) -> Response:
    ctx = context_of(request)
    stored = connection_views.get_connection(ctx, connection_id).connection
    values = typed_values(
        form,
        has_password=stored.has_password,
        has_client_certificate=stored.has_client_certificate,
    )
    if form.flag("switch"):
        return _form(request, values, connection_id)
    try:
        made = duplicating.duplicate_connection(ctx, connection_id, changes_of(form))
    except (InvalidInput, NameTaken) as error:
        return _form(request, values, connection_id, error)
    connection = made.connection
    return redirect(
        f"/connections/{connection.id}",
        f"{connection.name} is saved, and disabled. Enable it when you are ready.",
    )


@router.post("/{connection_id:int}/edit", dependencies=[OPERATE_ON_PART])
def change_connection(request: Request, connection_id: int, form: Form) -> Response:
    ctx = editing_context_of(request, form)
    stored = connection_views.get_connection(ctx, connection_id).connection
    values = typed_values(
        form,
        has_password=stored.has_password,
        has_client_certificate=stored.has_client_certificate,
    )
    if form.flag("switch"):
        return _form(request, values, connection_id)
    try:
        saved = operations.update_connection(
            ctx,
            connection_id,
            changes_of(form),
            acknowledged=form.flag("acknowledged"),
            start_from=start_of(form),
        )
    except InvalidInput as error:
        return _form(request, values, connection_id, error)
    except AcknowledgementNeeded as needed:
        return _form(request, values, connection_id, needed=needed, typed=form)
    except PosthouseError as error:
        # The mail server refused while its mails were counted.
        return _form(request, values, connection_id, error)
    text = saved.notice or "Your changes are saved."
    return redirect(f"/connections/{connection_id}", text, _tone(saved))


@router.post("/test", dependencies=[OPERATE_ON_PART])
def test_unsaved(request: Request, form: Form) -> Response:
    return _test(request, form, None)


@router.post("/{connection_id:int}/edit/test", dependencies=[OPERATE_ON_PART])
def test_edited(request: Request, connection_id: int, form: Form) -> Response:
    return _test(request, form, connection_id)


@router.post("/folders", dependencies=[OPERATE_ON_PART])
def folders_of_unsaved(request: Request, form: Form) -> Response:
    return _folders(request, form, None)


@router.post("/{connection_id:int}/edit/folders", dependencies=[OPERATE_ON_PART])
def folders_of_edited(request: Request, connection_id: int, form: Form) -> Response:
    return _folders(request, form, connection_id)


@router.post("/{connection_id:int}/delete", dependencies=[OPERATE_ON_PART])
def delete_connection(request: Request, connection_id: int) -> Response:
    ctx = context_of(request)
    name = connection_views.get_connection(ctx, connection_id).connection.name
    operations.delete_connection(ctx, connection_id)
    return redirect("/connections", f"{name} is deleted. The mails it brought stay under Mails.")


def _tone(saved: operations.Saved) -> Tone:
    return "warn" if saved.access and not saved.access.ok else "good"


def start_of(form: PostedForm) -> str | None:
    """`everything`, `now`, or the date that was typed. Raises InvalidInput without one."""
    chosen = form.text("start_from") or "everything"
    if chosen != "since":
        return chosen
    if not form.text("since"):
        raise InvalidInput("Say since when.", field="since")
    return form.text("since")


def _test(request: Request, form: PostedForm, connection_id: int | None) -> Response:
    error: InvalidInput | None = None
    report = None
    try:
        report = connection_tests.test(context_of(request), changes_of(form), connection_id)
    except InvalidInput as invalid:
        error = worded(invalid)
    if is_part(request):
        return render(request, "connections/_test.html", report=report, error=error)
    return _form(request, typed_values(form), connection_id, error, report=report)


def _folders(request: Request, form: PostedForm, connection_id: int | None) -> Response:
    try:
        found = drafts.folders(context_of(request), changes_of(form), connection_id)
    except InvalidInput as error:
        return render(request, "connections/_folders.html", folders=[], error=worded(error))
    except PosthouseError as error:
        return render(request, "connections/_folders.html", folders=[], error=error)
    return render(request, "connections/_folders.html", folders=found, error=None)


def _form(
    request: Request,
    values: Values,
    connection_id: int | None = None,
    error: PosthouseError | None = None,
    *,
    report: connection_tests.ConnectionTestReport | None = None,
    needed: AcknowledgementNeeded | None = None,
    typed: PostedForm | None = None,
) -> Response:
    stored = None
    if connection_id is not None:
        stored = connection_views.get_connection(context_of(request), connection_id).connection
    if isinstance(error, InvalidInput):
        error = worded(error)
    return render(
        request,
        "connections/form.html",
        422 if error or needed else 200,
        connection_id=connection_id,
        name=stored.name if stored else "",
        stored=stored,
        error=error,
        report=report,
        needed=needed,
        start_from=typed.text("start_from") if typed else "",
        since=typed.text("since") if typed else "",
        **form_context(request, values, stored),
    )
