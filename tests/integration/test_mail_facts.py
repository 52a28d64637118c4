"""Facts of a mail, from a mailbox to its event: small, large, encrypted, and broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from posthouse import MailEvent
from posthouse.mail import mail_fields
from shared.mail.kinds import MailKind
from shared.storage import message_search
from shared.storage.message_filter import MessageFilter
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.promise("F4")

_SCHEMA = Path(__file__).parents[2] / "sdk" / "schema" / "mail-received.v1.json"


def ticket(attachment: bytes) -> bytes:
    mail = EmailMessage()
    mail["From"] = '"Example, Ann" <ann@example.org>'
    mail["To"] = "Support <support+4711@example.com>"
    mail["Delivered-To"] = "support+4711@example.com"
    mail["Subject"], mail["Message-ID"] = "Order", f"<{len(attachment)}@example.org>"
    mail["References"], mail["In-Reply-To"] = (
        "<root@example.com> <last@example.com>",
        "<last@example.com>",
    )
    mail.set_content("Dear support,\n\nplease see the file.\n")
    mail.add_alternative("<p>Dear <b>support</b></p>", subtype="html")
    mail.add_attachment(attachment, maintype="application", subtype="pdf", filename="Größe.pdf")
    return mail.as_bytes()


BROKEN = (
    b"From: x\r\nContent-Type: multipart/mixed; boundary=\r\nReferences: <\r\n"
    b"Auto-Submitted: \xff\xfe\r\n\r\n--\r\n\x00\xff\r\n"
)


def test_every_event_has_the_facts_of_its_mail(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    small, large = ticket(b"x" * 1000), ticket(b"y" * 900_000)
    dovecot.deliver(mail_user, [small, large, BROKEN])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(3)
    validator = jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text()))
    events = {}
    for wire in open_queue(redis_url, "archive").events():
        validator.validate(wire)
        event = MailEvent.from_json(json.dumps(wire))
        events[event.headers.message_id] = event
        assert not event.mail.problem
        # What the SDK knows of the facts is all that there is.
        assert json.loads(json.dumps(mail_fields(event.mail))) == wire["data"]["mail"] | {
            "problem": ""
        }
    for size in (1000, 900_000):
        event = events[f"<{size}@example.org>"]
        assert (event.raw.inline is None) == (size > 65_536)
        mail = event.mail
        assert [(one.path, one.content_type, one.name, one.size) for one in mail.parts] == [
            ("1.1", "text/plain", "", 39),
            ("1.2", "text/html", "", 28),
            ("2", "application/pdf", "Größe.pdf", size),
        ]
        assert [one.path for one in mail.attachments] == ["2"]
        assert mail.text == "Dear support,\n\nplease see the file."
        assert (mail.html, mail.kind, mail.thread) == ("1.2", "person", "<root@example.com>")
        assert mail.in_reply_to == ("<last@example.com>",)
        assert mail.delivered_to[0].tag == "4711"
        assert [(one.name, one.address) for one in mail.senders] == [
            ("Example, Ann", "ann@example.org")
        ]
        assert mail.arrived_at is not None
    broken = events[""].mail
    assert broken.senders == ()
    assert {one.kind for one in broken.findings} >= {"malformed-boundary", "missing-author"}


def test_results_of_the_servers_that_a_connection_trusts_alone(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """The topmost field of such a server counts, and a spam verdict above it; what a sender wrote
    below them, in any server's name, does not."""
    own = (
        b"X-Spam-Status: Yes, score=7.1\r\n"
        b"Authentication-Results: MX.example.com; dmarc=fail header.from=example.org\r\n"
    )
    forged = (
        b"X-Spam-Flag: NO\r\nAuthentication-Results: mx.example.com; dmarc=pass\r\n"
        b"Authentication-Results: mx.stranger.example; dkim=pass\r\n"
    )
    rest = b"From: a@example.org\r\n\r\nx\r\n"
    dovecot.deliver(mail_user, [own + forged + rest])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user, trusted_servers="mx.example.com, backup.example.com")
    stack.wait_settled(1)
    (event,) = open_queue(redis_url, "archive").events()
    assert event["data"]["mail"]["authentication"] == [
        {"method": "dmarc", "result": "fail", "domain": "example.org"}
    ]
    assert event["data"]["mail"]["spam"] == {"verdict": "spam", "score": 7.1}


WIDE = "".join(map(chr, range(0x4E00, 0x4E00 + 950)))


def note(number: int, **fields: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"], mail["Message-ID"] = (
        "a@example.org",
        str(number),
        f"<{number}@x>",
    )
    for name, value in fields.items():
        mail[name.replace("_", "-")] = value
    mail.set_content("Hello\n")
    if "X_File" in fields:
        mail.add_attachment(b"x", maintype="image", subtype="png", filename="a.png")
    return mail.as_bytes()


@pytest.mark.promise("F1", "H3")
def test_the_ledger_finds_mails_by_kind_attachments_and_thread(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """What the list says of a mail is what its event says; services have their own roles here."""
    mails = [
        note(1, X_File="yes"),
        note(2, References="<1@x>", In_Reply_To="<1@x>"),
        note(3, References="<1@x> <2@x>", X_File="yes"),
        note(4, In_Reply_To="<1@x>", Auto_Submitted="auto-replied"),
        note(5, List_Id="<news.example.org>"),
        note(6, References="<0@x>"),
        b"From: a@example.org\r\nSubject: 7\r\n\r\nno message id\r\n",
        b"From: a@example.org\r\nSubject: 8\r\nMessage-ID: 8@x\r\n\r\nno brackets\r\n",
        # Longer than any index of the ledger would take.
        f"From: a@example.org\r\nSubject: 9\r\nMessage-ID: <{WIDE}1@x>\r\n"
        f"References: <{WIDE}2@x>\r\n\r\n".encode(),
    ]
    dovecot.deliver(mail_user, mails)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(len(mails))
    stack.stop()
    events = {one["id"]: one["data"] for one in open_queue(redis_url, "archive").events()}

    def found(**wanted: Any) -> set[str]:
        with stack.database.transaction() as session:
            page = message_search.search(session, MessageFilter(**wanted)).items
        for one in page:
            told = events[str(one.id)]["mail"]
            files = [part for part in told["parts"] if part["name"]]
            said = (one.kind, one.attachments, one.thread)
            assert said == (told["kind"], len(files), told["thread"])
        return {one.subject for one in page}

    assert len(found()) == len(mails)
    assert found(kind=MailKind.AUTO_REPLY) == {"4"}
    assert found(kind=MailKind.LIST) == {"5"}
    assert found(kind=MailKind.PERSON) == {"1", "2", "3", "6", "7", "8", "9"}
    assert found(kind=MailKind.BOUNCE) == set()
    assert found(has_attachment=True) == {"1", "3"}
    assert found(has_attachment=False) == {"2", "4", "5", "6", "7", "8", "9"}
    assert found(has_attachment=True, kind=MailKind.LIST) == set()
    assert found(thread="<1@x>") == found(thread="1@x") == {"1", "2", "3", "4"}
    assert found(thread="<2@x>") == set()
    assert found(thread="<0@x>") == {"6"}
    assert found(thread="8@x") == {"8"}
