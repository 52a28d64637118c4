"""What a handler does with a mail: its text, its files, an answer in its thread."""

from __future__ import annotations

from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from posthouse import MailEvent, NoSuchPart, PosthouseError
from posthouse.event_data import Headers
from posthouse.mail import Address, Mail, Part
from posthouse.testing import make_event

pytestmark = pytest.mark.promise("F5")


def event(parts: tuple[Part, ...] = (), **changes: object) -> MailEvent:
    inner = EmailMessage()
    inner["Subject"] = "forwarded"
    inner.set_content("inside\n")
    inner.add_attachment(b"\x00deep", maintype="image", subtype="png", filename="d.png")
    mail = EmailMessage()
    mail["From"] = "ann@example.org"
    mail.set_content("Hello\n", charset="iso-8859-1")
    mail.add_alternative("<p>Größe</p>", subtype="html", charset="iso-8859-1")
    mail.add_attachment(b"\xff\x00file", maintype="application", subtype="pdf", filename="a.pdf")
    mail.add_attachment(inner)
    made = make_event(raw=mail.as_bytes())
    return replace(made, mail=Mail(parts=parts, html="1.2", **changes))  # type: ignore[arg-type]


HTML = Part("1.2", "text/html", charset="iso-8859-1")


@pytest.mark.parametrize(
    ("path", "octets"),
    [("1.1", b"Hello\n"), ("2", b"\xff\x00file"), ("3.1", b"inside\n"), ("3.2", b"\x00deep")],
)
def test_a_part_is_had_by_its_path(path: str, octets: bytes) -> None:
    with event().open_part(path) as stream:
        assert stream.read() == octets


def test_the_message_in_a_mail_is_a_part_itself() -> None:
    assert b"Subject: forwarded" in event().open_part("3").read()


@pytest.mark.parametrize("path", ["", "1", "4", "2.1", "3.3", "../2"])
def test_a_part_that_is_not_there_is_said(path: str) -> None:
    with pytest.raises(NoSuchPart) as raised:
        event().open_part(path)
    assert isinstance(raised.value, (PosthouseError, LookupError))


def test_html_is_decoded_as_its_part_says() -> None:
    assert event((HTML,)).html().strip() == "<p>Größe</p>"
    assert event((replace(HTML, charset="x-none"),)).html().strip() == "<p>Größe</p>"
    assert replace(event(), mail=Mail()).html() == ""


def test_the_message_is_one_of_pythons() -> None:
    body = event().message().get_body(("plain",))
    assert body is not None
    assert body.get_content() == "Hello\n"


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("a.pdf", "a.pdf"),
        ("", "part-2"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\x.doc", "C_x.doc"),
        (".", "part-2"),
        ("a" * 132 + ".pdf", "a" * 132 + ".pdf"),
        ("ö" * 300 + ".pdf", "ö" * 66 + ".pdf"),
        ("ö" * 300 + ".日本語", "ö" * 63 + ".日本語"),
        ("ö" * 300 + ". a sentence", "ö" * 68),
        ("a.\x00b", "a._b"),
    ],
)
def test_attachments_are_saved_in_the_folder_and_nowhere_else(
    name: str, saved: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (attachment,) = event((HTML, Part("2", "application/pdf", name, "attachment"))).attachments
    first, second = attachment.save(folder), attachment.save(folder)
    assert first == folder / saved
    assert first.read_bytes() == second.read_bytes() == b"\xff\x00file"
    assert first != second
    assert len(second.name.encode()) <= 143  # the most that eCryptfs has
    assert sorted(tmp_path.rglob("*")) == sorted([folder, first, second])


def test_a_file_that_could_not_be_had_is_not_left_by_half(tmp_path: Path) -> None:
    (attachment,) = event((Part("9", "application/pdf", "x.pdf"),)).attachments
    with pytest.raises(NoSuchPart):
        attachment.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_belongs_to_its_thread() -> None:
    references = tuple(f"<{n}@x>" for n in range(60))
    asked = replace(
        event(references=references, reply_to=(Address("Team, A", "team@example.org"),)),
        headers=Headers("<own@x>", "ann@example.org", subject="Order"),
    )
    headers = asked.reply_headers()
    assert headers["To"] == '"Team, A" <team@example.org>'
    assert headers["Subject"] == "Re: Order"
    assert headers["In-Reply-To"] == "<own@x>"
    ids = headers["References"].split()
    assert (ids[0], ids[-2:], len(ids)) == ("<0@x>", ["<59@x>", "<own@x>"], 22)
    for before, told in ((("<0@x>",), "<0@x> <own@x>"), (("<0@x>", "<1@x>"), "<own@x>")):
        first = replace(asked, mail=replace(asked.mail, references=(), in_reply_to=before))
        assert first.reply_headers()["References"] == told
    answered = replace(asked, headers=Headers("", "a@b", subject="RE: Order"))
    assert answered.reply_headers() == {"To": headers["To"], "Subject": "Re: Order"}


@pytest.mark.parametrize(
    ("author", "to"),
    [
        (Address("", "j@bücher.example"), "j@bücher.example"),
        (Address("Jo, A", "jürgen@b.example"), '"Jo, A" <jürgen@b.example>'),
        (Address("Jürgen", "j@bücher.example"), "=?utf-8?q?J=C3=BCrgen?= <j@bücher.example>"),
    ],
)
def test_an_answer_goes_to_an_internationalised_address(author: Address, to: str) -> None:
    asked = replace(event(), mail=replace(event().mail, reply_to=(author,)))
    answer = EmailMessage()
    answer["To"] = asked.reply_headers()["To"]
    assert asked.reply_headers()["To"] == to
    (found,) = answer["To"].addresses
    assert (found.display_name, found.addr_spec) == (author.name, author.address)


@pytest.mark.parametrize(
    ("subject", "answer"),
    [
        ("Order", "Re: Order"),
        ("", "Re:"),
        ("RE: Order", "Re: Order"),
        ("Re: AW: Order", "Re: Order"),
        ("AW: Re[2]: WG: Order", "Re: WG: Order"),
        ("SV : Order", "Re: Order"),
        ("Odp: Antw: Order", "Re: Order"),
        ("回复：Order", "Re: Order"),
        ("Fwd: Re: Order", "Re: Fwd: Re: Order"),
        ("Research: Order", "Re: Research: Order"),
        ("Re:", "Re:"),
    ],
)
def test_the_subject_of_an_answer_has_one_prefix_whatever_the_language(
    subject: str, answer: str
) -> None:
    asked = replace(event(), headers=Headers("<own@x>", "ann@example.org", subject=subject))
    assert asked.reply_headers()["Subject"] == answer


@pytest.mark.parametrize(
    ("kind", "automatic"),
    [("person", False), ("calendar", False), ("auto-reply", True), ("bounce", True),
     ("list", True), ("receipt", True), ("complaint", True), ("news", False)],
)  # fmt: skip
def test_machines_are_told_from_people(kind: str, automatic: bool) -> None:
    assert event(kind=kind).is_automatic is automatic
    # Whoever sent it: who answers all the same may answer a machine that answers, for ever.
    assert event(kind=kind, auto_reply_suppressed=True).is_automatic
