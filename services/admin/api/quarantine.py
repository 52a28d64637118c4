"""`/api/v1/quarantine`: mails that could not be processed, and what becomes of them."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from services.admin.api.route_parameters import Ctx, Limit, SearchText
from services.admin.api.schemas.common import CountOut, Id
from services.admin.api.schemas.messages import EntriesIn, QuarantinedOut, QuarantinePageOut
from services.admin.auth.route_permissions import (
    OPERATE,
    OPERATE_ON_PART,
    READ_MAIL_OF_PART,
    VIEW_PART,
)
from services.admin.downloads import download_mail
from services.admin.operations import quarantine
from services.admin.problems import responses

router = APIRouter(prefix="/quarantine", tags=["quarantine"])


@router.get("", dependencies=[VIEW_PART], responses=responses(404))
def search_quarantine(
    ctx: Ctx,
    connection: Id | None = None,
    code: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")] = None,
    q: SearchText = "",
    before: uuid.UUID | None = None,
    limit: Limit = 50,
) -> QuarantinePageOut:
    """Mails that could not be processed, newest first. `q` is a part of subject, sender or
    message-id."""
    page = quarantine.search_quarantine(
        ctx, connection_id=connection, code=code, q=q, before=before, limit=limit
    )
    return QuarantinePageOut.model_validate(page)


@router.get("/{entry_id}", dependencies=[VIEW_PART], responses=responses(404))
def get_quarantined(ctx: Ctx, entry_id: uuid.UUID) -> QuarantinedOut:
    """One mail with the reason."""
    return QuarantinedOut.model_validate(quarantine.get_quarantined(ctx, entry_id))


@router.get(
    "/{entry_id}/raw",
    dependencies=[READ_MAIL_OF_PART],
    response_class=StreamingResponse,
    responses={
        **responses(404),
        200: {"description": "The mail (RFC 5322)", "content": {"message/rfc822": {}}},
    },
)
def raw_quarantined(ctx: Ctx, entry_id: uuid.UUID) -> StreamingResponse:
    """Its octets; `404` where it was left on its server."""
    size, chunks = quarantine.read_quarantined(ctx, entry_id)
    return download_mail(f"{entry_id}.eml", size, chunks)


@router.post(
    "/{entry_id}/release",
    dependencies=[OPERATE_ON_PART],
    status_code=202,
    responses=responses(404, 409),
)
def release(ctx: Ctx, entry_id: uuid.UUID) -> CountOut:
    """Releases it: it is processed again."""
    quarantine.release(ctx, entry_id)
    return CountOut(count=1)


@router.post("/release", dependencies=[OPERATE], responses=responses(409))
def release_many(ctx: Ctx, body: EntriesIn) -> CountOut:
    """Releases several: they are processed again."""
    return CountOut(count=quarantine.release_many(ctx, body.ids))


@router.post("/drop", dependencies=[OPERATE], responses=responses())
def drop_many(ctx: Ctx, body: EntriesIn) -> CountOut:
    """Drops several."""
    return CountOut(count=quarantine.drop_many(ctx, body.ids))


@router.delete(
    "/{entry_id}", dependencies=[OPERATE_ON_PART], status_code=204, responses=responses(404)
)
def drop(ctx: Ctx, entry_id: uuid.UUID) -> None:
    """Drops it: it never comes back by itself."""
    quarantine.drop(ctx, entry_id)
