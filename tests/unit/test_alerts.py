"""Every kind of alert says its reason, can be told in every form, and leads to a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.routing import Match

from services.admin.api.schemas.webhooks import WebhookIn
from services.admin.pages.app import build
from services.admin.pages.request_context import PagesState
from shared.alert_payloads import compose
from shared.alerts.base import AlertData
from shared.alerts.connections import (
    ConnectionFailing,
    ConnectionNeedsAuthorisation,
    ConnectionRecovered,
    ConnectionsOnTime,
    ConnectionsOverdue,
)
from shared.alerts.expiring import CertificateExpiring, ClientSecretExpiring
from shared.alerts.handlers import (
    ForwardGaveUp,
    ForwardPaused,
    ForwardResumed,
    HandlerBacklogOld,
    HandlerBacklogRecovered,
)
from shared.alerts.kinds import CHOICES, KINDS, from_json, to_json
from shared.alerts.mails import MailQuarantined, MailUnwanted
from shared.alerts.raised import Alert, Template
from shared.alerts.services import ServiceFailing, ServiceRecovered, WebhookTest
from shared.clock import new_id, utc_now

_ENTRY = str(new_id())
#: One of each kind, and the words that its sentence must have.
SAMPLES: list[tuple[AlertData, str]] = [
    (
        ForwardPaused(handler_id=3, name="crm", place="https://crm.example", reason="It is gone."),
        "Nothing is sent to https://crm.example for handler “crm” any more: It is gone.",
    ),
    (
        ForwardGaveUp(
            handler_id=3, name="crm", place="https://crm.example", reason="500", day="2026-01-31"
        ),
        "that https://crm.example did not take are dead letters: 500",
    ),
    (
        ForwardResumed(handler_id=3, name="crm", place="https://crm.example"),
        "sent to https://crm.example again",
    ),
    (ConnectionFailing(connection_id=7, name="Box", message="Wrong password."), "Wrong password."),
    (
        ConnectionNeedsAuthorisation(connection_id=7, name="Box", message="The grant is gone."),
        "The grant is gone.",
    ),
    (ConnectionRecovered(connection_id=7, name="Box"), "works again"),
    (
        ConnectionRecovered(connection_id=7, name="Box", unwatched=True),
        "Connection “Box”, which failed, is not watched any more.",
    ),
    (
        ConnectionRecovered(connection_id=7, name="Box", host="mx", count=4, unwatched=True),
        "Of 4 connections at mx that failed none fails any more: they work or are not watched.",
    ),
    (
        ConnectionsOverdue(name="Box", count=3, oldest_success_at="2026-11-22T10:00:00+00:00"),
        "3 connections are overdue. Of “Box”, the last success was at 2026-11-22 10:00 UTC.",
    ),
    (ConnectionsOnTime(name="Box"), "No connection is overdue"),
    (CertificateExpiring(certificate_id=3, name="Box", days=7, ends_at="2026-11-22"), "7 days"),
    (ClientSecretExpiring(credential_id=3, name="Box", days=1, ends_at="2026-11-22"), "a day"),
    (
        MailQuarantined(
            name="Box", entry_id=_ENTRY, connection_id=1, code="x", reason="Too large.", count=38
        ),
        "38 mails of connection “Box” are in quarantine: Too large.",
    ),
    (
        MailUnwanted(name="Box", message_id=_ENTRY, connection_id=1),
        "No handler wants a mail of connection “Box”",
    ),
    (HandlerBacklogOld(name="Box", handler_id=1, backlog=9, oldest_at=None), "9 mails wait"),
    (HandlerBacklogRecovered(name="Box", handler_id=1, backlog=0, oldest_at=None), "caught up"),
    (
        ServiceFailing(name="fetcher, scheduler", check="broker", message="Refused."),
        "Services fetcher, scheduler are failing (broker): Refused.",
    ),
    (
        ServiceRecovered(name="fetcher, scheduler", check="broker"),
        "What was failing (broker) works again: fetcher, scheduler.",
    ),
    (WebhookTest(webhook_id=3, name="On call"), "a test of the webhook “On call”"),
]
_data = pytest.mark.parametrize(("data", "words"), SAMPLES, ids=lambda v: getattr(v, "kind", ""))


def test_no_kind_is_left_out() -> None:
    assert {data.kind for data, _ in SAMPLES} == set(KINDS)


def test_each_kind_has_a_test_from_its_cause_to_the_webhook() -> None:
    """Such tests wait for a kind by its name, so here it is enough that the name is there."""
    folder = Path(__file__).parents[1] / "integration"
    written = "".join(path.read_text() for path in folder.rglob("test_*.py"))
    assert not [kind for kind in KINDS if kind not in written]


@_data
def test_it_comes_back_from_its_row_as_it_went_there(data: AlertData, words: str) -> None:
    assert from_json(data.kind, json.loads(json.dumps(to_json(data)))) == data
    assert words in data.sentence


@_data
@pytest.mark.promise("H5")
def test_its_link_leads_to_a_page(data: AlertData, words: str) -> None:
    pages = build(cast(PagesState, object()))
    path = data.page.partition("?")[0]
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    assert any(route.matches(scope)[0] is Match.FULL for route in pages.routes), data.page


@_data
@pytest.mark.parametrize("template", Template)
def test_it_can_be_told_in_every_form(data: AlertData, words: str, template: Template) -> None:
    request = compose(
        Alert(id=new_id(), data=data),
        template,
        url="https://h.example",
        secret="",
        public_url="https://p/",
        now=utc_now(),
    )
    assert words in request.body.decode()


#: What a mail server or who names a connection may write, for each receiver's own markup.
MARKUP = (
    "<!here> <https://evil.example|Log in> *now* _or_ ~else~ `x` @channel #general & [Log in]"
    "(https://evil.example) **b** <at>Ann</at> {{DATE(2026-01-01T00:00:00Z)}} ![x](https://e/p.png)"
)
#: The forms in which Slack and Teams read no markup: "Text object" and "Rich text block" of Block
#: Kit, and "Text features" of Adaptive Cards (RichTextBlock supports no Markdown).
LITERAL = {"link", "plain_text", "TextRun"}


def texts(value: Any, kind: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a body that is shown, with the type of what it stands in."""
    if isinstance(value, dict):
        kind = str(value.get("type", kind))
        for name, inner in value.items():
            if name in ("text", "value", "title") and isinstance(inner, str):
                yield kind, inner
            else:
                yield from texts(inner, kind)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, kind)


def told(data: AlertData, template: Template) -> Any:
    request = compose(
        Alert(id=new_id(), data=data),
        template,
        url="https://h.example",
        secret="",
        public_url="https://p/",
        now=utc_now(),
    )
    return json.loads(request.body)


@pytest.mark.parametrize("template", [Template.SLACK, Template.TEAMS])
@pytest.mark.parametrize("place", ["name", "message", "hint"])
def test_no_markup_of_a_stranger_is_read_in_a_chat(template: Template, place: str) -> None:
    """A link, a picture or a call to everybody that a mail server wrote into its refusal."""
    words: dict[str, Any] = {"name": "Box", "message": "No.", "hint": "Look."}
    body = told(ConnectionFailing(connection_id=7, **words | {place: MARKUP}), template)
    fallback = body.pop("text", "")
    assert "<" not in fallback
    if template is Template.SLACK:  # which reads markup in that text unless it is told not to
        assert body.pop("mrkdwn") is False
    found = [(kind, text) for kind, text in texts(body) if MARKUP in text]
    assert found
    assert {kind for kind, _ in found} <= LITERAL
    # What is no text of a stranger's is none that markup is read in either.
    assert "mrkdwn" not in json.dumps(body)


@pytest.mark.parametrize("template", [Template.SLACK, Template.TEAMS, Template.OPSGENIE])
def test_no_control_of_a_stranger_reaches_a_chat(template: Template) -> None:
    hostile = "invoice\u202efdp.exe\x1b[2J\x9b"
    body = told(ConnectionFailing(connection_id=7, name=hostile, message=hostile), template)
    assert not {"\u202e", "\x1b", "\x9b"} & set("".join(json.dumps(body, ensure_ascii=False)))
    assert "\\u001b" not in json.dumps(body)


def test_a_webhook_chooses_every_kind_but_recoveries_and_its_test() -> None:
    chosen = {data.kind for data, _ in SAMPLES if not data.closes} - {WebhookTest.kind}
    assert set(CHOICES) == chosen
    kinds = WebhookIn.model_json_schema()["properties"]["kinds"]
    assert kinds["items"]["enum"] == list(CHOICES)
