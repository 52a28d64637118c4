"""How an alert is written to a webhook.

Bodies follow the receivers' own documents: Slack's incoming webhooks (Block Kit), Microsoft Teams
Workflows (a message with an Adaptive Card), OpsGenie's Alert API, and, for programs, CloudEvents
1.0 structured JSON signed as Standard Webhooks 1.0 describes.

Names, and what a mail server says, are of others: in a chat they stand where no markup is read
(Slack's `rich_text` and `plain_text`, the text runs of a card), as neither Slack's nor Teams' can
be escaped whole. What would change the order of a line is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from shared.alerts.base import Severity
from shared.alerts.kinds import to_json
from shared.alerts.raised import Alert, Template
from shared.untrusted_text import shown
from shared.webhook_signatures import sign


@dataclass(frozen=True, slots=True)
class Request:
    """What is posted to a webhook."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def compose(
    alert: Alert, template: Template, *, url: str, secret: str, public_url: str, now: datetime
) -> Request:
    """The request that tells `alert` to one webhook.

    `secret` signs the body (OpsGenie: is the API key); empty: unsigned. The alert's id is the
    idempotency key (`webhook-id`): a receiver that sees it twice has seen it.
    """
    link = public_url.rstrip("/") + alert.data.page
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


_ROUTING: Final = {Severity.CRITICAL: "P2", Severity.WARNING: "P3", Severity.INFO: "P5"}
_COLOURS: Final = {
    Severity.CRITICAL: "attention",
    Severity.WARNING: "warning",
    Severity.INFO: "good",
}


def _facts(alert: Alert) -> list[tuple[str, str]]:
    facts = [("Severity", alert.severity.value), ("At", f"{alert.at:%Y-%m-%d %H:%M:%S} UTC")]
    hint = getattr(alert.data, "hint", "")
    return [*facts, ("What to do", shown(hint))] if hint else facts


def _cloud_event(alert: Alert, link: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(alert.id),
        "type": f"posthouse.alert.{alert.kind}.v1",
        "source": "/" + alert.subject,
        "time": alert.at.isoformat(),
        "datacontenttype": "application/json",
        "data": {
            **to_json(alert.data),
            "severity": alert.severity.value,
            "summary": alert.data.sentence,
            "url": link,
        },
    }


def _slack(alert: Alert, link: str) -> dict[str, Any]:
    text = shown(alert.data.sentence)
    details = " · ".join(f"{name}: {value}" for name, value in _facts(alert))
    linked = {"type": "link", "url": link, "text": text[:2900]}
    return {
        # What a notification shows in place of the blocks.
        "text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        "mrkdwn": False,
        "blocks": [
            {
                "type": "rich_text",
                "elements": [{"type": "rich_text_section", "elements": [linked]}],
            },
            {
                "type": "context",
                "elements": [{"type": "plain_text", "text": details[:2900], "emoji": False}],
            },
        ],
    }


def _teams(alert: Alert, link: str) -> dict[str, Any]:
    sentence = {
        "type": "TextRun",
        "text": shown(alert.data.sentence),
        "weight": "bolder",
        "color": _COLOURS[alert.severity],
    }
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "RichTextBlock", "inlines": [sentence]},
            *(
                {
                    "type": "RichTextBlock",
                    "spacing": "small",
                    "inlines": [
                        {"type": "TextRun", "text": f"{name}: ", "weight": "bolder"},
                        {"type": "TextRun", "text": value},
                    ],
                }
                for name, value in _facts(alert)
            ),
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
    text = shown(alert.data.sentence)
    if alert.data.closes:
        # Failing and needing authorisation share an alias, so one call closes either.
        opened = _alias(alert.data.closes[0], alert.subject)
        closing = f"{url.rstrip('/')}/{quote(opened, safe='')}/close?identifierType=alias"
        return closing, {"source": "Posthouse", "note": text}
    return url, {
        "message": text[:130],
        "alias": _alias(alert.kind, alert.subject),
        "description": f"{text}\n{link}",
        "details": {name: shown(str(value)) for name, value in to_json(alert.data).items()},
        "entity": alert.subject,
        "source": "Posthouse",
        "tags": ["posthouse", alert.kind],
        "priority": _ROUTING[alert.severity],
    }


def _alias(kind: str, subject: str) -> str:
    # Whether a connection fails or needs authorising is one matter to a receiver.
    topic = "health" if kind.startswith("connection-") else kind
    return f"posthouse:{subject}:{topic}"
