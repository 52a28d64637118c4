"""`/api/v1/handlers/{id}/forward`: test it, its log, pause and resume, its secret.

What a forward is, is the field `forward` of its handler.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from services.admin.api.handlers import to_out
from services.admin.api.route_parameters import Ctx, IdInPath, Limit
from services.admin.api.schemas.forwards import (
    AttemptsOut,
    ForwardAttemptOut,
    ForwardTestIn,
    PauseIn,
    TestedForwardOut,
)
from services.admin.api.schemas.handlers import HandlerOut
from services.admin.auth.route_permissions import OPERATE
from services.admin.mail_server_work import run_in_mail_threads
from services.admin.operations import forwards, handlers
from services.admin.problems import responses
from shared.forwarding.outcome import ForwardOutcome, ForwardVerdict

router = APIRouter(prefix="/handlers", tags=["handlers"])


@router.post("/forward/test", dependencies=[OPERATE], responses=responses())
async def test_new(request: Request, ctx: Ctx, body: ForwardTestIn) -> TestedForwardOut:
    """Sends one made-up event to where a handler is to be forwarded, before there is one."""
    given = body.forward or {}
    return _tested(await run_in_mail_threads(request, lambda: forwards.send_test(ctx, None, given)))


@router.post("/{handler_id}/forward/test", dependencies=[OPERATE], responses=responses(404))
async def test(
    request: Request, ctx: Ctx, handler_id: IdInPath, body: ForwardTestIn | None = None
) -> TestedForwardOut:
    """Sends one made-up event to where the handler is forwarded, as saved or as given."""
    given = body.forward if body else None
    return _tested(
        await run_in_mail_threads(request, lambda: forwards.send_test(ctx, handler_id, given))
    )


@router.post("/{handler_id}/forward/pause", dependencies=[OPERATE], responses=responses(404, 409))
def pause(ctx: Ctx, handler_id: IdInPath, body: PauseIn | None = None) -> HandlerOut:
    """Nothing is sent any more; what comes waits in the handler's queue."""
    forwards.pause(ctx, handler_id, body.reason if body else "")
    return to_out(handlers.get_handler(ctx, handler_id))


@router.post("/{handler_id}/forward/resume", dependencies=[OPERATE], responses=responses(404, 409))
def resume(ctx: Ctx, handler_id: IdInPath) -> HandlerOut:
    """What waits is sent from now on."""
    forwards.resume(ctx, handler_id)
    return to_out(handlers.get_handler(ctx, handler_id))


@router.post("/{handler_id}/forward/secret", dependencies=[OPERATE], responses=responses(404))
def renew_secret(ctx: Ctx, handler_id: IdInPath) -> HandlerOut:
    """A new signing secret, shown once; what is sent is signed with both until the former ends."""
    secret = forwards.renew_secret(ctx, handler_id)
    return to_out(handlers.get_handler(ctx, handler_id), forward_secret=secret)


@router.delete(
    "/{handler_id}/forward/secret/former", dependencies=[OPERATE], responses=responses(404)
)
def end_former_secret(ctx: Ctx, handler_id: IdInPath) -> HandlerOut:
    """What is sent is signed with the present secret alone from now on."""
    forwards.end_former_secret(ctx, handler_id)
    return to_out(handlers.get_handler(ctx, handler_id))


# An answer may quote what was posted, which is the content of a mail.
@router.get("/{handler_id}/forward/attempts", dependencies=[OPERATE], responses=responses(404))
def attempts(
    ctx: Ctx,
    handler_id: IdInPath,
    outcome: Annotated[
        Literal["", "delivered", "failed", "dead", "paused"], Query(description="Only these")
    ] = "",
    before: Annotated[int | None, Query(ge=1, description="`next` of the page before")] = None,
    limit: Limit = 50,
) -> AttemptsOut:
    """The delivery log: the newest 2,000 attempts of seven days. Of more than 50 deliveries a
    second, the last 50 are in it."""
    found = forwards.attempts(ctx, handler_id, before=before, outcome=outcome, limit=limit + 1)
    items = [ForwardAttemptOut.model_validate(one) for one in found[:limit]]
    return AttemptsOut(items=items, next=items[-1].id if len(found) > limit else None)


def _tested(outcome: ForwardOutcome) -> TestedForwardOut:
    fields = asdict(outcome)
    names = ("status", "seconds", "detail", "answer")
    ok = outcome.verdict is ForwardVerdict.DELIVERED
    return TestedForwardOut(ok=ok, **{name: fields[name] for name in names})
