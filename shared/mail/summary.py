"""What the ledger, the event, searches and pages say of a mail's header, read once.

Only the few fields that people search by; the first field of a name counts, except that
recipients add up. Whatever the octets are, there is a result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from shared.mail import charsets
from shared.mail.addresses import ADDRESS_LIMIT, Address, AddressList, read_addresses
from shared.mail.dates import read_date
from shared.mail.encoded_words import clean, read_text, shortened
from shared.mail.fields import (
    HEADER_LIMIT,
    HeaderBlock,
    HeaderField,
    Names,
    header_end,
    plain_fields,
    read_fields,
    unfold,
)
from shared.mail.findings import DETAIL_LIMIT, Finding, FindingKind, first_of_each
from shared.mail.parameters import read_parameters

#: Characters of a subject that are kept; one of just so many was longer, or nearly.
SUBJECT_LIMIT: Final = 998
#: Octets of a message id, as long as a line may be: Postgres takes no more than 2,704 in an index.
MESSAGE_ID_LIMIT: Final = 998
#: Octets of a subject or message id that are read.
_VALUE_LIMIT: Final = 16 * 1024
_KINDS: Final = frozenset(FindingKind)
#: What each mail has of its own: the time and number of servers that took it, its program's name.
_OWN: Final = Names("received", "message-id")
_WANTED: Final = Names("message-id", "from", "to", "cc", "subject", "date")
#: What a server that keeps a mailbox in one file writes into its mails: flags, UIDs, UIDVALIDITY.
#: Some show it (mailutils). The list is Dovecot's (doc.dovecot.org, mbox, "Dovecot's Metadata").
_BOOKKEEPING: Final = re.compile(
    rb"^(?:Status|X-(?:Status|UIDL?|IMAP(?:base)?|Keywords)):.*(?:\n[ \t].*)*\n?",
    re.MULTILINE,
)


class MailHeaders(NamedTuple):
    """The searchable fields, decoded and bounded; empty strings where absent.

    `sender` is the first address of From and never the text of a display name; `date` is the Date
    field as an instant (UTC) where it says one for certain. There are as many names as addresses,
    empty where the sender gave none. `findings` have their place in the header block, and the
    field's name as their detail.
    """

    message_id: str = ""
    sender: str = ""
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    subject: str = ""
    date: datetime | None = None
    sender_name: str = ""
    to_names: tuple[str, ...] = ()
    cc_names: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields by their names in the event, without the findings."""
        return {
            "message_id": self.message_id,
            "from": self.sender,
            "from_name": self.sender_name,
            "to": list(self.to),
            "to_names": list(self.to_names),
            "cc": list(self.cc),
            "cc_names": list(self.cc_names),
            "subject": self.subject,
            "date": self.date and self.date.isoformat(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], default: MailHeaders) -> MailHeaders:
        """The reverse of `to_json`; what is missing is that of `default`, its findings too."""
        date = value.get("date")
        return cls(
            message_id=value.get("message_id", default.message_id),
            sender=value.get("from", default.sender),
            to=tuple(value.get("to", default.to)),
            cc=tuple(value.get("cc", default.cc)),
            subject=value.get("subject", default.subject),
            date=datetime.fromisoformat(date)
            if date
            else None
            if "date" in value
            else default.date,
            sender_name=value.get("from_name", default.sender_name),
            to_names=tuple(value.get("to_names", default.to_names)),
            cc_names=tuple(value.get("cc_names", default.cc_names)),
            findings=default.findings,
        )


def findings_to_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """As the ledger and the event carry them."""
    return [
        {"kind": str(kind), "where": where, "detail": detail} for kind, where, detail in findings
    ]


def findings_from_json(values: Iterable[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """The reverse of `findings_to_json`; words that this version does not know are left out."""
    return tuple(
        Finding(FindingKind(one["kind"]), one["where"], one["detail"])
        for one in values
        if one["kind"] in _KINDS
    )


def header_octets(start: bytes) -> bytes:
    """The header block at the beginning of a mail, without the empty line, cut as it is read."""
    return start[: min(header_end(start, 0, len(start))[0], HEADER_LIMIT)]


def header_digest(octets: bytes) -> bytes:
    """16 octets that recognise a mail by its header block, whatever the line ends, and whatever its
    server notes in it for itself."""
    block = octets.replace(b"\r\n", b"\n").strip(b"\r\n")
    # Of nearly every mail this says quickly that there is none of them.
    if b"Status:" in block or b"X-UID" in block or b"X-IMAP" in block or b"X-Keywords:" in block:
        block = _BOOKKEEPING.sub(b"", block).strip(b"\r\n")
    return blake2b(block, digest_size=16).digest()


def is_telling(octets: bytes) -> bool:
    """Whether a header block like this one is of the same mail: devices write one into all of their
    mails. A date alone is not enough: where a clock stands still, and within one second, it is that
    of others too."""
    return any(field.value.strip() for field in HeaderBlock(octets).select(_OWN))


def content_digest(header: bytes, sha256: bytes, *, telling: bool = False) -> bytes:
    """16 octets that recognise a mail under whatever key: `header_digest` where its header block is
    telling, which the caller may know; else one of all its octets (`sha256`) as well."""
    digest = header_digest(header)
    if telling or is_telling(header):
        return digest
    return blake2b(digest + sha256, digest_size=16).digest()


def read_headers(start: bytes) -> MailHeaders:
    """The summary of a mail that begins with these octets."""
    return summarise(read_fields(start))


class _Summary:
    """Collects what the fields of one block say."""

    def __init__(self, block: HeaderBlock) -> None:
        self.fields: dict[str, list[HeaderField]] = {}
        for field in block.select(_WANTED):
            self.fields.setdefault(field.name, []).append(field)
        self.hint = block.charset_hint
        if not self.hint and (b"=?" in block.octets or not block.octets.isascii()):
            self.hint = read_parameters(block.value("content-type")).parameters.get("charset", "")
        self.findings: dict[tuple[FindingKind, str], Finding] = {}
        for one in block.findings:
            self.say(one.kind, one.where, one.detail)

    def say(self, kind: FindingKind, where: int, detail: str) -> None:
        detail = detail[:DETAIL_LIMIT]
        if (kind, detail) not in self.findings:
            self.findings[kind, detail] = Finding(kind, where, detail)

    def first(self, name: str) -> HeaderField | None:
        found = self.fields.get(name)
        return found[0] if found else None

    def addresses(self, name: str) -> list[Address]:
        """Those of all fields of that name."""
        found: list[Address] = []
        for field in self.fields.get(name, ()):
            found += self.read(field).addresses
            if len(found) >= ADDRESS_LIMIT:
                break
        return found[:ADDRESS_LIMIT]

    def read(self, field: HeaderField) -> AddressList:
        read = read_addresses(field.value, self.hint)
        for one in read.findings:
            self.say(one.kind, field.start, field.name)
        return read

    def author(self) -> Address:
        field = self.first("from")
        if field is None:
            self.say(FindingKind.MISSING_AUTHOR, 0, "from")
            return Address("", "")
        found, _, unaddressed = self.read(field)
        if not found:
            self.say(FindingKind.MISSING_AUTHOR, field.start, "from")
            return Address(unaddressed, "")
        if len(found) > 1:
            self.say(FindingKind.SEVERAL_AUTHORS, field.start, "from")
        return found[0]

    def subject(self) -> str:
        field = self.first("subject")
        if field is None:
            return ""
        text, findings = read_text(field.value[:_VALUE_LIMIT], self.hint)
        for one in findings:
            self.say(one.kind, field.start, "subject")
        return text.strip()[:SUBJECT_LIMIT]

    def date(self) -> datetime | None:
        field = self.first("date")
        if field is None:
            return None
        at, findings = read_date(field.value)
        for one in findings:
            self.say(one.kind, field.start, "date")
        return at

    def message_id(self) -> str:
        field = self.first("message-id")
        if field is None:
            return ""
        return _message_id(field.value)


def _message_id(value: bytes) -> str:
    octets = unfold(value[:_VALUE_LIMIT])
    return shortened(clean(charsets.decode_unlabelled(octets).text), MESSAGE_ID_LIMIT)


def summarise(block: HeaderBlock) -> MailHeaders:
    """The searchable fields of a header block that was read."""
    return _of_plain(block) or of_any(block)


def _of_plain(block: HeaderBlock) -> MailHeaders | None:
    """What `of_any` says of the blocks that nearly all mails have, at a third of its price.

    None where a field or the block has a finding: their places are found by `of_any` only.
    """
    if block.is_too_long or not block.octets.isascii():
        return None
    fields = plain_fields(block.octets)
    if fields is None:
        return None
    author, found, _ = read_addresses(_value(fields, "from"))
    if len(author) != 1 or found:
        return None
    to, found, _ = read_addresses(_value(fields, "to"))
    if found:
        return None
    cc: tuple[Address, ...] = ()
    if "cc" in fields:
        cc, found, _ = read_addresses(_value(fields, "cc"))
        if found:
            return None
    subject, found = read_text(_value(fields, "subject")[:_VALUE_LIMIT])
    if found:
        return None
    date, found = read_date(_value(fields, "date"))
    if found:
        return None
    ((name, sender),) = author
    return MailHeaders(
        _message_id(_value(fields, "message-id")),
        sender,
        tuple([one.address for one in to]),
        tuple([one.address for one in cc]),
        subject.strip()[:SUBJECT_LIMIT],
        date,
        name,
        tuple([one.name for one in to]),
        tuple([one.name for one in cc]),
    )


def _value(fields: Mapping[str, bytes], name: str) -> bytes:
    value = fields.get(name, b"")
    return value[:-1] if value[-1:] == b"\r" else value


def of_any(block: HeaderBlock) -> MailHeaders:
    """As `summarise`, for every block."""
    summary = _Summary(block)
    author = summary.author()
    to, cc = summary.addresses("to"), summary.addresses("cc")
    return MailHeaders(
        message_id=summary.message_id(),
        sender=author.address,
        to=tuple([one.address for one in to]),
        cc=tuple([one.address for one in cc]),
        subject=summary.subject(),
        date=summary.date(),
        sender_name=author.name,
        to_names=tuple([one.name for one in to]),
        cc_names=tuple([one.name for one in cc]),
        findings=first_of_each(sorted(summary.findings.values(), key=lambda one: one.where)),
    )
