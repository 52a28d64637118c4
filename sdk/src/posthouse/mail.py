"""What a mail is (`data.mail` of an event): typed, read tolerantly, with defaults for what is not
there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from email.utils import formataddr
from typing import Any, TypeVar

_T = TypeVar("_T")
#: Stands for an address while its name is written.
_ASCII = "a@b"

#: Kinds of mails that a program sent; nobody waits for an answer to them.
AUTOMATIC = frozenset({"auto-reply", "bounce", "receipt", "complaint", "list"})


@dataclass(frozen=True, slots=True)
class Address:
    """A display name (empty where the sender gave none) and an address."""

    name: str
    address: str


def mailbox_of(one: Address) -> str:
    """Name and address as a header field has them (RFC 5322 section 3.4); the address also where it
    is an internationalised one (RFC 6532), which `formataddr` alone refuses."""
    if one.address.isascii():
        return formataddr((one.name, one.address))
    phrase = formataddr((one.name, _ASCII)).removesuffix(f"<{_ASCII}>")
    return f"{phrase}<{one.address}>" if one.name else one.address


@dataclass(frozen=True, slots=True)
class Recipient:
    """An address that a server took the mail for; `tag` stands behind the plus in it. `name` is
    mostly empty, as servers note none."""

    name: str
    address: str
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A header field that says what kind of mail it is."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Bounce:
    """What could not be delivered, or not yet. `action`: `failed`, `delayed` (RFC 3464); `status`
    such as `5.1.1` (RFC 3463); empty where unknown. A report of success is a `receipt`.

    `diagnostic_is_from_text`: no report has the diagnostic, it stands in the text of the bounce.
    """

    action: str = ""
    status: str = ""
    recipient: str = ""
    diagnostic: str = ""
    original_message_id: str = ""
    diagnostic_is_from_text: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a mail. `path` is its number as IMAP counts (`2.1`), `size` octets once decoded.

    `name` is safe as the name of a file, and empty where the sender gave none.
    """

    path: str
    content_type: str
    name: str = ""
    disposition: str = ""
    content_id: str = ""
    size: int = 0
    charset: str = ""

    @property
    def is_attachment(self) -> bool:
        """Whether it is more than a text of the mail itself."""
        return is_attachment(self.disposition, self.name, self.content_type)


@dataclass(frozen=True, slots=True)
class AuthenticationResult:
    """What the mailbox's own server found: `method` (`spf`, `dkim`, `dmarc`, `arc`), `result`."""

    method: str
    result: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Spam:
    """`spam` or `ham`, as the mailbox's own server says, and its score where it gives one."""

    verdict: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What of a mail others may read differently, or nobody can read: a word such as
    `duplicate-from`, and where."""

    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """The facts of one mail, of the form that `raw` stands for.

    `thread` is the provider's id of the thread (Gmail, Microsoft Graph), else its first message id;
    `labels` are Gmail's labels or Outlook's categories when the mail came. `kind`: `person`,
    `auto-reply`, `bounce`, `list`, `calendar`, `receipt`, `complaint`, with its `evidence`.
    `auto_reply_suppressed`: it asks that no automatic reply goes out, whoever sent it.
    `return_path` has the address "" where it is the null return path (a mail that nobody waits for
    an answer to), and is None where no server noted one. `text` is the plain text, or the text of
    the HTML (`text_is_from_html`); `reply_text` is a guess: what of it was written anew in a reply,
    empty where nothing quoted was found; `html` the path of the HTML part, empty where there is
    none.
    """

    senders: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    sender: Address | None = None
    return_path: Address | None = None
    delivered_to: tuple[Recipient, ...] = ()
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    thread: str = ""
    list_id: str = ""
    kind: str = "person"
    evidence: tuple[Evidence, ...] = ()
    auto_reply_suppressed: bool = False
    bounce: Bounce | None = None
    parts: tuple[Part, ...] = ()
    parts_left_off: int = 0
    text: str = ""
    text_truncated: bool = False
    text_is_from_html: bool = False
    reply_text: str = ""
    html: str = ""
    authentication: tuple[AuthenticationResult, ...] = ()
    spam: Spam | None = None
    arrived_at: datetime | None = None
    #: INBOX for the inbox; empty in events of before 0.2, and where it is not told.
    folder: str = ""
    labels: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    #: Why there are no facts, where they could not be read.
    problem: str = ""
    #: Every field as it came.
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_automatic(self) -> bool:
        """Whether no program should answer it: a program sent it (RFC 3834 section 2), or it asks
        for no automatic reply."""
        return self.kind in AUTOMATIC or self.auto_reply_suppressed

    @property
    def attachments(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_attachment)


def is_attachment(disposition: str, name: str, content_type: str) -> bool:
    """Whether a part with these is more than a text of the mail itself.

    A multipart among the parts could not be taken apart (RFC 2046 section 5.1): others show it as
    text, and nobody attached it.
    """
    if disposition == "attachment" or name:
        return True
    return content_type not in ("text/plain", "text/html") and not content_type.startswith(
        "multipart/"
    )


def read_mail(fields: Mapping[str, Any]) -> Mail:
    """Reads `data.mail`. Raises ValueError or TypeError for what has another shape."""
    arrived_at = fields.get("arrived_at")
    spam, bounce, sender = fields.get("spam"), fields.get("bounce"), fields.get("sender")
    return_path = fields.get("return_path")
    return Mail(
        senders=_all(fields, "from", _address),
        to=_all(fields, "to", _address),
        cc=_all(fields, "cc", _address),
        reply_to=_all(fields, "reply_to", _address),
        sender=_address(sender) if sender else None,
        return_path=None if return_path is None else _address(return_path),
        delivered_to=_all(fields, "delivered_to", _recipient),
        in_reply_to=tuple(map(str, fields.get("in_reply_to") or ())),
        references=tuple(map(str, fields.get("references") or ())),
        thread=_text(fields, "thread"),
        list_id=_text(fields, "list_id"),
        kind=_text(fields, "kind") or "person",
        evidence=_all(
            fields, "evidence", lambda one: Evidence(_text(one, "field"), _text(one, "value"))
        ),
        auto_reply_suppressed=bool(fields.get("auto_reply_suppressed")),
        bounce=_bounce(bounce) if bounce else None,
        parts=_all(fields, "parts", _part),
        parts_left_off=int(fields.get("parts_left_off") or 0),
        text=_text(fields, "text"),
        text_truncated=bool(fields.get("text_truncated")),
        text_is_from_html=bool(fields.get("text_is_from_html")),
        reply_text=_text(fields, "reply_text"),
        html=_text(fields, "html"),
        authentication=_all(
            fields,
            "authentication",
            lambda one: AuthenticationResult(
                _text(one, "method"), _text(one, "result"), _text(one, "domain")
            ),
        ),
        spam=Spam(_text(spam, "verdict"), spam.get("score")) if spam else None,
        arrived_at=datetime.fromisoformat(arrived_at) if arrived_at else None,
        folder=_text(fields, "folder"),
        labels=tuple(map(str, fields.get("labels") or ())),
        findings=_all(
            fields, "findings", lambda one: Finding(_text(one, "kind"), _text(one, "detail"))
        ),
        problem=_text(fields, "problem"),
        details=dict(fields),
    )


def mail_fields(mail: Mail) -> dict[str, Any]:
    """The reverse of `read_mail`, for events that are made by hand."""
    fields = asdict(mail)
    del fields["details"]
    fields["from"] = fields.pop("senders")
    fields["arrived_at"] = mail.arrived_at and mail.arrived_at.isoformat()
    return fields


def _all(
    fields: Mapping[str, Any], name: str, read: Callable[[Mapping[str, Any]], _T]
) -> tuple[_T, ...]:
    return tuple(read(one) for one in fields.get(name) or ())


def _address(fields: Mapping[str, Any]) -> Address:
    return Address(_text(fields, "name"), _text(fields, "address"))


def _recipient(fields: Mapping[str, Any]) -> Recipient:
    return Recipient(_text(fields, "name"), _text(fields, "address"), _text(fields, "tag"))


def _bounce(fields: Mapping[str, Any]) -> Bounce:
    return Bounce(
        action=_text(fields, "action"),
        status=_text(fields, "status"),
        recipient=_text(fields, "recipient"),
        diagnostic=_text(fields, "diagnostic"),
        original_message_id=_text(fields, "original_message_id"),
        diagnostic_is_from_text=bool(fields.get("diagnostic_is_from_text")),
    )


def _part(fields: Mapping[str, Any]) -> Part:
    return Part(
        path=_text(fields, "path"),
        content_type=_text(fields, "content_type"),
        name=_text(fields, "name"),
        disposition=_text(fields, "disposition"),
        content_id=_text(fields, "content_id"),
        size=int(fields.get("size") or 0),
        charset=_text(fields, "charset"),
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return "" if value is None else str(value)
