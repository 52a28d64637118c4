"""The event: what is written can be read, by us and by the published schema."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.event import InvalidEvent, MailEvent, RawMismatch
from posthouse.event_data import Connection, Headers, Original, Raw
from posthouse.event_writing import build_event
from posthouse.mail import AuthenticationResult, Spam
from posthouse.testing import make_event

SCHEMA = Path(__file__).parent.parent / "schema"
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((SCHEMA / "mail-received.v1.json").read_text()),
    format_checker=jsonschema.FormatChecker(),
)
NOW = datetime(2026, 11, 22, 12, 30, 1, 5, tzinfo=UTC)


def built(**changes: Any) -> bytes:
    raw = b"Subject: x\r\n\r\n\x00\xff"
    fields: dict[str, Any] = {
        "id": "0193",
        "connection": Connection(7, "Support", "imap", "support@example.com"),
        "sequence": 3,
        "headers": Headers("<a@b>", "Jörg <j@x.de>", ("a@b.c",), (), "Grüße 日本", NOW),
        "size": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "raw": Raw(inline=raw),
        "mail": {
            "thread": "<a@b>",
            "kind": "list",
            "parts": [{"path": "1", "content_type": "text/plain"}],
        },
        "security": {"encrypted": False, "status": "none", "signer": None},
        "downloaded_at": NOW,
    }
    return build_event(**{**fields, **changes})


@pytest.mark.promise("H2")
@settings(deadline=None, max_examples=60)
@given(
    subject=st.text(),
    sender=st.text(),
    to=st.lists(st.text(), max_size=3).map(tuple),
    name=st.text(),
    raw=st.binary(max_size=300),
    date=st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_every_event_fits_the_schema_and_comes_back(
    subject: str, sender: str, to: tuple[str, ...], name: str, raw: bytes, date: datetime | None
) -> None:
    headers = Headers(
        "<a@b>", sender, to, ("c@d",), subject, date, name, tuple(reversed(to)), ("C",)
    )
    connection = Connection(1, name, "pop3", "a")
    digest = hashlib.sha256(raw).hexdigest()
    wire = built(
        headers=headers, connection=connection, raw=Raw(inline=raw), size=len(raw), sha256=digest
    )
    VALIDATOR.validate(json.loads(wire))
    event = MailEvent.from_json(wire)
    assert event.headers == headers
    assert event.connection == connection
    assert event.raw_bytes() == raw
    assert event.to_json() == wire


def test_by_reference_and_with_an_original() -> None:
    original = Original('https://x/"y"', 5, "b" * 64)
    wire = built(raw=Raw(url="https://posthouse/api/v1/messages/1/raw"), original=original)
    VALIDATOR.validate(json.loads(wire))
    event = MailEvent.from_json(wire)
    assert event.raw.url == "https://posthouse/api/v1/messages/1/raw"
    assert event.raw.inline is None
    assert event.original == original
    assert event.to_json() == wire


def test_the_trace_rides_along() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    wire = built(traceparent=trace)
    VALIDATOR.validate(json.loads(wire))
    assert json.loads(wire)["traceparent"] == trace
    assert MailEvent.from_json(wire).traceparent == trace
    assert "traceparent" not in json.loads(built())


def test_the_correlation_id_rides_along() -> None:
    wire = built(correlation_id="01a2")
    VALIDATOR.validate(json.loads(wire))
    assert json.loads(wire)["correlationid"] == "01a2"
    assert MailEvent.from_json(wire).correlation_id == "01a2"
    assert MailEvent.from_json(wire).to_json() == wire


def test_the_same_mail_gives_the_same_bytes() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert built() == built(downloaded_at=elsewhere)


def test_half_a_surrogate_pair_becomes_a_replacement() -> None:
    """What a mail header may decode to is not always text to other languages' JSON readers."""
    for subject, wanted in [
        ("\udc80x", "\ufffdx"),
        ("a\\\udc80", "a\\\ufffd"),
        ("\\\\udc80", "\\\\udc80"),
        ("\udc80😀\ud83d", "\ufffd😀\ufffd"),
    ]:
        wire = built(headers=Headers(subject=subject))
        assert json.loads(wire)["data"]["headers"]["subject"] == wanted
        assert not re.search(rb"(?<!\\)\\udc80", wire)


def test_unknown_and_missing_fields_are_no_trouble() -> None:
    fields = json.loads(built())
    fields["newer"] = {"x": 1}
    fields["data"]["newer"] = [1]
    fields["data"]["security"]["newer"] = True
    del fields["data"]["headers"]["cc"], fields["data"]["connection"]["name"], fields["time"]
    fields["data"]["headers"]["subject"] = None
    event = MailEvent.from_json(json.dumps(fields))
    assert event.headers.cc == ()
    assert event.headers.subject == ""
    assert event.connection.name == ""
    assert event.time == event.downloaded_at
    assert event.security.details["newer"] is True


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"specversion": "0.3"}, "0.3"),
        ({"type": "posthouse.mail.received.v2"}, "v2"),
        ({"data": None}, "mail event"),
        ({"data": []}, "mail event"),
        ({"data": {"connection": {"id": 1}, "raw": {}}}, "downloaded_at"),
    ],
)
def test_what_is_no_mail_event_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidEvent, match=said):
        MailEvent.from_json(json.dumps({**json.loads(built()), **change}))


@pytest.mark.parametrize("wire", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"x"', b"{}"])
def test_what_is_no_json_object_is_refused(wire: bytes) -> None:
    with pytest.raises(InvalidEvent):
        MailEvent.from_json(wire)


def test_damaged_bytes_are_noticed() -> None:
    fields = json.loads(built())
    fields["data"]["raw"]["inline"] = base64.b64encode(b"something else").decode()
    with pytest.raises(RawMismatch, match="0193"):
        MailEvent.from_json(json.dumps(fields)).raw_bytes()
    fields["data"]["raw"] = {"inline": "not base64!"}
    with pytest.raises(InvalidEvent):
        MailEvent.from_json(json.dumps(fields))


def test_a_made_event_is_a_true_one() -> None:
    event = make_event(subject="Grüße", text="Hallo")
    VALIDATOR.validate(json.loads(event.to_json()))
    assert b"Hallo" in event.raw_bytes()
    assert MailEvent.from_json(event.to_json()).headers == event.headers


def test_the_asyncapi_document_stands_on_the_schema() -> None:
    document = yaml.safe_load((SCHEMA / "asyncapi.yaml").read_text())
    assert document["asyncapi"].startswith("3.")
    payload = document["components"]["messages"]["mailReceived"]["payload"]["$ref"]
    assert (SCHEMA / payload).is_file()

    def references(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    for reference in references(document):
        if reference.startswith("#/"):
            node = document
            for part in reference[2:].split("/"):
                node = node[part]
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert "posthouse:handler:{handler}" in addresses
    assert "posthouse.handler.{handler}" in addresses


def test_a_made_event_has_what_a_handler_may_ask_for() -> None:
    made = make_event(
        subject="Re: Order",
        cc=["carol@example.org"],
        text="Yes.\n",
        html="<p>Yes.</p>",
        attachments={"Grüße.pdf": b"%PDF", "data.unknown-kind": b"\x00"},
        headers={"In-Reply-To": "<1@x>", "Reply-To": "Team <team@example.org>"},
        reply_text="Yes.",
        thread="19a",
        folder="Sent",
        labels=["work"],
        arrived_at=datetime(2026, 12, 1, tzinfo=UTC),
        authentication=[AuthenticationResult("dmarc", "pass", "example.org")],
        spam=Spam("ham", 0.5),
    )
    VALIDATOR.validate(json.loads(made.to_json()))
    event = MailEvent.from_json(made.to_json())
    assert replace(event.mail, details={}) == made.mail
    assert event.headers.cc == ("carol@example.org",)
    assert (event.text.strip(), event.html().strip()) == ("Yes.", "<p>Yes.</p>")
    read = {one.name: (one.content_type, one.open().read()) for one in event.attachments}
    assert read == {
        "Grüße.pdf": ("application/pdf", b"%PDF"),
        "data.unknown-kind": ("application/octet-stream", b"\x00"),
    }
    assert event.reply_headers()["To"] == "Team <team@example.org>"
    assert (event.mail.in_reply_to, event.mail.thread) == (("<1@x>",), "19a")
    assert event.mail.reply_text == "Yes."
    assert (event.mail.folder, event.mail.labels) == ("Sent", ("work",))
    assert event.mail.arrived_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert event.mail.authentication == (AuthenticationResult("dmarc", "pass", "example.org"),)
    assert event.mail.spam == Spam("ham", 0.5)


def test_header_fields_of_a_made_event_take_the_place_of_those_that_are_made() -> None:
    made = make_event(headers={"from": "Bob <b@x.example>", "Auto-Submitted": "auto-replied"})
    assert (made.headers.sender, made.headers.sender_name) == ("b@x.example", "Bob")
    assert made.mail.kind == "auto-reply"
    assert made.raw_bytes().lower().count(b"\nfrom:") == 1
    assert made.mail.thread == made.headers.message_id != ""
