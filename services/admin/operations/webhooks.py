"""Webhooks that alerts go to, and the log of alerts with every attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypedDict
from urllib.parse import urlsplit

from services.admin.context import Context
from services.admin.operations.edit_conflicts import check_version
from shared import input_fields as typed
from shared.alerts.kinds import chosen_kinds
from shared.alerts.raised import Alert, Template
from shared.alerts.services import WebhookTest
from shared.errors import InvalidInput, Refusals
from shared.storage import alert_deliveries, alerts, webhooks
from shared.storage.alert_deliveries import AlertAttempt as AlertAttempt
from shared.storage.webhooks import WEBHOOK_TABLE
from shared.storage.webhooks import Webhook as Webhook
from shared.vault import SecretPath
from shared.webhook_signatures import check_secret

_FIELDS: Final = ("name", "url", "template", "secret", "kinds", "enabled", "muted_until")


@dataclass(frozen=True, slots=True)
class LoggedAlert:
    """One alert in words, and every attempt to deliver it. `open`: it is still being delivered."""

    alert: Alert
    text: str
    open: bool
    deliveries: tuple[AlertAttempt, ...]


def list_webhooks(ctx: Context) -> Sequence[Webhook]:
    with ctx.transaction() as session:
        return webhooks.webhooks(session)


def get_webhook(ctx: Context, webhook_id: int) -> Webhook:
    """Raises NotFound."""
    with ctx.transaction() as session:
        return webhooks.webhook(session, webhook_id)


def create_webhook(ctx: Context, changes: Mapping[str, Any]) -> Webhook:
    """Raises InvalidInput naming the field, Conflict where the name is taken."""
    wanted, url, secret = _checked(None, changes)
    with ctx.transaction() as session:
        made = webhooks.create_webhook(
            session, **wanted, url=url or "", secret=secret or "", seal=_sealing(ctx)
        )
        ctx.record(session, "create", f"webhook/{made.id}", after=made)
    return made


def update_webhook(ctx: Context, webhook_id: int, changes: Mapping[str, Any]) -> Webhook:
    """Changes the given fields; an empty secret removes it. Raises NotFound, InvalidInput and
    Conflict.

    A new address does not get the secret that was entered for another one.
    """
    with ctx.transaction() as session:
        before = webhooks.webhook(session, webhook_id)
        check_version(ctx, session, f"webhook/{webhook_id}", before)
        wanted, url, secret = _checked(before, changes)
        after = webhooks.update_webhook(
            session, webhook_id, **wanted, url=url, secret=secret, seal=_sealing(ctx)
        )
        ctx.record(session, "change", f"webhook/{webhook_id}", before, after)
    return after


def test_webhook(ctx: Context, webhook_id: int) -> Webhook:
    """Sends it a test, and no other one; a scheduler delivers it as alerts are. Raises NotFound,
    InvalidInput where the webhook is disabled."""
    with ctx.transaction() as session:
        hook = webhooks.webhook(session, webhook_id)
        if not hook.enabled:
            raise InvalidInput("The webhook is disabled.", field="enabled", hint="Enable it first.")
        alerts.raise_transition(session, WebhookTest(webhook_id=hook.id, name=hook.name))
        ctx.record(session, "test", f"webhook/{webhook_id}")
    return hook


def delete_webhook(ctx: Context, webhook_id: int) -> Webhook:
    """Its lines of the log go with it. Raises NotFound."""
    with ctx.transaction() as session:
        before = webhooks.webhook(session, webhook_id)
        webhooks.delete_webhook(session, webhook_id)
        ctx.record(session, "delete", f"webhook/{webhook_id}", before=before)
    return before


def alert_log(ctx: Context, *, limit: int = 30) -> Sequence[LoggedAlert]:
    """The latest alerts, newest first, each with its deliveries."""
    with ctx.transaction() as session:
        found = alert_deliveries.alerts(session, limit=limit)
        log = alert_deliveries.deliveries(session, [alert.id for alert, _ in found])
    return [
        LoggedAlert(
            alert,
            alert.data.sentence,
            is_open,
            tuple(line for line in log if line.alert_id == alert.id),
        )
        for alert, is_open in found
    ]


class _Fields(TypedDict):
    name: str
    template: Template
    kinds: tuple[str, ...]
    enabled: bool
    muted_until: datetime | None


def _checked(
    before: Webhook | None, changes: Mapping[str, Any]
) -> tuple[_Fields, str | None, str | None]:
    """(the fields, the address and the secret, None where they stay). Raises InvalidInput with all
    that is wrong."""
    typed.only(changes, set(_FIELDS), "webhook")
    new = {"name": "", "template": Template.JSON, "kinds": (), "enabled": True, "muted_until": None}
    kept = {name: getattr(before, name) for name in new} if before else new
    given = {name: changes.get(name, value) for name, value in kept.items()}
    until = given["muted_until"]
    refusals = Refusals()
    wanted = _Fields(
        name=refusals.read(lambda: typed.text("name", given["name"], 1, 200), ""),
        template=refusals.read(
            lambda: typed.choice(Template, given["template"], "template"), Template.JSON
        ),
        kinds=refusals.read(lambda: chosen_kinds(given["kinds"]), ()),
        enabled=refusals.read(lambda: typed.truth("enabled", given["enabled"]), True),
        muted_until=refusals.read(
            lambda: None if until is None else typed.instant("muted_until", until), None
        ),
    )
    url = refusals.read(
        lambda: _url(changes.get("url")) if before is None or changes.get("url") else None, None
    )
    secret = refusals.read(lambda: _secret(changes), None)
    if before is not None and url and before.has_secret and secret is None:
        refusals.add(
            InvalidInput(
                "Another address needs its secret again.",
                field="secret",
                hint="The one that is kept was entered for the former address.",
            )
        )
    refusals.finish(_FIELDS)
    return wanted, url, secret


def _secret(changes: Mapping[str, Any]) -> str | None:
    secret = typed.secret("secret", changes.get("secret"), 500)
    if secret:
        check_secret(secret)
    return secret


def _sealing(ctx: Context) -> webhooks.Seal:
    return lambda column, row, text: ctx.app_state.vault.seal(
        text.encode(), SecretPath(WEBHOOK_TABLE, column, str(row))
    )


def _url(value: Any) -> str:
    address = typed.secret("url", value, 2000) or ""
    parts = urlsplit(address.strip())
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidInput("A webhook's address begins with https:// or http://", field="url")
    return address.strip()
