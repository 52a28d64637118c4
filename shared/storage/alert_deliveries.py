"""Alerts on their way: those that are due, the webhooks that want them, the log of attempts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.alerts.kinds import from_json
from shared.alerts.raised import Alert, Template
from shared.alerts.services import WebhookTest
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("alert_deliveries")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertedWebhook:
    """An enabled webhook to which an alert has still to be sent, its `url` and `secret` sealed."""

    id: int
    name: str
    url: bytes
    secret: bytes | None
    template: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAttempt:
    """One line of the execution log. `status` is HTTP's, None where no answer came."""

    alert_id: uuid.UUID
    webhook_id: int
    webhook: str
    attempted_at: datetime
    status: int | None
    error: str | None


def claim_due(session: Session, limit: int) -> list[Alert]:
    """Takes due alerts for a minute; their `attempts` counts the one about to be made."""
    rows = session.execute(_QUERIES["claim_alerts"], {"limit": limit}).fetchall()
    return [_alert(row) for row in rows]


def undelivered(session: Session, alert: Alert) -> list[AlertedWebhook]:
    """The webhooks that want this alert and have not taken it yet."""
    only = alert.data.webhook_id if isinstance(alert.data, WebhookTest) else None
    kinds = [alert.kind, *alert.data.closes]
    values = {"id": alert.id, "raised_at": alert.at, "only": only, "kinds": kinds}
    rows = session.execute(_QUERIES["undelivered_webhooks"], values)
    return [
        AlertedWebhook(id=i, name=n, url=u, secret=s, template=Template(t))
        for i, n, u, s, t in rows
    ]


def log_delivery(
    session: Session, alert: Alert, target: AlertedWebhook, status: int | None, error: str | None
) -> None:
    values = {"alert_id": alert.id, "webhook_id": target.id, "status": status, "error": error}
    session.execute(_QUERIES["log_delivery"], values)


def schedule(session: Session, alert: Alert, delay: timedelta | None) -> None:
    """When the alert is tried again; None: never."""
    session.execute(_QUERIES["schedule_alert"], {"id": alert.id, "delay": delay})


def leave(session: Session, alert: Alert, delay: timedelta) -> None:
    """It is left to others, and the attempt does not count."""
    session.execute(_QUERIES["leave_alert"], {"id": alert.id, "delay": delay})


def alerts(
    session: Session, *, subject: str = "", before: uuid.UUID | None = None, limit: int = 50
) -> list[tuple[Alert, bool]]:
    """Newest first, each with whether it is still being delivered; `before` pages."""
    values = {"subject": subject, "before": before, "limit": limit}
    rows = session.execute(_QUERIES["alerts"], values).fetchall()
    return [(_alert(row[:5]), bool(row[5])) for row in rows]


def deliveries(session: Session, alert_ids: Sequence[uuid.UUID]) -> list[AlertAttempt]:
    """The execution log of these alerts, in order."""
    rows = session.execute(_QUERIES["deliveries"], {"ids": list(alert_ids)})
    return [
        AlertAttempt(alert_id=a, webhook_id=w, webhook=n, attempted_at=t, status=s, error=e)
        for a, w, n, t, s, e in rows
    ]


def _alert(row: Sequence[Any]) -> Alert:
    alert_id, kind, _, data, attempts = row
    return Alert(id=alert_id, data=from_json(kind, data), attempts=attempts)
