"""`/api/v1/connections`: many at once, and copies."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from services.admin.api.connections import split, to_out
from services.admin.api.route_parameters import Ctx, IdInPath, SearchText, Tag
from services.admin.api.schemas.bulk import (
    BulkBody,
    BulkOut,
    DuplicateBody,
    IdsOut,
    ManyBody,
    ManyOut,
    OutcomeOut,
    SavingOut,
)
from services.admin.api.schemas.connections import ConnectionOut
from services.admin.auth.route_permissions import OPERATE_ON_PART, VIEW_PART
from services.admin.mail_server_work import run_in_mail_threads
from services.admin.operations import bulk, bulk_saving, duplicating
from services.admin.operations.connection_list import Filter, ids_matching
from services.admin.problems import problem_body, responses
from shared import input_fields as typed
from shared.connections import Health, Mode
from shared.errors import InvalidInput

router = APIRouter(prefix="/connections", tags=["connections"])


def filter_of(
    q: SearchText = "",
    health: Health | None = None,
    mode: Mode | None = None,
    tag: Annotated[list[Tag] | None, Query(max_length=20)] = None,
    handler: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Filter:
    """As in the list."""
    tags = tuple(one.casefold() for one in tag or ())
    return Filter(q=q, health=health, mode=mode, tags=tags, handler_id=handler)


@router.get("/ids", dependencies=[VIEW_PART], responses=responses())
def ids(ctx: Ctx, wanted: Annotated[Filter, Depends(filter_of)]) -> IdsOut:
    """The ids of all that the filters of the list match, by name: to be given to `bulk`."""
    return IdsOut(ids=ids_matching(ctx, wanted))


@router.post("/bulk", dependencies=[OPERATE_ON_PART], responses=responses())
async def change_many(request: Request, ctx: Ctx, body: BulkBody) -> BulkOut:
    """One change to up to 100 connections, with an outcome for each: what fails keeps no other from
    being done. Call it again for the next ones. Tests and estimates ask the mail servers, eight at
    a time: give fewer of them a call."""
    wanted = bulk.bulk_of(body)
    chosen = typed.ids("ids", body.get("ids"))
    if not 1 <= len(chosen) <= bulk.MOST:
        raise InvalidInput(f"Give 1 to {bulk.MOST} ids.", field="ids")
    found = await run_in_mail_threads(request, lambda: bulk.change_many(ctx, chosen, wanted))
    return BulkOut(items=[OutcomeOut.model_validate(one) for one in found])


@router.post("/many", dependencies=[OPERATE_ON_PART], responses=responses())
async def save_many(request: Request, ctx: Ctx, body: ManyBody) -> ManyOut:
    """Adds and changes up to 100 connections, with an outcome for each in the order given: what
    fails keeps no other from being saved. Each is checked as one that is added or changed alone;
    one with an `id` is changed."""
    items = body.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= bulk_saving.MOST:
        raise InvalidInput(f"Give 1 to {bulk_saving.MOST} connections.", field="items")
    if not all(isinstance(one, dict) for one in items):
        raise InvalidInput("Each of the items is an object.", field="items")
    odd = sorted(body.keys() - {"items"})
    if odd:
        raise InvalidInput(f"There is no field {odd[0]!r}.", field=odd[0])
    every = [_wanted(one) for one in items]
    found = await run_in_mail_threads(request, lambda: bulk_saving.save_many(ctx, every))
    return ManyOut(
        items=[
            SavingOut(id=one.id, error=problem_body(one.error) if one.error else None)
            for one in found
        ]
    )


def _wanted(item: dict[str, Any]) -> bulk_saving.Wanted:
    changes, acknowledged, start_from = split(item)
    version = typed.text("version", changes.pop("version", ""), 0, 200)
    number = changes.pop("id", None)
    if number is not None:
        number = typed.whole("id", number, 1, 2**63 - 1)
    elif version:
        raise InvalidInput("A version is of what is changed: give its id.", field="version")
    return bulk_saving.Wanted(changes, acknowledged, start_from, number, version)


@router.post(
    "/{connection_id}/duplicate",
    dependencies=[OPERATE_ON_PART],
    status_code=201,
    responses=responses(404, 409),
)
def duplicate(ctx: Ctx, connection_id: IdInPath, body: DuplicateBody) -> ConnectionOut:
    """Adds a connection like this one, disabled, with the changes given (a name is needed). Its
    password goes along unless another server is named; OAuth2 is authorised anew."""
    changes: dict[str, Any] = dict(body)
    return to_out(duplicating.duplicate_connection(ctx, connection_id, changes))
