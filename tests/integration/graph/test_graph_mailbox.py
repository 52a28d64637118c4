"""What only a Graph mailbox has: delta links, immutable ids, odd items, clouds, delegates."""

from __future__ import annotations

import email
import email.policy

import pytest

from shared.connections import AfterDownload, Selection
from shared.errors import NeedsPerson
from shared.mailbox.failures import FolderMissing
from shared.mailbox.graph import mailbox as graph_mailbox
from tests.contract.mailbox_kinds import mail, subject_of
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.graph.conftest import ALICE, Office
from tests.servers.graph.mailboxes import Attachment, Folder

LIMIT = 1 << 20
UNREAD, ALL = Selection.UNREAD, Selection.ALL


@pytest.mark.promise("M9")
def test_a_delta_link_finds_what_came_since_with_one_request(office: Office) -> None:
    office.box.deliver([mail("old")], read=True)
    mailbox = office.open(selection=ALL)
    mailbox.open("")
    known = KnownKeys()
    first = mailbox.list_new(known, ALL)
    known.add(first.new)
    office.server.requests.clear()
    assert mailbox.changed_since("", first.cursor) is None
    assert len(office.server.requests) == 1
    office.box.deliver([mail("new and read")], read=True)
    office.box.mark(str(first.new[0].key), read=False)  # no news: changeType=created
    assert mailbox.changed_since("", first.cursor) is not None
    listing = mailbox.list_new(known, ALL, cursor=first.cursor)
    assert [ref.arrived is not None for ref in listing.new] == [True]
    known.add(listing.new)
    assert mailbox.changed_since("", listing.cursor) is None


@pytest.mark.promise("M9")
def test_an_expired_delta_link_begins_anew_without_repeats(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(300))
    mailbox = office.open(selection=ALL)
    mailbox.open("")
    known = KnownKeys()
    first = mailbox.list_new(known, ALL)
    known.add(first.new)
    office.box.deliver([mail("later")])
    broken = {**first.cursor, "delta": first.cursor["delta"] + "x"}
    assert mailbox.changed_since("", broken) is not None
    listing = mailbox.list_new(known, ALL, cursor=broken)
    assert (listing.new_count, listing.known) == (1, 300)
    known.add(listing.new)
    assert mailbox.changed_since("", listing.cursor) is None


@pytest.mark.promise("M9")
def test_an_idle_poll_of_unread_mails_is_one_request(office: Office) -> None:
    office.box.deliver([mail("one")])
    mailbox = office.open()
    mailbox.open("")
    listing = mailbox.list_new(KnownKeys(), UNREAD)
    settled = mailbox.settle(listing.new, AfterDownload.MARK_READ)
    cursor = mailbox.cursor_after(listing.cursor, settled, AfterDownload.MARK_READ)
    office.server.requests.clear()
    assert mailbox.changed_since("", cursor) is None
    assert len(office.server.requests) == 1


@pytest.mark.promise("M10")
def test_a_mail_that_was_moved_out_and_back_in_is_still_known(office: Office) -> None:
    (item,) = office.box.deliver([mail("wanderer")])
    mailbox = office.open()
    mailbox.open("")
    known = KnownKeys()
    known.add(mailbox.list_new(known, UNREAD).new)
    office.box.move(item.id, office.box.create("Elsewhere"))
    assert mailbox.list_new(known, UNREAD).total == 1  # the counts of when it was opened
    office.box.move(item.id, office.box.inbox)
    listing = mailbox.list_new(known, UNREAD)
    assert (listing.new, listing.reset) == ((), 1)


@pytest.mark.promise("M2")
@pytest.mark.parametrize("selection", [UNREAD, Selection.ALL])
def test_a_folder_that_was_deleted_and_made_anew_is_read(
    office: Office, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who deletes a folder moves it to the deleted items, where its id stays: a session that is
    kept would look there for ever, where nothing comes."""
    old = office.box.folders[office.box.create("Orders")]
    office.box.deliver([mail("before")], folder="Orders")
    mailbox = office.open(selection=selection)
    known = KnownKeys()
    mailbox.open("Orders")
    listing = mailbox.list_new(known, selection)
    known.add(listing.new)
    cursor = listing.cursor
    old.parent = office.box.deleted
    new = Folder("another-id", "Orders")
    office.box.folders[new.id] = new
    office.box.deliver([mail("after")], folder="Orders")
    monkeypatch.setattr(graph_mailbox, "FOLDER_S", 0.0)
    assert mailbox.changed_since("Orders", cursor) is not None
    mailbox.open("Orders")
    assert len(mailbox.list_new(known, selection, cursor=cursor).new) == 1


@pytest.mark.promise("M7")
@pytest.mark.parametrize(("asked", "offered", "gone"), [(False, True, False), (True, True, True)])
def test_deleting_is_soft_unless_the_connection_asks(
    office: Office, asked: bool, offered: bool, gone: bool
) -> None:
    (item,) = office.box.deliver([mail("delete me")])
    office.server.permanent_delete = offered
    mailbox = office.open(permanent_delete=asked)
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    assert len(mailbox.settle(refs, AfterDownload.DELETE)) == 1
    assert (item.id not in office.box.items) is gone
    if not gone:
        assert office.box.items[item.id].folder == office.box.deleted


@pytest.mark.promise("M12")
def test_a_national_cloud_deletes_softly(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.server.permanent_delete = False
    (item,) = office.box.deliver([mail("delete me")])
    mailbox = office.open(permanent_delete=True)
    monkeypatch.setattr(mailbox._graph, "host", "graph.microsoft.us")
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    assert len(mailbox.settle(refs, AfterDownload.DELETE)) == 1
    assert office.box.items[item.id].folder == office.box.deleted


@pytest.mark.promise("M5")
def test_folders_by_path_and_near_matches(office: Office) -> None:
    office.box.create("Main/Sub")
    office.box.create("It's/ours")
    office.box.deliver([mail("deep")], "Main/Sub/Deep")
    office.box.deliver([mail("below")], "Inbox/Below")
    mailbox = office.open()
    for path in ("Main/Sub/Deep", "main/sub/deep", "INBOX/Below", "Inbox/Below"):
        assert mailbox.open(path).total == 1
    assert mailbox.open("It's/ours").total == 0
    with pytest.raises(FolderMissing) as missing:
        mailbox.open("Main/Deep")
    assert "Main/Sub/Deep" in missing.value.near
    names = {folder.name for folder in mailbox.folders()}
    assert {"INBOX", "INBOX/Below", "Main", "Main/Sub", "Main/Sub/Deep"} <= names


@pytest.mark.promise("M11")
def test_a_shared_mailbox_is_read_with_the_token_of_its_delegate(office: Office) -> None:
    shared = office.server.mailbox("info@example.org")
    shared.deliver([mail("for all")])
    office.token = office.server.token(ALICE, "Mail.ReadWrite.Shared")
    with pytest.raises(NeedsPerson) as refused:
        office.open(shared_mailbox="info@example.org")
    assert refused.value.code == "access-denied"
    shared.delegates.add(ALICE)
    mailbox = office.open(shared_mailbox="info@example.org")
    assert mailbox.open("").total == 1


@pytest.mark.promise("A3")
def test_an_application_reads_the_mailboxes_its_policy_covers(office: Office) -> None:
    office.box.deliver([mail("one")])
    office.token = office.server.token(None, "Mail.ReadWrite")
    assert office.open().open("").total == 1
    office.server.access_policy = {"other@example.org"}
    with pytest.raises(NeedsPerson) as refused:
        office.open()
    assert refused.value.code == "access-policy"
    with pytest.raises(NeedsPerson) as refused:
        office.open(username="nobody@example.org")
    assert refused.value.code == "mailbox-missing"


@pytest.mark.promise("H4")
def test_an_item_without_mime_form_becomes_a_mail_of_its_properties(office: Office) -> None:
    office.box.deliver([mail("before")])
    office.box.deliver(
        [None],
        kind="eventMessageRequest",
        properties={
            "subject": "Bespräch am Montag",
            "from": {"emailAddress": {"name": "Jörg", "address": "j@example.org"}},
            "toRecipients": [{"emailAddress": {"name": "Alice", "address": ALICE}}],
            "internetMessageId": "<meeting@example.org>",
            "internetMessageHeaders": [
                {"name": "X-Room", "value": "blue"},
                {"name": "Content-Type", "value": "text/calendar"},
            ],
            "body": {"contentType": "html", "content": "<p>Um zehn — bitte kommen</p>"},
        },
        attachments=[
            Attachment("agenda ü.pdf", bytes(range(256)) * 300, "application/pdf"),
            Attachment("note", mail("attached mail"), kind="itemAttachment"),
            Attachment("link", b"", kind="referenceAttachment"),
        ],
    )
    office.box.deliver([mail("after")])
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    sink = Collector()
    mailbox.download(refs, sink, limit=LIMIT)
    assert sink.abandoned == {}
    raw = list(sink.mails.values())[1]
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message["Subject"] == "Bespräch am Montag"
    assert "j@example.org" in message["From"]
    assert (message["Message-ID"], message["X-Room"]) == ("<meeting@example.org>", "blue")
    assert "ErrorMimeContentConversionFailed" in message["X-Posthouse-Rebuilt"]
    body, pdf, attached, link = message.iter_parts()
    assert "Um zehn — bitte kommen" in body.get_content()
    assert body.get_content_type() == "text/html"
    assert pdf.get_filename() == "agenda ü.pdf"
    assert pdf.get_content() == bytes(range(256)) * 300
    assert attached.get_content()["Subject"] == "attached mail"
    assert link.get_filename() == "link"
    headers = dict(mailbox.headers(refs))
    assert subject_of(headers[refs[0]]) == "before"
    assert b"X-Posthouse-Rebuilt" in headers[refs[1]]


@pytest.mark.promise("H4")
def test_an_item_that_graph_gives_in_no_form_is_abandoned_alone(office: Office) -> None:
    office.box.deliver([mail("one")])
    (broken,) = office.box.deliver([None])
    office.box.deliver([mail("two")])
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    office.server.fail(
        "/attachments", status=400, code="ErrorCorruptData", message="Corrupt.", times=2
    )
    sink = Collector()
    mailbox.download(refs, sink, limit=LIMIT)
    assert len(sink.mails) == 2
    assert sink.abandoned[broken.id].code == "mail-refused"
    assert "Corrupt" in str(sink.abandoned[broken.id])


@pytest.mark.promise("M2")
def test_every_request_asks_for_immutable_ids_and_shows_no_token(office: Office) -> None:
    office.box.deliver([mail("one")])
    mailbox = office.open()
    mailbox.folders()
    mailbox.open("")
    listing = mailbox.list_new(KnownKeys(), UNREAD)
    mailbox.settle(listing.new, AfterDownload.MARK_READ)
    mailbox.keys()
    log = "\n".join(mailbox.transcript)
    assert "/mailFolders/inbox" in log
    assert office.token not in log
    assert office.server.violations == []


@pytest.mark.promise("M16")
def test_counting_a_large_mailbox_takes_few_requests(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(2500))
    mailbox = office.open()
    mailbox.open("")
    items = list(office.box.items.values())
    known = KnownKeys(item.id for item in items[:100])
    office.server.requests.clear()
    counted = mailbox.list_new(known, UNREAD, limit=0, count_known=True)
    assert (counted.new_count, counted.known, counted.reset) == (2400, 100, 100)
    assert (counted.total, counted.unread) == (2500, 2500)
    assert len(office.server.requests) == 3


@pytest.mark.promise("F3")
@pytest.mark.parametrize(
    "refusal",
    [
        (500, "ErrorMimeContentConversionFailed", "The MIME content could not be converted."),
        (400, "ErrorMimeContentConversionFailed", "Failed to convert the item to MIME."),
        (500, "ErrorInternalServerError", "An internal server error occurred."),
        (501, "ErrorMimeContentInvalid", "The MIME content is invalid."),
        (404, "ErrorItemNotFound", "It has no MIME content."),
        (403, "ErrorAccessDenied", "Access is denied."),
        (409, "ErrorIrresolvableConflict", "The send or update operation could not be performed."),
        (503, "ServiceUnavailable", "The service is unavailable."),
        (504, "UnknownError", ""),
    ],
    ids=lambda refusal: f"{refusal[0]} {refusal[1]}",
)
def test_an_item_with_one_smime_attachment_is_that_mail(
    refusal: tuple[int, str, str], office: Office
) -> None:
    """[MS-OXOSMIME] 2.1.3: Exchange keeps an S/MIME mail as its only attachment."""
    structure = bytes(range(256)) * 600
    office.box.deliver([mail("before")])
    (item,) = office.box.deliver(
        [None],
        properties={
            "subject": "Geheim für Alice",
            "from": {"emailAddress": {"name": "Bob", "address": "bob@example.org"}},
            "toRecipients": [{"emailAddress": {"name": "Alice", "address": ALICE}}],
            "body": {"contentType": "html", "content": ""},
        },
        attachments=[Attachment("smime.p7m", structure, "application/octet-stream")],
    )
    item.mime_error = refusal
    office.box.deliver([mail("after")])
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    sink = Collector()
    mailbox.download(refs, sink, limit=LIMIT)
    assert office.pauses == [], "it is found out at once"
    message = email.message_from_bytes(list(sink.mails.values())[1], policy=email.policy.default)
    assert message.get_content_type() == "application/pkcs7-mime"
    assert message.get_filename() == "smime.p7m"
    assert message.get_content() == structure
    assert message["Subject"] == "Geheim für Alice"
    assert message["From"].addresses[0].addr_spec == "bob@example.org"
    headers = dict(mailbox.headers(refs))
    assert b"application/pkcs7-mime" in headers[refs[1]]


@pytest.mark.promise("F3")
@pytest.mark.parametrize(
    ("before", "media"),
    [
        (b"", "multipart/signed"),
        (b"MIME-Version: 1.0\r\n", "multipart/signed"),
        (b"MIME-Version: 1.0\r\n", "application/octet-stream"),
    ],
)
def test_an_item_with_one_signed_attachment_is_that_mail(
    before: bytes, media: str, office: Office
) -> None:
    signed = before + (
        b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary=b\r\n'
        b"\r\n--b\r\n\r\nHello\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\r\nx"
        b"\r\n--b--"
    )
    (item,) = office.box.deliver(
        [None],
        properties={
            "subject": "Signed",
            "body": {"contentType": "text", "content": "Hello, as Outlook shows it"},
        },
        attachments=[Attachment("smime.p7m", signed, media)],
    )
    item.mime_error = (500, "ErrorMimeContentConversionFailed", "No.")
    mailbox = office.open()
    mailbox.open("")
    sink = Collector()
    mailbox.download(mailbox.list_new(KnownKeys(), UNREAD).new, sink, limit=LIMIT)
    (raw,) = sink.mails.values()
    assert raw.endswith(signed)
    message = email.message_from_bytes(raw)
    assert message.get_content_type() == "multipart/signed"
    assert message.get_all("MIME-Version") == ["1.0"]


@pytest.mark.promise("F3")
def test_other_attachments_make_no_smime_mail(office: Office) -> None:
    for attachments in (
        [Attachment("smime.p7m", b"x"), Attachment("note.txt", b"y")],
        [Attachment("invoice.p7m", b"x")],
        [Attachment("smime.p7s", b"x", "application/pkcs7-signature")],
        [],
    ):
        (item,) = office.box.deliver(
            [None],
            properties={"subject": "x", "body": {"contentType": "text", "content": "text"}},
            attachments=attachments,
        )
        item.mime_error = (500, "ErrorMimeContentConversionFailed", "No.")
    mailbox = office.open()
    mailbox.open("")
    sink = Collector()
    mailbox.download(mailbox.list_new(KnownKeys(), UNREAD).new, sink, limit=LIMIT)
    assert len(sink.mails) == 4
    for raw in sink.mails.values():
        assert email.message_from_bytes(raw).get_content_type() == "multipart/mixed"
    assert office.pauses == []
