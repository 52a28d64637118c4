"""Connections: the list, the form with its test, and taking them away."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.operations import connection_tests, connection_views, drafts
from services.admin.operations import connections as operations
from services.admin.operations.enabling import AcknowledgementNeeded
from services.admin.pages.connection_form import (
    changes_of,
    form_context,
    new_values,
    typed_values,
    values_of,
    worded,
)
from services.admin.pages.posted import Form, Posted, Values
from services.admin.pages.rendering import Tone, go, render
from services.admin.pages.state import context_of, is_part
from services.admin.people.authorization import LOOK, OPERATE
from shared.connections import Health
from shared.errors import InvalidInput, NameTaken, PosthouseError

router = APIRouter(prefix="/connections")
_PICKED = 20
_COLUMNS = (
    ("name", "Name"),
    ("health", "State"),
    ("username", "Mailbox"),
    ("last_success", "Last success"),
    ("next_run", "Next run"),
)


@router.get("", dependencies=[LOOK])
def list_connections(
    request: Request, q: str = "", health: str = "", sort: str = "name", page: str = "1"
) -> Response:
    chosen = Health(health) if health in set(Health) else None
    number = int(page) if page.isdecimal() and page.isascii() else 1
    ctx = context_of(request)
    try:
        found = connection_views.search_connections(
            ctx, q=q, health=chosen, sort=sort, page=max(1, number)
        )
    except InvalidInput:
        sort = "name"
        found = connection_views.search_connections(ctx, q=q, health=chosen, page=max(1, number))

    if found.total and found.page > found.pages:
        # The list was longer when the link was made.
        found = connection_views.search_connections(
            ctx, q=q, health=chosen, sort=sort, page=found.pages
        )

    def link(**changes: str | int) -> str:
        query = {"q": q, "health": health, "sort": sort, "page": found.page} | changes
        kept = {
            n: v for n, v in query.items() if v and (n, v) not in (("sort", "name"), ("page", 1))
        }
        return "/connections" + (f"?{urlencode(kept)}" if kept else "")

    template = "connections/_list.html" if is_part(request) else "connections/list.html"
    return render(
        request,
        template,
        found=found,
        q=q,
        health=health,
        sort=sort,
        link=link,
        columns=_COLUMNS,
        every=sum(found.counts.values()),
    )


@router.get("/pick", dependencies=[LOOK])
def pick(request: Request, q: str = "") -> Response:
    """The options of the picker in the handler's form."""
    found = connection_views.search_connections(context_of(request), q=q, per_page=_PICKED)
    return render(request, "connections/_pick.html", found=found)


@router.get("/new", dependencies=[OPERATE])
def new_connection(request: Request, mode: str = "", credential: str = "") -> Response:
    return _form(request, new_values(mode, credential))


@router.post("/new", dependencies=[OPERATE])
def add_connection(request: Request, form: Form) -> Response:
    if form.flag("switch"):
        return _form(request, typed_values(form))
    try:
        saved = operations.create_connection(context_of(request), changes_of(form))
    except (InvalidInput, NameTaken) as error:
        return _form(request, typed_values(form), error=error)
    connection = saved.view.connection
    return go(
        f"/connections/{connection.id}",
        f"{connection.name} is saved, and disabled. Enable it when you are ready. "
        f"{saved.notice}".strip(),
        _tone(saved),
    )


@router.get("/{connection_id:int}/edit", dependencies=[OPERATE])
def edit_connection(request: Request, connection_id: int) -> Response:
    view = connection_views.get_connection(context_of(request), connection_id)
    return _form(request, values_of(view.connection), connection_id)


@router.post("/{connection_id:int}/edit", dependencies=[OPERATE])
def change_connection(request: Request, connection_id: int, form: Form) -> Response:
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
    return go(f"/connections/{connection_id}", text, _tone(saved))


@router.post("/test", dependencies=[OPERATE])
def test_unsaved(request: Request, form: Form) -> Response:
    return _test(request, form, None)


@router.post("/{connection_id:int}/edit/test", dependencies=[OPERATE])
def test_edited(request: Request, connection_id: int, form: Form) -> Response:
    return _test(request, form, connection_id)


@router.post("/folders", dependencies=[OPERATE])
def folders_of_unsaved(request: Request, form: Form) -> Response:
    return _folders(request, form, None)


@router.post("/{connection_id:int}/edit/folders", dependencies=[OPERATE])
def folders_of_edited(request: Request, connection_id: int, form: Form) -> Response:
    return _folders(request, form, connection_id)


@router.post("/{connection_id:int}/delete", dependencies=[OPERATE])
def delete_connection(request: Request, connection_id: int) -> Response:
    ctx = context_of(request)
    name = connection_views.get_connection(ctx, connection_id).connection.name
    operations.delete_connection(ctx, connection_id)
    return go("/connections", f"{name} is deleted. The mails it brought stay under Mails.")


def _tone(saved: operations.Saved) -> Tone:
    return "warn" if saved.access and not saved.access.ok else "good"


def start_of(form: Posted) -> str | None:
    """`everything`, `now`, or the date that was typed. Raises InvalidInput without one."""
    chosen = form.text("start_from") or "everything"
    if chosen != "since":
        return chosen
    if not form.text("since"):
        raise InvalidInput("Say since when.", field="since")
    return form.text("since")


def _test(request: Request, form: Posted, connection_id: int | None) -> Response:
    error: InvalidInput | None = None
    report = None
    try:
        report = connection_tests.test(context_of(request), changes_of(form), connection_id)
    except InvalidInput as invalid:
        error = worded(invalid)
    if is_part(request):
        return render(request, "connections/_test.html", report=report, error=error)
    return _form(request, typed_values(form), connection_id, error, report=report)


def _folders(request: Request, form: Posted, connection_id: int | None) -> Response:
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
    report: connection_tests.TestReport | None = None,
    needed: AcknowledgementNeeded | None = None,
    typed: Posted | None = None,
) -> Response:
    name = ""
    if connection_id is not None:
        name = connection_views.get_connection(context_of(request), connection_id).connection.name
    if isinstance(error, InvalidInput):
        error = worded(error)
    return render(
        request,
        "connections/form.html",
        422 if error or needed else 200,
        connection_id=connection_id,
        name=name,
        error=error,
        report=report,
        needed=needed,
        start_from=typed.text("start_from") if typed else "",
        since=typed.text("since") if typed else "",
        **form_context(request, values),
    )
