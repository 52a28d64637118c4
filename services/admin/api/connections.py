"""`/api/v1/connections`."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response

from services.admin.api.route_parameters import (
    Ctx,
    EditingCtx,
    IdInPath,
    Limit,
    PageNumber,
    PerPage,
    SearchText,
    Tag,
    tag,
)
from services.admin.api.schemas.common import NamedOut, PageOut
from services.admin.api.schemas.connections import (
    AuthorisationOut,
    CertificateRef,
    ConnectionBody,
    ConnectionChanges,
    ConnectionOut,
    DayOut,
    DoctorIn,
    DoctorOut,
    EnableIn,
    EstimateIn,
    EstimateOut,
    FolderOut,
    RunOut,
    SavedOut,
    TestBody,
    TestChanges,
    TestOut,
    WarningOut,
)
from services.admin.auth.route_permissions import OPERATE_ON_PART, VIEW_PART
from services.admin.mail_server_work import run_in_mail_threads
from services.admin.operations import (
    connection_tests,
    connection_views,
    connections,
    doctor,
    drafts,
    enabling,
)
from services.admin.operations.connection_list import Filter, search_connections, tags_in_use
from services.admin.operations.connection_views import ConnectionView
from services.admin.operations.connections import Saved
from services.admin.problems import responses
from shared.connections import Health, Mode
from shared.errors import InvalidInput

router = APIRouter(prefix="/connections", tags=["connections"])


@router.get("", dependencies=[VIEW_PART], responses=responses())
def search(
    ctx: Ctx,
    q: SearchText = "",
    health: Health | None = None,
    mode: Mode | None = None,
    tag: Annotated[
        list[Tag] | None, Query(max_length=20, description="All of these are on it; repeat it")
    ] = None,
    handler: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="This handler takes it, by its id")
    ] = None,
    sort: Annotated[
        str,
        Query(
            description="name, host, username, mode, health, created, next_run, "
            "last_success; - in front turns it round"
        ),
    ] = "name",
    page: PageNumber = 1,
    per_page: PerPage = 50,
) -> PageOut[ConnectionOut]:
    """The list: `q` is a part of the name, description, host, username or a tag, whatever its case.
    `counts` says how many match per health, whatever `health` is asked for."""
    tags = tuple(one.casefold() for one in tag or ())
    wanted = Filter(q=q, health=health, mode=mode, tags=tags, handler_id=handler)
    found = search_connections(ctx, wanted, sort=sort, page=page, per_page=per_page)
    return PageOut(
        items=[to_out(view, full=False) for view in found.items],
        total=found.total,
        page=found.page,
        per_page=found.per_page,
        counts={str(key): count for key, count in found.counts.items()},
    )


@router.post("", dependencies=[OPERATE_ON_PART], status_code=201, responses=responses(409, 502))
async def create(request: Request, ctx: Ctx, body: ConnectionBody) -> SavedOut:
    """Adds a connection. It starts disabled, unless it says `enabled: true` and its new mails are
    acknowledged."""
    changes, acknowledged, start_from = split(body)
    saved = await run_in_mail_threads(
        request,
        lambda: connections.create_connection(
            ctx, changes, acknowledged=acknowledged, start_from=start_from
        ),
    )
    return _saved(saved)


@router.post("/test", dependencies=[OPERATE_ON_PART], responses=responses(404))
async def test_unsaved(
    request: Request,
    ctx: Ctx,
    body: TestBody,
    connection: Annotated[
        int | None,
        Query(ge=1, le=2**63 - 1, description="Test changes of this one, with its password"),
    ] = None,
) -> TestOut:
    """Tests a connection that is not saved (so). Changes nothing."""
    return _tested(
        await run_in_mail_threads(request, lambda: connection_tests.test(ctx, body, connection))
    )


@router.get("/tags", dependencies=[VIEW_PART], responses=responses())
def tags(ctx: Ctx) -> dict[str, int]:
    """Every tag, with how many connections have it."""
    return dict(tags_in_use(ctx))


@router.get("/{connection_id}", dependencies=[VIEW_PART], responses=responses(404))
def get(ctx: Ctx, response: Response, connection_id: IdInPath) -> ConnectionOut:
    """One connection with health, warnings, and who takes it. Contacts no mail server."""
    view = connection_views.get_connection(ctx, connection_id)
    tag(response, view.connection)
    return to_out(view)


@router.patch(
    "/{connection_id}", dependencies=[OPERATE_ON_PART], responses=responses(404, 409, 412, 502)
)
async def update(
    request: Request,
    ctx: EditingCtx,
    response: Response,
    connection_id: IdInPath,
    body: ConnectionChanges,
) -> SavedOut:
    """Changes the given fields. Where an enabled connection would then read other mails, or is
    enabled by it, the answer is `409` with the estimate until `acknowledged: true`."""
    changes, acknowledged, start_from = split(body)
    saved = await run_in_mail_threads(
        request,
        lambda: connections.update_connection(
            ctx, connection_id, changes, acknowledged=acknowledged, start_from=start_from
        ),
    )
    tag(response, saved.view.connection)
    return _saved(saved)


@router.delete(
    "/{connection_id}",
    dependencies=[OPERATE_ON_PART],
    status_code=204,
    responses=responses(404, 409, 412),
)
def delete(ctx: EditingCtx, connection_id: IdInPath) -> None:
    """Deletes a connection; its mails stay in the ledger until retention removes them."""
    connections.delete_connection(ctx, connection_id)


@router.post("/{connection_id}/test", dependencies=[OPERATE_ON_PART], responses=responses(404))
async def test_saved(
    request: Request,
    ctx: Ctx,
    connection_id: IdInPath,
    body: Annotated[TestChanges | None, Body()] = None,
) -> TestOut:
    """Tests a connection as it is, or as it would be after some changes. Changes nothing."""
    return _tested(
        await run_in_mail_threads(request, lambda: connection_tests.test(ctx, body, connection_id))
    )


@router.post(
    "/{connection_id}/doctor", dependencies=[OPERATE_ON_PART], responses=responses(404, 409, 502)
)
async def examine(
    request: Request,
    ctx: Ctx,
    connection_id: IdInPath,
    body: Annotated[DoctorIn | None, Body()] = None,
) -> DoctorOut:
    """Sends the mail server every form of request that a run may send, once, and says what it made
    of each. Changes nothing. Takes up to a minute."""
    record = body.record if body else False
    found = await run_in_mail_threads(
        request, lambda: doctor.examine_connection(ctx, connection_id, record=record)
    )
    return DoctorOut.model_validate(found)


@router.post(
    "/{connection_id}/estimate", dependencies=[OPERATE_ON_PART], responses=responses(404, 502)
)
async def estimate(
    request: Request,
    ctx: Ctx,
    connection_id: IdInPath,
    body: Annotated[EstimateIn | None, Body()] = None,
) -> EstimateOut:
    """Counts what enabling would download, within 20 seconds. Changes nothing."""
    start_from = body.start_from if body else None
    found = await run_in_mail_threads(
        request,
        lambda: enabling.estimate_connection(ctx, connection_id, start_from=start_from),
    )
    return EstimateOut.model_validate(found)


@router.post(
    "/{connection_id}/enable", dependencies=[OPERATE_ON_PART], responses=responses(404, 409, 502)
)
async def enable(
    request: Request,
    ctx: Ctx,
    connection_id: IdInPath,
    body: Annotated[EnableIn | None, Body()] = None,
) -> SavedOut:
    """Enables at once where nothing is new, else `409` with the estimate until it comes with
    `acknowledged: true`."""
    wanted = body or EnableIn()
    saved = await run_in_mail_threads(
        request,
        lambda: connections.enable_connection(
            ctx,
            connection_id,
            acknowledged=wanted.acknowledged,
            start_from=wanted.start_from,
        ),
    )
    return _saved(saved)


@router.post(
    "/{connection_id}/disable", dependencies=[OPERATE_ON_PART], responses=responses(404, 409)
)
def disable(ctx: Ctx, connection_id: IdInPath) -> SavedOut:
    """Stops fetching."""
    return _saved(connections.disable_connection(ctx, connection_id))


@router.post(
    "/{connection_id}/fetch",
    dependencies=[OPERATE_ON_PART],
    status_code=202,
    responses=responses(404, 409),
)
def fetch(ctx: Ctx, connection_id: IdInPath) -> dict[str, bool]:
    """Fetches as soon as possible."""
    connections.fetch_connection(ctx, connection_id)
    return {"due": True}


@router.get(
    "/{connection_id}/folders", dependencies=[OPERATE_ON_PART], responses=responses(404, 502)
)
async def folders(request: Request, ctx: Ctx, connection_id: IdInPath) -> list[FolderOut]:
    """The mailbox's folders as the server lists them now."""
    found = await run_in_mail_threads(request, lambda: drafts.folders(ctx, None, connection_id))
    return [FolderOut.model_validate(folder) for folder in found]


@router.post("/folders", dependencies=[OPERATE_ON_PART], responses=responses(404, 502))
async def folders_unsaved(
    request: Request,
    ctx: Ctx,
    body: TestBody,
    connection: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> list[FolderOut]:
    """The same for a connection that is not saved (so)."""
    found = await run_in_mail_threads(request, lambda: drafts.folders(ctx, body, connection))
    return [FolderOut.model_validate(folder) for folder in found]


@router.get("/{connection_id}/runs", dependencies=[VIEW_PART], responses=responses(404))
def runs(
    ctx: Ctx, connection_id: IdInPath, before: uuid.UUID | None = None, limit: Limit = 50
) -> list[RunOut]:
    """Runs that found something or failed, newest first; `before` continues after an id."""
    found = connection_views.runs_of_connection(ctx, connection_id, before=before, limit=limit)
    return [RunOut.model_validate(run) for run in found]


@router.get("/{connection_id}/days", dependencies=[VIEW_PART], responses=responses(404))
def days(
    ctx: Ctx, connection_id: IdInPath, days: Annotated[int, Query(ge=1, le=366)] = 30
) -> list[DayOut]:
    """Mails a day (UTC), today last."""
    found = connection_views.days_of_connection(ctx, connection_id, days=days)
    return [DayOut.model_validate(day) for day in found]


def to_out(view: ConnectionView, *, full: bool = True) -> ConnectionOut:
    """A connection as the API shows it."""
    return ConnectionOut.model_validate(_values(view, full=full))


def _values(view: ConnectionView, *, full: bool) -> dict[str, Any]:
    values: dict[str, Any] = dataclasses.asdict(view.connection) | dataclasses.asdict(view.status)
    if full:
        values["warnings"] = [WarningOut.model_validate(w) for w in view.warnings]
        values["handlers"] = [NamedOut.model_validate(h) for h in view.handlers]
        values["certificates"] = [CertificateRef.model_validate(c) for c in view.certificates]
        if view.authorisation:
            values["authorisation"] = AuthorisationOut.model_validate(view.authorisation)
    return values


def _saved(saved: Saved) -> SavedOut:
    counted = EstimateOut.model_validate(saved.estimate) if saved.estimate else None
    values = _values(saved.view, full=True)
    access = _tested(saved.access) if saved.access else None
    return SavedOut.model_validate(
        {**values, "notice": saved.notice, "estimate": counted, "access": access}
    )


def _tested(report: connection_tests.ConnectionTestReport) -> TestOut:
    return TestOut.model_validate(report)


def split(body: dict[str, Any]) -> tuple[dict[str, Any], bool, Any]:
    """Fields of the connection, and what is said about enabling it."""
    changes = dict(body)
    acknowledged = changes.pop("acknowledged", False)
    if not isinstance(acknowledged, bool):
        raise InvalidInput("'acknowledged' is true or false.", field="acknowledged")
    return changes, acknowledged, changes.pop("start_from", None)
