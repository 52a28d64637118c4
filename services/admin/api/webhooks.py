"""`/api/v1/webhooks`: where alerts go, and what was sent to whom. For administrators."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from services.admin.api.route_parameters import Ctx, EditingCtx, IdInPath, Limit, SearchText, tag
from services.admin.api.schemas.common import PageOut
from services.admin.api.schemas.derived import values_of
from services.admin.api.schemas.webhooks import (
    LoggedAlertOut,
    WebhookBody,
    WebhookChanges,
    WebhookOut,
)
from services.admin.auth.route_permissions import ADMINISTER
from services.admin.operations import webhooks
from services.admin.operations.webhooks import Webhook
from services.admin.problems import responses

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
_OF_ALERT: Final = ("id", "at", "kind", "subject")


@router.get("", dependencies=[ADMINISTER], responses=responses())
def list_webhooks(ctx: Ctx, q: SearchText = "") -> PageOut[WebhookOut]:
    """All whose name holds `q`."""
    part = q.strip().casefold()
    found = [
        WebhookOut.model_validate(hook)
        for hook in webhooks.list_webhooks(ctx)
        if part in hook.name.casefold()
    ]
    return PageOut(items=found, total=len(found), page=1, per_page=max(1, len(found)))


@router.post("", dependencies=[ADMINISTER], status_code=201, responses=responses(409))
def create(ctx: Ctx, body: WebhookBody) -> WebhookOut:
    """Adds a webhook: it gets every alert from now on, or of those of its `kinds`."""
    return WebhookOut.model_validate(webhooks.create_webhook(ctx, body))


@router.get("/alerts", dependencies=[ADMINISTER], responses=responses())
def alerts(ctx: Ctx, limit: Limit = 50) -> list[LoggedAlertOut]:
    """The latest alerts, newest first, with the log of their delivery."""
    return [
        LoggedAlertOut.model_validate(
            values_of(logged) | {name: getattr(logged.alert, name) for name in _OF_ALERT}
        )
        for logged in webhooks.alert_log(ctx, limit=limit)
    ]


@router.get("/{webhook_id}", dependencies=[ADMINISTER], responses=responses(404))
def get(ctx: Ctx, response: Response, webhook_id: IdInPath) -> WebhookOut:
    """A webhook, without its address and secret."""
    return _tagged(response, webhooks.get_webhook(ctx, webhook_id))


@router.patch("/{webhook_id}", dependencies=[ADMINISTER], responses=responses(404, 409, 412))
def update(
    ctx: EditingCtx, response: Response, webhook_id: IdInPath, body: WebhookChanges
) -> WebhookOut:
    """Changes the given fields: which kinds it is sent, until when it is muted (null: no more),
    its address (with its secret again)."""
    return _tagged(response, webhooks.update_webhook(ctx, webhook_id, body))


@router.post(
    "/{webhook_id}/test", dependencies=[ADMINISTER], status_code=202, responses=responses(404)
)
def send_test(ctx: Ctx, webhook_id: IdInPath) -> WebhookOut:
    """Sends it a test; `/webhooks/alerts` tells how that went."""
    return WebhookOut.model_validate(webhooks.test_webhook(ctx, webhook_id))


@router.delete(
    "/{webhook_id}", dependencies=[ADMINISTER], status_code=204, responses=responses(404)
)
def delete(ctx: Ctx, webhook_id: IdInPath) -> None:
    """Its lines of the log go with it."""
    webhooks.delete_webhook(ctx, webhook_id)


def _tagged(response: Response, hook: Webhook) -> WebhookOut:
    tag(response, hook)
    return WebhookOut.model_validate(hook)
