"""Alerts about the services of Posthouse, and the test of a webhook."""

from __future__ import annotations

from dataclasses import dataclass

from shared.alerts.base import AlertData, Severity


@dataclass(frozen=True, kw_only=True)
class _OfService(AlertData):
    """`name`: fetcher, decryptor …; `check`: database, store, broker, output or heartbeat."""

    about = "service/{0.name}/{0.check}"
    path = "/"

    check: str


@dataclass(frozen=True, kw_only=True)
class ServiceFailing(_OfService):
    """A service that cannot reach what it needs, or is gone. `message`: why."""

    kind = "service-failing"
    choice = "A service of Posthouse fails"
    text = "Service {0.name} is failing ({0.check}): {0.message}"
    episode = "{0.subject}"

    message: str


@dataclass(frozen=True, kw_only=True)
class ServiceRecovered(_OfService):
    kind = "service-recovered"
    level = Severity.INFO
    text = "Service {0.name} works again ({0.check})."
    closes = (ServiceFailing.kind,)


@dataclass(frozen=True, kw_only=True)
class WebhookTest(AlertData):
    """Sent to one webhook because somebody asked for it. `name`: of the webhook."""

    kind = "webhook-test"
    level = Severity.INFO
    about = "webhook/{0.webhook_id}"
    path = "/settings"
    text = "This is a test of the webhook “{0.name}”: alerts of Posthouse arrive."

    webhook_id: int
