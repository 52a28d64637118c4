"""What a mail is, for programs that act on it: read once, of the opened form.

Everything is bounded and nothing raises for what a mail holds; what cannot be read is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from posthouse import tnef
from shared.mail import authentication, kinds
from shared.mail.addresses import Address, lowered, read_addresses, read_path
from shared.mail.authentication import Result, Spam
from shared.mail.bodies import Body, html_part, read_body
from shared.mail.bounces import Bounce, read_bounce
from shared.mail.charsets import codec_of
from shared.mail.encoded_words import read_text
from shared.mail.fields import HeaderBlock, KnownNames, unfold
from shared.mail.findings import Finding, FindingKind, first_of_each
from shared.mail.kinds import Evidence, MailKind, classify
from shared.mail.message_ids import read_message_ids
from shared.mail.parameters import read_parameters
from shared.mail.parts import (
    PartFacts,
    PlacedPart,
    UnpackingLimits,
    is_attached,
    leaves,
    unpacked,
)
from shared.mail.plain_text_mails import PlainText, read_plain_text
from shared.mail.region import Region, made
from shared.mail.replies import new_part
from shared.mail.structure import (
    MESSAGE_TYPES,
    PART_FIELDS,
    Entity,
    Part,
    entity,
    has_bare_cr,
    read_tree,
)

#: Parts that are told of.
MOST_PARTS: Final = 200
_MOST_ADDRESSES: Final = 20
_LIST_ID_LIMIT: Final = 2048
_NONE: Final[frozenset[str]] = frozenset()
#: Fields in which servers say for which address they took a mail (none is a standard).
_ENVELOPE: Final = (
    "delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "x-delivered-to",
    "x-rcpt-to", "x-real-to",
)  # fmt: skip
#: Fields that say more than which mail it is and who sent it.
_TELLING: Final = (
    frozenset(("in-reply-to", "references", "reply-to", "sender", "list-id", *_ENVELOPE))
    | kinds.FIELDS
) - {"return-path", "content-type"}
#: What `read_facts` asks a header for; for whoever reads it before.
FACT_FIELDS: Final = KnownNames(
    _TELLING | {"message-id", "return-path", "from"} | kinds.FIELDS | authentication.FIELDS,
    base=PART_FIELDS,
)


class Recipient(NamedTuple):
    """An address of the envelope; `tag` is what stands behind the plus of its local part."""

    name: str
    address: str
    tag: str = ""


class MailFacts(NamedTuple):
    """The facts of one mail. `thread` is the first message id of its thread. `return_path` has the
    address "" where it is the null one, and is None where no server noted one.

    `html` is the path of the part with the HTML form; `parts_left_off` how many more there are.
    """

    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    thread: str = ""
    reply_to: tuple[Address, ...] = ()
    sender: Address | None = None
    return_path: Address | None = None
    delivered_to: tuple[Recipient, ...] = ()
    list_id: str = ""
    kind: MailKind = MailKind.PERSON
    evidence: tuple[Evidence, ...] = ()
    auto_reply_suppressed: bool = False
    bounce: Bounce | None = None
    parts: tuple[PartFacts, ...] = ()
    parts_left_off: int = 0
    body: Body = Body()
    #: A guess (`shared.mail.replies`); empty where it is no reply or nothing quoted was found.
    reply_text: str = ""
    html: str = ""
    authentication: tuple[Result, ...] = ()
    spam: Spam | None = None
    #: What of structure and parts others may read differently, or nobody can; its header's are
    #: `read_headers`' to say.
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As they stand in the event, `data.mail`."""
        # At once: asking a named tuple for twenty fields by name takes three times as long.
        (
            in_reply_to, references, thread, reply_to, sender, return_path, delivered_to, list_id,
            kind, evidence, suppressed, bounce, parts, parts_left_off, body, reply_text, html,
            results, spam, _,
        ) = self  # fmt: skip
        text, truncated, is_from_html = body
        return {
            "in_reply_to": list(in_reply_to),
            "references": list(references),
            "thread": thread,
            "reply_to": _dicts(reply_to) if reply_to else [],
            "sender": sender and sender._asdict(),
            "return_path": return_path and return_path._asdict(),
            "delivered_to": _dicts(delivered_to) if delivered_to else [],
            "list_id": list_id,
            "kind": str(kind),
            "evidence": _dicts(evidence) if evidence else [],
            "auto_reply_suppressed": suppressed,
            "bounce": bounce and bounce._asdict(),
            "parts": [one.to_json() for one in parts],
            "parts_left_off": parts_left_off,
            "text": text,
            "text_truncated": truncated,
            "text_is_from_html": is_from_html,
            "reply_text": reply_text,
            "html": html,
            "authentication": _dicts(results) if results else [],
            "spam": spam and spam._asdict(),
        }


def _dicts(values: Sequence[Any]) -> list[dict[str, Any]]:
    """Of named tuples of one kind; there is one at least."""
    names = values[0]._fields
    return [dict(zip(names, one, strict=True)) for one in values]


def read_facts(
    whole: Region, *, trusted: Sequence[str], text_limit: int, read: Entity | None = None
) -> MailFacts:
    """The facts of the mail that fills `whole`, the form that handlers read.

    `trusted`: authserv-ids of the servers whose results are believed; `text_limit`: octets of text;
    `read`: what `entity` says of `whole`, where somebody asked already.
    """
    read = read or entity(whole, names=FACT_FIELDS)
    fields = read.header.values(FACT_FIELDS)
    if (
        not read.header.is_too_long
        and _TELLING.isdisjoint(fields)
        and not kinds.may_be_of_daemon(fields)
        and (not trusted or authentication.FIELDS.isdisjoint(fields))
        and (plain := read_plain_text(read, fields, text_limit))
    ):
        return _of_plain(plain, fields)
    return _of_any(whole, read, fields, trusted, text_limit)


def _of_plain(plain: PlainText, fields: Mapping[str, Sequence[bytes]]) -> MailFacts:
    """What `_of_any` says of a plain text without telling fields, at a third of its price."""
    ids = read_message_ids(fields["message-id"][0]) if "message-id" in fields else ()
    part, body, findings = plain
    return MailFacts(
        thread=ids[0] if ids else "",
        return_path=_return_path(fields["return-path"][0]) if "return-path" in fields else None,
        parts=(part,),
        body=body,
        findings=findings,
    )


def _of_any(
    whole: Region,
    read: Entity,
    fields: Mapping[str, Sequence[bytes]],
    trusted: Sequence[str],
    text_limit: int,
) -> MailFacts:
    root = _root(whole, read)
    content_type = read_parameters(fields.get("content-type", (b"",))[0])
    placed = list(leaves(root))
    kind, evidence = classify(
        fields,
        content_type,
        _acted_on(placed),
        lambda: _author(fields.get("from", ())),
    )
    parts, parts_left_off, unreadable = read_parts(placed)
    references = _message_ids(fields["references"]) if "references" in fields else ()
    in_reply_to = _message_ids(fields["in-reply-to"]) if "in-reply-to" in fields else ()
    thread = references or in_reply_to
    if not thread and "message-id" in fields:
        thread = read_message_ids(fields["message-id"][0])
    html = html_part(root)
    body = read_body(root, text_limit)
    is_reply = bool(in_reply_to or references)
    bounce = None
    if kind is MailKind.BOUNCE:
        bounce = read_bounce(
            placed,
            whole,
            answered=in_reply_to or references,
            own=_addressees(root.entity.header),
        )
        kind = MailKind.RECEIPT if bounce is None else kind
    # In the order of the fields: naming them costs as much as half of the calls.
    return MailFacts(
        in_reply_to,
        references,
        thread[0] if thread else "",
        _addresses(fields["reply-to"], read.header) if "reply-to" in fields else (),
        _first(fields["sender"], read.header) if "sender" in fields else None,
        _return_path(fields["return-path"][0]) if "return-path" in fields else None,
        _delivered_to(fields),
        _list_id(fields["list-id"][0]) if "list-id" in fields else "",
        kind,
        evidence,
        kinds.suppresses_auto_replies(fields),
        bounce,
        parts,
        parts_left_off,
        body,
        new_part(body.text) if is_reply and body.text else "",
        next((one.path for one in placed if one.part is html), "") if html else "",
        authentication.read_results(fields, trusted) if trusted else (),
        authentication.read_spam(_named(root.entity.header), trusted) if trusted else None,
        first_of_each((*root.all_findings, *unreadable)),
    )


def _root(whole: Region, read: Entity) -> Part:
    """The tree; of a mail of one part, as many are, in fewer steps."""
    if read.media_type.startswith(("multipart/", "message/")):
        return read_tree(whole, read)
    found: tuple[Finding, ...] = ()
    if read.header.is_too_long:
        found = (Finding(FindingKind.HEADER_TOO_LONG, whole.start + len(read.header.octets)),)
    if mime := read.mime_findings:
        found += tuple([one._replace(where=one.where + whole.start) for one in mime])
    if read.transfer_encoding != "binary" and has_bare_cr(read.body):
        found = (*found, Finding(FindingKind.BARE_CR, read.body.start))
    return made(Part, (whole, read, None, (), found))


def _named(header: HeaderBlock) -> Iterator[tuple[str, bytes]]:
    """The fields that are looked at for it, from the top."""
    for one in header.in_order(FACT_FIELDS):
        if one[0] in authentication.FIELDS:
            yield one


def _message_ids(values: Sequence[bytes]) -> tuple[str, ...]:
    return read_message_ids(b" ".join(values))


def _acted_on(placed: Sequence[PlacedPart]) -> frozenset[str]:
    """Types of parts that are meant for programs: a calendar with a method, a report. What lies in
    a message that is attached was meant for somebody else."""
    found = []
    inside = "\0"
    for one in placed:
        kind = one.part.entity.media_type
        if one.path.startswith(inside):
            continue
        if kind in MESSAGE_TYPES:
            inside = one.path + "."
        if kind.startswith("message/") or (kind == "text/calendar" and _is_invitation(one.part)):
            found.append(kind)
    return frozenset(found) if found else _NONE


def _is_invitation(part: Part) -> bool:
    return not is_attached(part) and "method" in part.entity.parameters


class ReadParts(NamedTuple):
    """The first `MOST_PARTS` parts, each before what is packed in it; how many more there are; and
    which of what they hold could not be read."""

    told: tuple[PartFacts, ...]
    left_off: int
    findings: tuple[Finding, ...]


def read_parts(placed: Iterable[PlacedPart]) -> ReadParts:
    """What is told of parts."""
    limits: UnpackingLimits | None = None
    told: list[PartFacts] = []
    found: list[Finding] = []
    more = 0
    for leaf in placed:
        if len(told) < MOST_PARTS:
            facts, is_damaged = leaf.read()
            told.append(facts)
            packed = tnef.is_packed(facts.content_type, facts.name)
            if is_damaged:
                found.append(_about(leaf, FindingKind.DAMAGED_TRANSFER_ENCODING))
            if facts.charset and codec_of(facts.charset) is None:
                found.append(_about(leaf, FindingKind.UNKNOWN_CHARSET))
        else:
            more += 1
            packed = tnef.is_packed(leaf.media_type, leaf.name)
        if packed:
            limits = limits or UnpackingLimits()
            before = len(limits.unreadable)
            for one in unpacked(leaf, limits):
                if len(told) < MOST_PARTS:
                    told.append(one.facts)
                else:
                    more += 1
            if len(limits.unreadable) > before:
                found.append(_about(leaf, FindingKind.UNREADABLE_TNEF))
    return ReadParts(tuple(told), more, tuple(found))


def _about(leaf: PlacedPart, kind: FindingKind) -> Finding:
    return Finding(kind, leaf.part.whole.start, f"part {leaf.path}")


def _addresses(values: Sequence[bytes], header: HeaderBlock) -> tuple[Address, ...]:
    return read_addresses(values[0], header.charset_hint).addresses[:_MOST_ADDRESSES]


def _first(values: Sequence[bytes], header: HeaderBlock) -> Address | None:
    found = _addresses(values, header)
    return found[0] if found else None


def _author(values: Sequence[bytes]) -> str:
    """The address of From, or the name that stands where one should; "" where neither is."""
    if not values:
        return ""
    found = read_addresses(values[0])
    return found.addresses[0].address if found.addresses else found.unaddressed


def _addressees(header: HeaderBlock) -> frozenset[str]:
    """The addresses of From, To and Cc, to compare."""
    return frozenset(
        lowered(one.address)
        for name in ("from", "to", "cc")
        for field in header.all(name)
        for one in read_addresses(field.value).addresses
    )


def _return_path(value: bytes) -> Address:
    """A path has no display name (RFC 5321 section 4.1.2); its address is "" of the null one."""
    is_null = b"@" not in value and unfold(value) in (b"<>", b"")
    return Address("", "" if is_null else read_path(value))


def _delivered_to(fields: Mapping[str, Sequence[bytes]]) -> tuple[Recipient, ...]:
    if fields.keys().isdisjoint(_ENVELOPE):
        return ()
    names: dict[str, str] = {}
    for field in _ENVELOPE:
        for value in fields.get(field, ())[:_MOST_ADDRESSES]:
            for one in read_addresses(value).addresses:
                names[one.address] = names.get(one.address) or one.name
    return tuple(
        Recipient(name, address, address.rpartition("@")[0].partition("+")[2])
        for address, name in list(names.items())[:_MOST_ADDRESSES]
    )


def _list_id(value: bytes) -> str:
    """What stands between the angle brackets (RFC 2919 section 2)."""
    text = read_text(value[:_LIST_ID_LIMIT]).text
    inside = text.rpartition("<")[2].partition(">")[0] if "<" in text else text
    return inside.strip()[:255]
