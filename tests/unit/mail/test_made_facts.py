"""The events that handlers are tested with say of a mail what Posthouse's own reader says of it."""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage
from functools import partial
from typing import Any

import pytest

from posthouse.mail import mail_fields
from posthouse.testing import make_event
from shared.mail.facts import read_facts
from shared.mail.region import region
from shared.mail.summary import header_octets, read_headers
from tests.rig.tnef_writer import file, stream

pytestmark = pytest.mark.promise("F5")

#: What the servers and a kept library add is not there in an event for tests.
_ALIKE = (
    *("in_reply_to", "references", "thread", "reply_to", "sender", "return_path", "delivered_to"),
    *("list_id", "kind", "auto_reply_suppressed", "parts", "text", "text_is_from_html", "html"),
)


def _with(**fields: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["Message-ID"] = "Ann Example <ann@example.org>", "<1@example.org>"
    for name, value in fields.items():
        mail[name.replace("_", "-")] = value
    mail.set_content("Hello,\nI have a problem.\n")
    return mail


def _report(kind: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["Content-Type"] = "ann@example.org", "multipart/report"
    mail.set_param("report-type", kind)
    inner = EmailMessage()
    inner.set_content("See below.\n")
    mail.attach(inner)
    return mail


def _delivery_report(*actions: str, original: str = "message/rfc822") -> bytes:
    recipients = "\n".join(
        f"Final-Recipient: rfc822; <{number}@gone.example>\nAction: {action}\nStatus: 5.1.1 (no)\n"
        "Diagnostic-Code: smtp; 550 5.1.1\n User unknown\n"
        for number, action in enumerate(actions)
    )
    return (
        "From: MAILER-DAEMON@mx.example\nReferences: <7@a.example>\nMIME-Version: 1.0\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        "--b\n\nSorry.\n--b\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mx.example\n\n{recipients}"
        f"\n--b\nContent-Type: {original}\n\nMessage-ID: <1@a.example>\n\n--b--\n"
    ).encode()


@pytest.mark.parametrize(
    "raw",
    [
        _delivery_report("failed"),
        _delivery_report("delivered", "Delayed (still)", original="text/rfc822-headers"),
        _delivery_report("delayed", "failed", original="text/plain"),
        _delivery_report("delivered", "relayed"),
        _delivery_report(),
    ],
    ids=["failed", "delayed", "second", "success", "empty"],
)
def test_a_report_of_delivery_says_the_same(raw: bytes) -> None:
    made = make_event(raw=raw).mail
    read = read_facts(region(raw), trusted=(), text_limit=10_000)
    assert made.kind == read.kind
    bounce = read.to_json()["bounce"]
    if read.bounce and not read.bounce.recipient:  # which recipient a text means it does not tell
        bounce["diagnostic"], bounce["diagnostic_is_from_text"] = "", False
    assert mail_fields(made)["bounce"] == bounce
    assert [one.path for one in made.parts] == [one.path for one in read.parts]


def _with_files() -> EmailMessage:
    mail = _with(Subject="Files")
    mail.add_alternative("<p>Hello</p>", subtype="html")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="../../Größe.pdf")
    packed = stream(file(b"X.PDF", b"%PDF 1", "Übung: 1.pdf", "application/pdf"))
    mail.add_attachment(packed, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    mail.add_attachment(_with(Subject="inside"))
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a" * 300 + ".pdf")
    return mail


def _html() -> EmailMessage:
    mail = _with()
    mail.set_content("<style>p {}</style><p>Hello <b>Ann</b>,</p><p>bye</p>", subtype="html")
    return mail


def _lists() -> EmailMessage:
    mail = _with()
    items = "<ul><li>one</li><li>two<ul><li>deep</li></ul></li></ul><ol><li>first<li>second</ol>"
    mail.set_content(f"<p>Please:</p>{items}<p>bye</p>", subtype="html")
    return mail


def _calendar(disposition: str, method: str, *, inside: bool = False) -> EmailMessage:
    mail, outer = _with(Subject="Stand-up"), _with(Subject="Fwd: Stand-up")
    told = {"method": method} if method else {}
    mail.add_attachment(
        b"BEGIN:VCALENDAR", "text", "calendar", disposition=disposition, params=told
    )
    outer.add_attachment(mail)
    return outer if inside else mail


def _flowed() -> EmailMessage:
    mail = _with()
    mail.set_content("Two li \nnes.\n")
    mail.set_param("format", "flowed")
    mail.set_param("DelSp", "Yes")
    return mail


def _unknown_charset() -> EmailMessage:
    mail = _with()
    mail.set_param("charset", "x-none")
    return mail


@pytest.mark.parametrize(
    "make",
    [
        partial(_with, Reply_To="Desk <desk@example.org>", Sender="bob@example.org"),
        partial(_with, In_Reply_To="<0@example.org>", References="<a@b> <0@example.org>"),
        partial(_with, Auto_Submitted="auto-replied; owner-email=a@b"),
        partial(_with, Auto_Submitted="no (by hand)"),
        partial(_with, Precedence="bulk"),
        partial(_with, Precedence="junk", References="<a@b>"),
        partial(_with, Precedence="bulk", Return_Path="<>"),
        partial(_with, Precedence="auto_reply"),
        partial(_with, X_Auto_Response_Suppress="DR, AutoReply"),
        partial(_with, X_Auto_Response_Suppress="DR, NDR"),
        partial(_with, List_Id="Tea <tea.example.org>", Precedence="list"),
        partial(_with, List_Unsubscribe="<mailto:u@example.org>", Auto_Submitted="auto-generated"),
        partial(_with, List_Id="<n.example>", Auto_Submitted="auto-replied"),
        partial(_with, Return_Path="<>"),
        partial(_with, Return_Path="<ann@example.org>", Delivered_To="support+4711@example.com"),
        partial(_with, Delivered_To="d@example.com", X_Original_To="Desk <d@example.com>"),
        partial(_report, "delivery-status"),
        partial(_report, "disposition-notification"),
        partial(_report, "feedback-report"),
        partial(_report, "tlsrpt"),
        partial(_calendar, "inline", "REQUEST"),
        partial(_calendar, "inline", ""),
        partial(_calendar, "attachment", "REQUEST"),
        partial(_calendar, "inline", "REQUEST", inside=True),
        _with_files,
        _html,
        _lists,
        _unknown_charset,
        _flowed,
    ],
)
def test_the_facts_are_those_that_posthouse_reads(make: Callable[[], EmailMessage]) -> None:
    raw = make().as_bytes()
    made = make_event(raw=raw).mail
    read = read_facts(region(raw), trusted=(), text_limit=10_000).to_json()
    assert _comparable(mail_fields(made)) == _comparable(read)
    assert bool(made.evidence) == bool(read["evidence"])


def _comparable(fields: dict[str, Any]) -> dict[str, Any]:
    told = {name: fields[name] for name in _ALIKE}
    for name in ("in_reply_to", "references", "reply_to", "delivered_to", "parts"):
        told[name] = list(told[name])
    told["text"] = told["text"].split()  # which lines an HTML has is the reader's own affair
    return told


def test_a_name_that_is_too_long_keeps_its_extension() -> None:
    raw = _with_files().as_bytes()
    read = read_facts(region(raw), trusted=(), text_limit=0)
    assert "a" * 251 + ".pdf" in [one.name for one in read.parts]


def test_an_internationalised_address_is_in_it() -> None:
    """RFC 6532: raw UTF-8, as no other form of it is the same address."""
    event = make_event(sender="jörg@bücher.example", sender_name="Jörg", to=["ü@x.example"])
    assert event.headers.sender == "jörg@bücher.example"
    read = read_headers(header_octets(event.raw_bytes()))
    assert (read.sender_name, read.sender, read.to) == (
        "Jörg",
        "jörg@bücher.example",
        ("ü@x.example",),
    )


def test_a_kind_that_is_given_stands() -> None:
    event = make_event(raw=_with(Auto_Submitted="auto-replied").as_bytes(), kind="person")
    assert event.mail.kind == "person"
    assert not event.is_automatic
