"""Webhooks that alerts go to, and the log of what was told to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from services.admin.context import Context
from shared import fields as typed
from shared.alerts import Alert, Template, WebhookTest
from shared.errors import InvalidInput
from shared.storage import alerts
from shared.storage.alerts import WEBHOOK_TABLE, Delivery, Webhook
from shared.vault import Place
from shared.webhook_signatures import check_secret

_FIELDS: Final = frozenset({"name", "url", "secret", "template", "enabled"})


@dataclass(frozen=True, slots=True)
class Told:
    """One alert in words, and every attempt to tell it. `open`: it is still being delivered."""

    alert: Alert
    text: str
    open: bool
    deliveries: tuple[Delivery, ...]


def list_webhooks(ctx: Context) -> Sequence[Webhook]:
    with ctx.transaction() as session:
        return alerts.webhooks(session)


def get_webhook(ctx: Context, webhook_id: int) -> Webhook:
    """Raises NotFound."""
    with ctx.transaction() as session:
        return alerts.webhook(session, webhook_id)


def create_webhook(ctx: Context, changes: Mapping[str, Any]) -> Webhook:
    """Raises InvalidInput naming the field, Conflict where the name is taken."""
    typed.only(changes, _FIELDS, "webhook")
    url = _url(changes.get("url"))
    secret = typed.secret("secret", changes.get("secret"), 500) or ""
    if secret:
        check_secret(secret)
    with ctx.transaction() as session:
        made = alerts.create_webhook(
            session,
            name=typed.text("name", changes.get("name", ""), 1, 200),
            url=url,
            secret=secret,
            template=typed.choice(Template, changes.get("template", Template.JSON), "template"),
            enabled=typed.truth("enabled", changes.get("enabled", True)),
            seal=lambda column, row, text: ctx.app_state.vault.seal(
                text.encode(), Place(WEBHOOK_TABLE, column, str(row))
            ),
        )
        ctx.record(session, "create", f"webhook/{made.id}", after=made)
    return made


def switch_webhook(ctx: Context, webhook_id: int, *, enabled: bool) -> Webhook:
    """Enables or disables it. Raises NotFound."""
    with ctx.transaction() as session:
        before = alerts.webhook(session, webhook_id)
        after = alerts.update_webhook(
            session,
            webhook_id,
            name=before.name,
            template=before.template,
            enabled=enabled,
            seal=lambda *_: b"",  # neither address nor secret changes
        )
        ctx.record(session, "change", f"webhook/{webhook_id}", before, after)
    return after


def test_webhook(ctx: Context, webhook_id: int) -> Webhook:
    """Sends it a test, and no other one; a scheduler delivers it as alerts are. Raises NotFound,
    InvalidInput where the webhook is disabled."""
    with ctx.transaction() as session:
        hook = alerts.webhook(session, webhook_id)
        if not hook.enabled:
            raise InvalidInput("The webhook is disabled.", field="enabled", hint="Enable it first.")
        alerts.raise_transition(session, WebhookTest(webhook_id=hook.id, name=hook.name))
        ctx.record(session, "test", f"webhook/{webhook_id}")
    return hook


def delete_webhook(ctx: Context, webhook_id: int) -> Webhook:
    """Its lines of the log go with it. Raises NotFound."""
    with ctx.transaction() as session:
        before = alerts.webhook(session, webhook_id)
        alerts.delete_webhook(session, webhook_id)
        ctx.record(session, "delete", f"webhook/{webhook_id}", before=before)
    return before


def alert_log(ctx: Context, *, limit: int = 30) -> Sequence[Told]:
    """The latest alerts, newest first, each with its deliveries."""
    with ctx.transaction() as session:
        found = alerts.alerts(session, limit=limit)
        log = alerts.deliveries(session, [alert.id for alert, _ in found])
    return [
        Told(
            alert,
            alert.data.sentence,
            is_open,
            tuple(line for line in log if line.alert_id == alert.id),
        )
        for alert, is_open in found
    ]


def _url(value: Any) -> str:
    address = typed.secret("url", value, 2000) or ""
    parts = urlsplit(address.strip())
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidInput("A webhook's address begins with https://", field="url")
    return address.strip()
