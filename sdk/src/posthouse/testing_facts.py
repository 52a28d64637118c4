"""The facts of a mail for tests of handlers, as Python's `email` and the RFCs tell them.

Posthouse reads mails with a reader of its own, which knows more broken forms, and more of the
fields that vendors set. What is told here is told in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from email.message import EmailMessage, Message
from email.utils import getaddresses
from html.parser import HTMLParser
from typing import Final

from posthouse import tnef
from posthouse.contents import decoded_text, read_message
from posthouse.file_names import safe_name
from posthouse.flowed import is_flowed, joined
from posthouse.mail import Address, Evidence, Mail, Part, Recipient
from posthouse.mime_parts import MESSAGE_TYPES, Leaf, leaves
from posthouse.testing_bounces import bounce_of

_MESSAGE_ID: Final = re.compile(r"<[^<>\s]+>")
#: Report types (RFC 6522 section 3): RFC 3464, 8098, 5965.
_REPORTS: Final = {
    "delivery-status": "bounce",
    "disposition-notification": "receipt",
    "feedback-report": "complaint",
}
#: RFC 2919 and 2369.
_OF_LISTS: Final = ("list-id", "list-post", "list-unsubscribe", "list-help", "list-archive")
_ENVELOPE: Final = ("delivered-to", "x-original-to", "envelope-to")


def facts_of(raw: bytes, kind: str | None = None) -> Mail:
    """The facts of a mail; of the kind that its fields say, or of `kind`, then without evidence."""
    mail = read_message(raw)
    found = list(leaves(raw))
    told, evidence = kind_of(mail, found) if kind is None else (kind, ())
    ids = {
        name: tuple(_MESSAGE_ID.findall(str(mail[name] or "")))
        for name in ("references", "in-reply-to", "message-id")
    }
    thread = ids["references"] or ids["in-reply-to"] or ids["message-id"]
    sender = _addresses(mail, "sender")
    parts = tuple(one for leaf in found for one in _facts(leaf))
    bounce = None
    if told == "bounce":
        bounce = bounce_of(found)
        told = "receipt" if bounce is None and kind is None else told
        answered = (ids["in-reply-to"] or ids["references"])[-1:]
        if bounce is not None and not bounce.original_message_id and answered:
            bounce = replace(bounce, original_message_id=answered[0])
    body = mail.get_body(("plain", "html"))
    is_html = body is not None and body.get_content_subtype() == "html"
    text = "" if body is None else _text(body)
    return Mail(
        senders=_addresses(mail, "from"),
        to=_addresses(mail, "to"),
        cc=_addresses(mail, "cc"),
        reply_to=_addresses(mail, "reply-to"),
        sender=sender[0] if sender else None,
        return_path=_return_path(mail),
        delivered_to=tuple(_recipients(mail)),
        in_reply_to=ids["in-reply-to"],
        references=ids["references"],
        thread=thread[0] if thread else "",
        list_id=str(mail["list-id"] or "").rpartition("<")[2].strip(" >"),
        kind=told,
        evidence=evidence,
        auto_reply_suppressed=_suppresses(mail),
        bounce=bounce,
        parts=parts,
        text=_text_of_html(text) if is_html else text,
        text_is_from_html=is_html,
        html=next((one.path for one in parts if one.content_type == "text/html"), ""),
        folder="INBOX",
    )


def kind_of(mail: EmailMessage, parts: Sequence[Leaf]) -> tuple[str, tuple[Evidence, ...]]:
    """Who or what sent a mail, by the RFCs alone, and the field that says so."""
    report = mail.get_param("report-type") if mail.get_content_type() == "multipart/report" else ""
    if (kind := _REPORTS.get(str(report).lower())) is not None:
        return kind, (Evidence("content-type", str(mail["content-type"])),)
    if any(part.media_type == "text/calendar" and _is_invitation(part, parts) for part in parts):
        return "calendar", (Evidence("content-type", "text/calendar"),)
    said = str(mail["auto-submitted"] or "no")  # RFC 3834 section 5
    word = said.lower().partition(";")[0].partition("(")[0].strip()
    listed = next((name for name in _OF_LISTS if mail[name]), None)
    if listed is not None and "repl" not in word:
        return "list", (Evidence(listed, str(mail[listed])),)
    if word != "no":
        return "auto-reply", (Evidence("auto-submitted", said),)
    precedence = str(mail["precedence"] or "").strip()
    if precedence.lower() == "auto_reply":
        return "auto-reply", (Evidence("precedence", precedence),)
    if mail["return-path"] is not None and not str(mail["return-path"]).strip(" <>"):
        authors = [one.address.partition("@")[0].lower() for one in _addresses(mail, "from")]
        bounced = not authors or authors[0] in ("mailer-daemon", "postmaster")
        return "bounce" if bounced else "auto-reply", (Evidence("return-path", "<>"),)
    if mail.get_content_type() == "multipart/report":  # of another type (RFC 6522)
        return "auto-reply", (Evidence("content-type", str(mail["content-type"])),)
    if precedence.lower() in ("bulk", "junk"):
        answers = mail["in-reply-to"] is not None or mail["references"] is not None
        return "auto-reply" if answers else "list", (Evidence("precedence", precedence),)
    return "person", ()


def _is_invitation(calendar: Leaf, parts: Sequence[Leaf]) -> bool:
    """Whether a calendar is for programs to act on (RFC 6047 section 2.4), and of this mail: none
    that is attached, or lies in a message that is."""
    header = read_message(calendar.header)
    messages = [one.path + "." for one in parts if one.media_type in MESSAGE_TYPES]
    return (
        header.get_param("method") is not None
        and header.get_content_disposition() != "attachment"
        and not calendar.path.startswith(tuple(messages))
    )


def _suppresses(mail: EmailMessage) -> bool:
    """[MS-OXCMAIL] section 2.1.3.2.20."""
    words = str(mail["x-auto-response-suppress"] or "").lower().split(",")
    return not {"all", "autoreply", "oof"}.isdisjoint(word.strip() for word in words)


def _addresses(mail: EmailMessage, name: str) -> tuple[Address, ...]:
    field = mail[name]
    found = getattr(field, "addresses", ()) if field else ()
    return tuple(Address(one.display_name, one.addr_spec) for one in found)


def _return_path(mail: EmailMessage) -> Address | None:
    """Its address is "" of the null return path (RFC 5321 section 4.5.5)."""
    path = mail["return-path"]
    return None if path is None else Address("", str(path).strip(" <>"))


def _recipients(mail: EmailMessage) -> Iterator[Recipient]:
    values = [str(value) for name in _ENVELOPE for value in mail.get_all(name, [])]
    names: dict[str, str] = {}
    for name, address in getaddresses(values):
        if address:
            names[address] = names.get(address) or name
    for address, name in names.items():
        yield Recipient(name, address, address.rpartition("@")[0].partition("+")[2])


def _facts(leaf: Leaf) -> Iterator[Part]:
    """Of a part, and of the files that a winmail.dat packs."""
    header = read_message(leaf.header)
    octets, path, content_type = leaf.content, leaf.path, leaf.media_type
    name = header.get_filename() or ""
    yield Part(
        path=path,
        content_type=content_type,
        name=safe_name(name),
        disposition=header.get_content_disposition() or "",
        content_id=str(header["content-id"] or "").strip("<> "),
        size=len(octets),
        charset=(header.get_content_charset() or "us-ascii")
        if content_type.startswith("text/")
        else "",
    )
    if tnef.is_packed(content_type, name):
        for number, file in enumerate(tnef.packed_files([octets]), 1):
            yield Part(
                f"{path}.{number}",
                file.content_type,
                safe_name(file.name),
                "attachment",
                file.content_id,
                file.size,
            )


def _text(body: Message) -> str:
    content = body.get_payload(decode=True)
    octets = content if isinstance(content, bytes) else b""
    text = decoded_text(octets, body.get_content_charset() or "us-ascii").replace("\r\n", "\n")
    told = {name: str(body.get_param(name, "")) for name in ("format", "delsp")}
    is_plain = body.get_content_type() == "text/plain"
    return joined(text, told) if is_plain and is_flowed(told) else text


def _text_of_html(html: str) -> str:
    reader = _TextOfHtml()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.pieces).split("\n"))
    return "\n".join(line for line in lines if line)


class _TextOfHtml(HTMLParser):
    _HIDDEN: Final = ("script", "style", "title")

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden = 0
        #: How many items each list has so far that is open; None where they have no numbers.
        self._lists: list[int | None] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in self._HIDDEN
        if tag in ("br", "div", "h1", "h2", "h3", "li", "p", "tr"):
            self.pieces.append("\n")
        if tag in ("ol", "ul"):
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self.pieces.append(self._mark())

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self._HIDDEN
        if tag in ("ol", "ul") and self._lists:
            self._lists.pop()
            self.pieces.append("\n")

    def _mark(self) -> str:
        """What stands before an item of a list."""
        count = self._lists[-1] if self._lists else None
        if count is None:
            return "• "
        self._lists[-1] = count + 1
        return f"{count + 1}. "

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(" ".join(data.split("\n")))
