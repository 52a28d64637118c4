"""What is built of an item's properties has all of it: the original may be deleted after it."""

from __future__ import annotations

import email
import json
from typing import Any

import pytest

from shared.errors import TryAgain
from tests.contract.recorders import KnownKeys
from tests.integration.graph.conftest import Office
from tests.integration.graph.test_faults import DELETE, fetch
from tests.servers.graph.mailboxes import Attachment, Item

PDF = bytes(range(256)) * 20
BODY = {"subject": "Offer", "body": {"contentType": "text", "content": "See the attachment."}}


def built(office: Office, **asked: Any) -> email.message.Message:
    """The mail that a fetch which deletes brings."""
    (raw,) = fetch(office.open(**asked), KnownKeys(), DELETE).mails.values()
    return email.message_from_bytes(raw)


def parts_of(mail: email.message.Message) -> list[email.message.Message]:
    parts = mail.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if not isinstance(part, str)]


def is_there(office: Office, item: Item) -> bool:
    return office.box.items[item.id].folder == office.box.inbox


@pytest.mark.promise("M27", "I1")
@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "ServiceUnavailable"), (500, "ErrorInternalServerError"), (400, "ErrorServerBusy")],
)
def test_a_mail_of_properties_lacks_no_attachment_that_comes_later(
    status: int, code: str, office: Office
) -> None:
    """Graph was away for the moment: the mail was handed on without it, and deleted."""
    (item,) = office.box.deliver(
        [None], properties=BODY, attachments=[Attachment("offer.pdf", PDF, "application/pdf")]
    )
    office.server.fail(f"{item.id}/attachments/", status=status, code=code, times=999)
    sink = fetch(office.open(pause_budget=100_000), KnownKeys(), DELETE)
    assert not sink.mails
    assert {reason.code for reason in sink.abandoned.values()} == {"mail-refused"}
    assert is_there(office, item)
    office.server.faults.clear()
    _, attached = parts_of(built(office))
    assert attached.get_payload(decode=True) == PDF
    assert not is_there(office, item)


@pytest.mark.promise("F3")
def test_an_item_with_a_second_page_of_attachments_is_no_smime_mail(office: Office) -> None:
    (item,) = office.box.deliver(
        [None],
        properties=BODY,
        attachments=[Attachment("smime.p7m", b"x"), Attachment("offer.pdf", PDF)],
    )
    first = {"@odata.type": "#microsoft.graph.fileAttachment", "id": "0", "name": "smime.p7m"}
    link = f"{office.server.origin}/v1.0/second-page"
    page = json.dumps({"value": [first], "@odata.nextLink": link}).encode()
    office.server.fail(f"{item.id}/attachments", status=200, content=page)
    names = [part.get_filename() for part in parts_of(built(office))]
    assert names == [None, "smime.p7m", "offer.pdf"]


@pytest.mark.promise("M27", "A4")
def test_a_token_that_is_refused_for_mime_forms_makes_no_mail_of_properties(
    office: Office,
) -> None:
    (item,) = office.box.deliver([b"From: a@example.org\r\nSubject: whole\r\n\r\ntext\r\n"])
    no = {"status": 401, "code": "InvalidAuthenticationToken", "message": "No."}
    office.server.fail("/$value", times=99, **no)
    with pytest.raises(TryAgain) as refused:
        fetch(office.open(), KnownKeys(), DELETE)
    assert refused.value.code == "token-refused"
    assert is_there(office, item)
