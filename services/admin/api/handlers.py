"""`/api/v1/handlers`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from services.admin.api.route_parameters import Ctx, EditingCtx, IdInPath, SearchText, tag
from services.admin.api.schemas.common import CountOut, PageOut
from services.admin.api.schemas.forwards import ForwardOut
from services.admin.api.schemas.handlers import (
    AtWorkOut,
    BrokerAccountOut,
    DeadLetterOut,
    DeadLettersIn,
    DeliverSinceIn,
    DryRunIn,
    DryRunOut,
    HandlerBody,
    HandlerChanges,
    HandlerOut,
    OwnHandlerOut,
    PastMailLeftOut,
    PastMailOut,
    PastMailTaken,
    QueueOut,
    RulesIn,
)
from services.admin.api.schemas.messages import DeliveredAgainOut
from services.admin.auth.route_permissions import OPERATE, READ_OWN_MAIL, VIEW
from services.admin.mail_server_work import run_in_mail_threads
from services.admin.operations import dead_letters, handlers, rules
from services.admin.operations.handlers import HandlerView
from services.admin.problems import responses
from shared.forwards import Forward
from shared.handlers import ALL
from shared.input_fields import instant
from shared.queueing.output import DeadChoice

router = APIRouter(prefix="/handlers", tags=["handlers"])
own = APIRouter(prefix="/handler", tags=["handlers"])


@own.get("", dependencies=[READ_OWN_MAIL], responses=responses(404))
def whose_token(ctx: Ctx) -> OwnHandlerOut:
    """The handler that the request's token belongs to: what a program asks when it starts."""
    return OwnHandlerOut.model_validate(handlers.whose_token(ctx))


@router.get("", dependencies=[VIEW], responses=responses())
def search(ctx: Ctx, q: SearchText = "") -> PageOut[HandlerOut]:
    """All whose name or description holds `q`, with their queues."""
    items = [to_out(view) for view in handlers.search_handlers(ctx, q)]
    return PageOut(items=items, total=len(items), page=1, per_page=max(1, len(items)))


@router.post("", dependencies=[OPERATE], status_code=201, responses=responses(409))
def create(ctx: Ctx, body: HandlerBody) -> HandlerOut:
    """Adds a handler. The answer holds, once, its token, which opens the handler's own mails, and
    the key that its events are signed with."""
    return to_out(handlers.create_handler(ctx, body))


@router.get("/{handler_id}", dependencies=[VIEW], responses=responses(404))
def get(ctx: Ctx, response: Response, handler_id: IdInPath) -> HandlerOut:
    """One handler with its queue."""
    return _tagged(response, handlers.get_handler(ctx, handler_id))


@router.get("/{handler_id}/work", dependencies=[VIEW], responses=responses(404))
def work(ctx: Ctx, handler_id: IdInPath) -> AtWorkOut:
    """What it has in hand since when, and the oldest mails that it did not acknowledge."""
    handlers.get_handler(ctx, handler_id)
    return AtWorkOut.model_validate(handlers.work_in_hand(ctx, handler_id))


@router.patch("/{handler_id}", dependencies=[OPERATE], responses=responses(404, 409, 412))
def update(
    ctx: EditingCtx, response: Response, handler_id: IdInPath, body: HandlerChanges
) -> HandlerOut:
    """Changes the given fields."""
    return _tagged(response, handlers.update_handler(ctx, handler_id, body))


# Who tries rules can find out what is inside encrypted mails, as who reads them can.
@router.post("/{handler_id}/rules/dry-run", dependencies=[OPERATE], responses=responses(404))
def dry_run(ctx: Ctx, handler_id: IdInPath, body: DryRunIn | None = None) -> DryRunOut:
    """What rules would have taken of past mails, before they are saved; five seconds at most.
    `to_deliver` of them is what `deliver-since` delivers for the same `since` once they are saved.
    """
    body = body or DryRunIn()
    given = body.model_dump(exclude_none=True, exclude={"since", "days", "listed"})
    since = None if body.since is None else instant("since", body.since)
    found = rules.dry_run(ctx, handler_id, given, since=since, days=body.days, listed=body.listed)
    return DryRunOut(
        looked_at=found.looked_at,
        taken=found.taken,
        had=found.had,
        to_deliver=found.to_deliver,
        unsure=found.unsure,
        to_deliver_unsure=found.to_deliver_unsure,
        held=found.held,
        listed=[
            PastMailTaken(**PastMailOut.model_validate(mail).model_dump(), had=had)
            for mail, had in found.listed
        ],
        left_out=[
            PastMailLeftOut(**PastMailOut.model_validate(mail).model_dump(), reason=reason)
            for mail, reason in found.left_out
        ],
        since=found.since,
        back_to=found.back_to,
        complete=found.complete,
        not_kept=found.not_kept,
        sentences=list(found.sentences),
    )


@router.post("/{handler_id}/deliver-since", dependencies=[OPERATE], responses=responses(404))
def deliver_since(ctx: Ctx, handler_id: IdInPath, body: DeliverSinceIn) -> DeliveredAgainOut:
    """Delivers past mails that the handler's saved rules take and that it did not get; 10,000 at
    most in one call. In a group, who has a mail keeps it. The same mails as a dry run of the saved
    rules counts as `to_deliver`; those in doubt reach the handler where all that they say fits."""
    since = instant("since", body.since)
    done = rules.deliver_since(ctx, handler_id, since, before=body.before)
    return DeliveredAgainOut.model_validate(done)


@router.post("/{handler_id}/token", dependencies=[OPERATE], responses=responses(404))
def renew_token(ctx: Ctx, handler_id: IdInPath) -> HandlerOut:
    """A new token; the old one stops working at once."""
    return to_out(handlers.renew_token(ctx, handler_id))


@router.post("/{handler_id}/signing-key", dependencies=[OPERATE], responses=responses(404, 409))
def renew_signing_key(ctx: Ctx, handler_id: IdInPath) -> HandlerOut:
    """A new signing key. Events are signed with it and with the one before, until that is ended."""
    return to_out(handlers.renew_signing_key(ctx, handler_id))


@router.delete("/{handler_id}/signing-key/former", dependencies=[OPERATE], responses=responses(404))
def end_former_signing_key(ctx: Ctx, handler_id: IdInPath) -> HandlerOut:
    """Ends the signing key before the present one: events bear no signature with it any more."""
    return to_out(handlers.end_former_signing_key(ctx, handler_id))


@router.post("/{handler_id}/broker-account", dependencies=[OPERATE], responses=responses(404, 502))
async def make_broker_account(request: Request, ctx: Ctx, handler_id: IdInPath) -> BrokerAccountOut:
    """An account of the broker for the handler's program alone, with a new password. Where
    Posthouse may not make it, the answer has the commands that do. Asks the broker."""
    made = await run_in_mail_threads(request, lambda: handlers.make_broker_account(ctx, handler_id))
    return BrokerAccountOut.model_validate(made)


@router.get("/{handler_id}/dead-letters", dependencies=[VIEW], responses=responses(404, 502))
async def dead(request: Request, ctx: Ctx, handler_id: IdInPath) -> list[DeadLetterOut]:
    """The oldest hundred events that the handler rejected or did not manage. Asks the broker."""
    found = await run_in_mail_threads(
        request, lambda: dead_letters.list_dead_letters(ctx, handler_id)
    )
    return [
        DeadLetterOut(
            **dataclasses.asdict(one.letter),
            given_up=one.letter.given_up,
            message_id=one.message_id,
            subject=one.subject,
        )
        for one in found.listed
    ]


@router.post(
    "/{handler_id}/dead-letters/deliver-again",
    dependencies=[OPERATE],
    responses=responses(404, 502),
)
async def deliver_dead_again(
    request: Request, ctx: Ctx, handler_id: IdInPath, body: DeadLettersIn | None = None
) -> CountOut:
    """Puts dead letters (all, those named, those with a reason) back at the end of the handler's
    queue."""
    chosen = _chosen(body)
    act = dead_letters.deliver_dead_letters_again
    return CountOut(count=await run_in_mail_threads(request, lambda: act(ctx, handler_id, chosen)))


@router.post(
    "/{handler_id}/dead-letters/discard", dependencies=[OPERATE], responses=responses(404, 502)
)
async def discard_dead(
    request: Request, ctx: Ctx, handler_id: IdInPath, body: DeadLettersIn | None = None
) -> CountOut:
    """Removes dead letters (all, those named, those with a reason) for good. Their mails stay, and
    can be delivered again."""
    chosen = _chosen(body)
    act = dead_letters.discard_dead_letters
    return CountOut(count=await run_in_mail_threads(request, lambda: act(ctx, handler_id, chosen)))


def _chosen(body: DeadLettersIn | None) -> DeadChoice:
    return DeadChoice(body.event_ids, body.reason) if body else DeadChoice()


@router.delete(
    "/{handler_id}", dependencies=[OPERATE], status_code=204, responses=responses(404, 409)
)
def delete(
    ctx: Ctx,
    handler_id: IdInPath,
    force: Annotated[bool, Query(description="Although mails wait for it")] = False,
) -> None:
    """`409` while mails wait for it, unless `force`."""
    handlers.delete_handler(ctx, handler_id, force=force)


def to_out(view: HandlerView, *, forward_secret: str | None = None) -> HandlerOut:
    """A handler as the API shows it."""
    handler = view.handler
    ids = handler.connection_ids
    return HandlerOut(
        id=handler.id,
        name=handler.name,
        description=handler.description,
        enabled=handler.enabled,
        connections=ALL if ids is None else list(ids),
        rules=RulesIn.model_validate(handler.rules.to_json()),
        sentences=handler.rules.sentences,
        group=handler.group,
        position=handler.position,
        has_token=handler.has_token,
        token=view.token,
        has_signing_key=handler.has_signing_key,
        has_former_signing_key=handler.has_former_signing_key,
        signing_key=view.signing_key,
        redis_stream=handler.redis_stream,
        rabbitmq_queue=handler.rabbitmq_queue,
        forward=_forward(view, forward_secret),
        queue=QueueOut.model_validate(view.queue),
        waiting=view.waiting,
        created_at=handler.created_at,
        updated_at=handler.updated_at,
    )


def _forward(view: HandlerView, secret: str | None) -> ForwardOut | None:
    forward = view.forward
    if forward is None:
        return None
    fields = {name: getattr(forward, name) for name in Forward.__slots__ if name != "options"}
    return ForwardOut.model_validate(
        forward.options.to_json()
        | fields
        | {"fails": view.forward_fails, "secret": view.forward_secret or secret}
    )


def _tagged(response: Response, view: HandlerView) -> HandlerOut:
    tag(response, view.handler)
    return to_out(view)
