"""Alerts: what people should hear of, when it is raised, and how it is written to a webhook.

Pure values and rules. An alert is a *transition*: it is raised once when something changes, in the
transaction of that change, and delivered to every enabled webhook.

Bodies follow the receivers' own documents: Slack's incoming webhooks (Block Kit), Microsoft Teams
Workflows (a message with an Adaptive Card), OpsGenie's Alert API, and, for programs, CloudEvents
1.0 structured JSON signed as Standard Webhooks 1.0 describes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from shared.clock import time_of
from shared.connections import Health
from shared.errors import InvalidInput


class AlertKind(StrEnum):
    CONNECTION_FAILING = "connection-failing"
    CONNECTION_RECOVERED = "connection-recovered"
    CONNECTION_NEEDS_AUTHORISATION = "connection-needs-authorisation"
    CERTIFICATE_EXPIRING = "certificate-expiring"
    CLIENT_SECRET_EXPIRING = "client-secret-expiring"  # noqa: S105 (a kind, no secret)
    MAIL_QUARANTINED = "mail-quarantined"
    HANDLER_BACKLOG_OLD = "handler-backlog-old"
    HANDLER_BACKLOG_RECOVERED = "handler-backlog-recovered"


class Severity(StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Template(StrEnum):
    JSON = "json"
    SLACK = "slack"
    TEAMS = "teams"
    OPSGENIE = "opsgenie"


SEVERITIES: Final[Mapping[AlertKind, Severity]] = {
    AlertKind.CONNECTION_FAILING: Severity.CRITICAL,
    AlertKind.CONNECTION_RECOVERED: Severity.INFO,
    AlertKind.CONNECTION_NEEDS_AUTHORISATION: Severity.CRITICAL,
    AlertKind.CERTIFICATE_EXPIRING: Severity.WARNING,
    AlertKind.CLIENT_SECRET_EXPIRING: Severity.WARNING,
    AlertKind.MAIL_QUARANTINED: Severity.WARNING,
    AlertKind.HANDLER_BACKLOG_OLD: Severity.CRITICAL,
    AlertKind.HANDLER_BACKLOG_RECOVERED: Severity.INFO,
}

#: A recovery closes what this kind opened, where the receiver knows open and closed (OpsGenie).
CLOSES: Final[Mapping[AlertKind, tuple[AlertKind, ...]]] = {
    AlertKind.CONNECTION_RECOVERED: (
        AlertKind.CONNECTION_FAILING,
        AlertKind.CONNECTION_NEEDS_AUTHORISATION,
    ),
    AlertKind.HANDLER_BACKLOG_RECOVERED: (AlertKind.HANDLER_BACKLOG_OLD,),
}

#: Days before the end of a certificate or client secret at which people are told, once each.
EXPIRY_DAYS: Final = (30, 7, 1)

#: A webhook that does not take an alert is tried again after these; then the alert is given up.
RETRY_DELAYS: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One transition. `subject` is `connection/7`, `quarantine/<id>`, `certificate/3`, `handler/1`.

    `data` holds what the sentence needs: `name`, and per kind `message`, `hint`, `code`, `step`,
    `days`, `ends_at`, `backlog`, `oldest_at`; no secrets, no content of mails.
    """

    id: uuid.UUID
    kind: AlertKind
    subject: str
    data: Mapping[str, Any]
    attempts: int = 0

    @property
    def at(self) -> datetime:
        return time_of(self.id)

    @property
    def severity(self) -> Severity:
        if self.data.get("days") == 1:
            return Severity.CRITICAL
        return SEVERITIES[self.kind]


@dataclass(frozen=True, slots=True)
class Request:
    """What is posted to a webhook."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def transition(before: Health, after: Health) -> AlertKind | None:
    """The alert that a change of health raises, None where there is nothing to tell.

    A connection that has never worked recovers silently; one that goes from failing to "needs
    authorisation" tells it, because somebody else has to act now.
    """
    if before == after:
        return None
    broken = {Health.FAILING, Health.NEEDS_AUTHORISATION}
    if after is Health.NEEDS_AUTHORISATION:
        return AlertKind.CONNECTION_NEEDS_AUTHORISATION
    if after is Health.FAILING and before is not Health.NEEDS_AUTHORISATION:
        return AlertKind.CONNECTION_FAILING
    if after is Health.WORKING and before in broken:
        return AlertKind.CONNECTION_RECOVERED
    return None


def expiry_stage(ends_at: datetime, now: datetime) -> int | None:
    """Which of EXPIRY_DAYS has been reached (the narrowest), None before the first or after all."""
    left = ends_at - now
    if left < timedelta(0):
        return None
    reached = [days for days in EXPIRY_DAYS if left <= timedelta(days=days)]
    return min(reached) if reached else None


def retry_delay(attempts: int) -> timedelta | None:
    """How long after the attempt number `attempts` (from 1) comes the next; None: give up."""
    return RETRY_DELAYS[attempts - 1] if attempts <= len(RETRY_DELAYS) else None


def sentence(alert: Alert) -> str:
    """What happened, in one sentence for people."""
    data = alert.data
    name = str(data.get("name") or alert.subject)
    match alert.kind:
        case AlertKind.CONNECTION_FAILING:
            return f"Connection “{name}” is failing: {data.get('message') or 'no reason given.'}"
        case AlertKind.CONNECTION_RECOVERED:
            return f"Connection “{name}” works again."
        case AlertKind.CONNECTION_NEEDS_AUTHORISATION:
            return f"Connection “{name}” needs somebody to authorise it again."
        case AlertKind.CERTIFICATE_EXPIRING:
            return f"Certificate “{name}” expires {_within(data)}."
        case AlertKind.CLIENT_SECRET_EXPIRING:
            return f"The client secret of “{name}” expires {_within(data)}."
        case AlertKind.MAIL_QUARANTINED:
            reason = data.get("message") or data.get("code") or "no reason given."
            return f"A mail of connection “{name}” is in quarantine: {reason}"
        case AlertKind.HANDLER_BACKLOG_OLD:
            backlog = data.get("backlog", "some")
            since = data.get("oldest_at") or "a while ago"
            return f"Handler “{name}” is behind: {backlog} mails wait, the oldest since {since}."
        case AlertKind.HANDLER_BACKLOG_RECOVERED:
            return f"Handler “{name}” has caught up."


def compose(
    alert: Alert, template: Template, *, url: str, secret: str, public_url: str, now: datetime
) -> Request:
    """The request that tells `alert` to one webhook.

    `secret` signs the body (OpsGenie: is the API key); empty: unsigned. The alert's id is the
    idempotency key (`webhook-id`): a receiver that sees it twice has seen it.
    """
    what, _, row = alert.subject.partition("/")
    link = f"{public_url.rstrip('/')}/{_PAGES.get(what, what)}/{row}"
    headers = {"content-type": "application/json", "user-agent": "Posthouse"}
    body: Mapping[str, Any]
    match template:
        case Template.SLACK:
            body = _slack(alert, link)
        case Template.TEAMS:
            body = _teams(alert, link)
        case Template.OPSGENIE:
            if secret:
                headers["authorization"] = f"GenieKey {secret}"
            url, body = _opsgenie(alert, link, url)
        case Template.JSON:
            headers["content-type"] = "application/cloudevents+json"
            body = _cloud_event(alert, link)
    octets = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    headers["webhook-id"] = str(alert.id)
    headers["webhook-timestamp"] = str(int(now.timestamp()))
    if secret and template is not Template.OPSGENIE:
        headers["webhook-signature"] = sign(
            secret, headers["webhook-id"], headers["webhook-timestamp"], octets
        )
    return Request(url, headers, octets)


def sign(secret: str, identifier: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body` (Standard Webhooks 1.0).

    A secret that begins with `whsec_` is the base64 of the key, any other is the key itself.
    """
    signed = f"{identifier}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def check_secret(secret: str) -> None:
    """Raises InvalidInput where a `whsec_` secret is not base64."""
    _key(secret)


_PAGES: Final = {
    "connection": "connections",
    "certificate": "certificates",
    "credential": "credentials",
    "handler": "handlers",
    "message": "messages",
}
_ROUTING: Final = {Severity.CRITICAL: "P2", Severity.WARNING: "P3", Severity.INFO: "P5"}
_COLOURS: Final = {
    Severity.CRITICAL: "attention",
    Severity.WARNING: "warning",
    Severity.INFO: "good",
}


def _within(data: Mapping[str, Any]) -> str:
    ends = str(data.get("ends_at") or "")[:10]
    days = data.get("days")
    within = "within a day" if days == 1 else f"within {days} days"
    return f"{within}, on {ends}" if ends else within


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise InvalidInput(
            "A signing secret that begins with whsec_ goes on with base64.", field="secret"
        ) from error


def _facts(alert: Alert) -> list[tuple[str, str]]:
    facts = [("Severity", alert.severity.value), ("At", f"{alert.at:%Y-%m-%d %H:%M:%S} UTC")]
    hint = alert.data.get("hint")
    return [*facts, ("What to do", str(hint))] if hint else facts


def _cloud_event(alert: Alert, link: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(alert.id),
        "type": f"posthouse.alert.{alert.kind}.v1",
        "source": "/" + alert.subject,
        "time": alert.at.isoformat(),
        "datacontenttype": "application/json",
        "data": {
            **alert.data,
            "severity": alert.severity.value,
            "summary": sentence(alert),
            "url": link,
        },
    }


def _slack(alert: Alert, link: str) -> dict[str, Any]:
    text = sentence(alert)
    details = " · ".join(f"*{name}:* {_mrkdwn(value)}" for name, value in _facts(alert))
    return {
        "text": _mrkdwn(text),
        "blocks": [
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": f"<{link}|{_mrkdwn(text[:2900])}>"},
            },
            {"type": "context", "elements": [{"type": "mrkdwn", "text": details[:2900]}]},
        ],
    }


def _mrkdwn(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "¦")


def _teams(alert: Alert, link: str) -> dict[str, Any]:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {
                "type": "TextBlock",
                "text": sentence(alert),
                "wrap": True,
                "weight": "bolder",
                "color": _COLOURS[alert.severity],
            },
            {
                "type": "FactSet",
                "facts": [{"title": name, "value": value} for name, value in _facts(alert)],
            },
        ],
        "actions": [{"type": "Action.OpenUrl", "title": "Open in Posthouse", "url": link}],
    }
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        ],
    }


def _opsgenie(alert: Alert, link: str, url: str) -> tuple[str, dict[str, Any]]:
    """A new alert, or the closing of the one that a recovery ends; both known by their alias."""
    if alert.kind in CLOSES:
        # Failing and needing authorisation share an alias, so one call closes either.
        opened = _alias(CLOSES[alert.kind][0], alert.subject)
        closing = f"{url.rstrip('/')}/{quote(opened, safe='')}/close?identifierType=alias"
        return closing, {"source": "Posthouse", "note": sentence(alert)}
    return url, {
        "message": sentence(alert)[:130],
        "alias": _alias(alert.kind, alert.subject),
        "description": f"{sentence(alert)}\n{link}",
        "details": {name: str(value) for name, value in alert.data.items()},
        "entity": alert.subject,
        "source": "Posthouse",
        "tags": ["posthouse", alert.kind.value],
        "priority": _ROUTING[alert.severity],
    }


def _alias(kind: AlertKind, subject: str) -> str:
    topic = "health" if kind.startswith("connection-") else kind.value
    return f"posthouse:{subject}:{topic}"
