"""`/api/v1/messages`."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from posthouse.event_writing import header_fields
from services.admin.api.route_parameters import Ctx, Limit, SearchText
from services.admin.api.schemas.common import CountOut, Id
from services.admin.api.schemas.derived import values_of
from services.admin.api.schemas.messages import (
    DeliverAgainIn,
    DeliveredAgainOut,
    DeliverManyAgainIn,
    ErasedOut,
    EraseIn,
    MessageDetailOut,
    MessagePageOut,
)
from services.admin.auth.route_permissions import (
    ADMINISTER,
    OPERATE,
    OPERATE_ON_PART,
    READ_OWN_MAIL,
    VIEW_PART,
)
from services.admin.downloads import download_mail
from services.admin.operations import messages
from services.admin.operations.messages import MailKind, MessageDetail, MessageFilter, MessageState
from services.admin.problems import responses
from shared.input_fields import instant
from shared.people import Permission

router = APIRouter(prefix="/messages", tags=["messages"])
Instant = Annotated[str | None, Query(max_length=40, description="A date or time (ISO 8601)")]


@router.get("", dependencies=[VIEW_PART], responses=responses(404))
def search(
    ctx: Ctx,
    q: SearchText = "",
    connection: Id | None = None,
    state: MessageState | None = None,
    since: Instant = None,
    until: Instant = None,
    filtered_by: Annotated[
        Id | None, Query(description="A handler whose rules or group left it out")
    ] = None,
    kind: MailKind | None = None,
    has_attachment: bool | None = None,
    thread: Annotated[
        str, Query(max_length=1000, pattern=r"^[^\x00]*$", description="As in `data.mail.thread`")
    ] = "",
    before: Annotated[uuid.UUID | None, Query(description="`next` of the page before")] = None,
    limit: Limit = 50,
) -> MessagePageOut:
    """Newest first. `q` is a message-id, or words of subject and sender, addresses of sender and
    recipients, or a sender's domain (`@example.org`), all of which a mail has (`resume` finds
    `Résumé`); where none has them, a part of any of these. `since` and `until` bound the time of
    the download. `kind`, `has_attachment` and `thread` find mails whose event was published."""
    wanted = MessageFilter(
        q=q,
        connection_id=connection,
        state=state,
        since=instant("since", since) if since else None,
        until=instant("until", until) if until else None,
        filtered_by=filtered_by,
        kind=kind,
        has_attachment=has_attachment,
        thread=thread,
    )
    page = messages.search_messages(ctx, wanted, before=before, limit=limit)
    return MessagePageOut.model_validate(page)


@router.get("/{message_id}", dependencies=[VIEW_PART], responses=responses(404))
def get(ctx: Ctx, message_id: uuid.UUID) -> MessageDetailOut:
    """One mail with its path: arrived, downloaded, settled, opened, published to whom."""
    may_read = ctx.principal.may(Permission.READ_MAIL)
    return _to_out(messages.get_message(ctx, message_id), may_read=may_read)


@router.get(
    "/{message_id}/raw",
    dependencies=[READ_OWN_MAIL],
    response_class=StreamingResponse,
    responses={
        **responses(404),
        200: {"description": "The mail (RFC 5322)", "content": {"message/rfc822": {}}},
    },
)
def raw(
    ctx: Ctx,
    message_id: uuid.UUID,
    original: Annotated[bool, Query(description="As it was downloaded, not decrypted")] = False,
) -> StreamingResponse:
    """What a handler should read: decrypted where possible, unless `original`."""
    mail = messages.read_message(ctx, message_id, original=original)
    return download_mail(f"{message_id}.eml", mail.size, mail.chunks)


@router.post("/deliver-again", dependencies=[OPERATE], responses=responses())
def deliver_many_again(ctx: Ctx, body: DeliverManyAgainIn) -> DeliveredAgainOut:
    """Publishes all that match again, newest first, 10,000 at most in one call."""
    wanted = MessageFilter(
        q=body.q,
        connection_id=body.connection,
        state=MessageState(body.state) if body.state else None,
        since=instant("since", body.since) if body.since else None,
        until=instant("until", body.until) if body.until else None,
        filtered_by=body.filtered_by,
        kind=body.kind,
        has_attachment=body.has_attachment,
        thread=body.thread,
    )
    done = messages.deliver_messages_again(
        ctx, wanted, handler_ids=body.handlers, reason=body.reason, before=body.before
    )
    return DeliveredAgainOut.model_validate(done)


@router.post("/erase", dependencies=[ADMINISTER], responses=responses())
def erase(ctx: Ctx, body: EraseIn) -> ErasedOut:
    """Erases every mail that a person sent or was addressed in. It cannot be undone; what
    handlers already have is theirs to erase. Call again while `postponed` is not 0."""
    return ErasedOut.model_validate(messages.erase_person(ctx, body.address))


@router.post(
    "/{message_id}/deliver-again",
    dependencies=[OPERATE_ON_PART],
    status_code=202,
    responses=responses(404),
)
def deliver_again(ctx: Ctx, message_id: uuid.UUID, body: DeliverAgainIn | None = None) -> CountOut:
    """Publishes a mail again, with the same event id. One that could not be decrypted is tried
    again first."""
    body = body or DeliverAgainIn()
    messages.deliver_message_again(ctx, message_id, handler_ids=body.handlers, reason=body.reason)
    return CountOut(count=1)


def _to_out(detail: MessageDetail, *, may_read: bool) -> MessageDetailOut:
    return MessageDetailOut.model_validate(
        {
            **values_of(detail.message),
            **values_of(detail),
            "headers": header_fields(detail.handed_out) if may_read else None,
            "recipient_names": detail.headers.to_names,
            "cc_names": detail.headers.cc_names,
            "findings": detail.headers.findings,
            "sha256": detail.sha256.hex(),
            "opened_size": detail.opened.size if detail.opened else None,
            "opened_sha256": detail.opened_sha256.hex() if detail.opened_sha256 else None,
            "path": detail.path,
        }
    )
