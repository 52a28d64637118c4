"""Alerts about the services of Posthouse, and the test of a webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.alerts.base import AlertData, Severity

#: The check of a service of which no process is at work.
HEARTBEAT: Final = "heartbeat"


@dataclass(frozen=True, kw_only=True)
class _OfServices(AlertData):
    """`name`: fetcher, or several, as `fetcher, scheduler`; `check`: database, store, broker,
    output or heartbeat. What several services need is one fault, and told once."""

    about = "service/{0.fault}"
    path = "/"

    check: str

    @property
    def fault(self) -> str:
        return f"{self.check}/{self.name}" if self.check == HEARTBEAT else self.check

    @property
    def who(self) -> str:
        return f"Services {self.name}" if "," in self.name else f"Service {self.name}"

    @property
    def verb(self) -> str:
        return "are" if "," in self.name else "is"


@dataclass(frozen=True, kw_only=True)
class ServiceFailing(_OfServices):
    """Services that cannot reach what they need, or one that is gone. `message`: why."""

    kind = "service-failing"
    choice = "A service of Posthouse fails"
    text = "{0.who} {0.verb} failing ({0.check}): {0.message}"
    episode = "{0.subject}"

    message: str


@dataclass(frozen=True, kw_only=True)
class ServiceRecovered(_OfServices):
    kind = "service-recovered"
    level = Severity.INFO
    text = "What was failing ({0.check}) works again: {0.name}."
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
