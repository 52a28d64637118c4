"""What a bounce says: reports of RFC 3464 and 6533 by ourselves, other forms by the library
flufl.bounce, and what both leave open as it stands in the text that servers write.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator, Sequence, Set
from itertools import islice
from typing import Final, NamedTuple

from flufl.bounce import all_failures

from shared.mail.addresses import lowered
from shared.mail.bodies import text_of
from shared.mail.bounce_texts import ADDRESS, reason_for
from shared.mail.encoded_words import read_text
from shared.mail.fields import HeaderBlock, header_end, read_fields, unfold
from shared.mail.message_ids import read_message_ids
from shared.mail.parts import PlacedPart
from shared.mail.region import Region
from shared.mail.structure import MESSAGE_TYPES
from shared.mail.transfer_encodings import decode_start

_REPORT_LIMIT: Final = 64 * 1024
#: What the library is shown of a mail that is no RFC 3464 report.
FOREIGN_LIMIT: Final = 128 * 1024
#: Of a report: that about the mail, and those about recipients.
_MOST_BLOCKS: Final = 101
_LONGEST: Final = 998
_RETURNED: Final = (*MESSAGE_TYPES, "text/rfc822-headers", "message/global-headers")
#: Octets of the text of a server that are read, with the beginning of the copy below it.
_TEXT_LIMIT: Final = 32 * 1024
_SUCCESSES: Final = ("delivered", "relayed", "expanded")
_ACTION: Final = re.compile(r"[a-z]+")
_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?![\d.])")
#: A character of an address in a report of ASCII (RFC 6533 section 3).
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
#: Fields of the copy of a mail, which servers write below their own text.
_COPY: Final = re.compile(r"^[> \t]{0,8}(?:Return-Path|Received|Message-ID):", re.I | re.M)
_ID_IN_COPY: Final = re.compile(
    r"^[> \t]{0,8}Message-ID:[ \t]{0,8}(?:\n[ \t]{1,8})?(<[^<>\s]{1,900}>)", re.I | re.M
)


class Bounce(NamedTuple):
    """`action` is a word of RFC 3464 section 2.3.3 (`failed`, `delayed`); `status` an enhanced
    status code (RFC 3463) such as `5.1.1`. Empty where unknown.

    It is about the first recipient that failed, or else the first that was not reached yet;
    `original_message_id` is that of the mail that could not be delivered.
    `diagnostic_is_from_text`: no field of a report has the diagnostic, it is what the text of the
    bounce says about the recipient.
    """

    action: str = ""
    status: str = ""
    recipient: str = ""
    diagnostic: str = ""
    original_message_id: str = ""
    diagnostic_is_from_text: bool = False


def read_bounce(
    parts: list[PlacedPart], whole: Region, *, answered: Sequence[str], own: Set[str]
) -> Bounce | None:
    """Whatever the mail is, there is a result, an empty one where it says nothing; None of a report
    which says that all recipients were reached (RFC 3464 section 2.3.3).

    `answered`: the message ids that its header refers to; `own`: the addresses of its author and
    of those it goes to, in lower case, about whom it is not.
    """
    found = Bounce()
    original = ""
    for one in parts:
        entity = one.part.entity
        if one.media_type in ("message/delivery-status", "message/global-delivery-status"):
            if not found.recipient:
                octets = decode_start(entity.body, entity.transfer_encoding, _REPORT_LIMIT)
                blocks = list(islice(_blocks(octets), _MOST_BLOCKS + 1))
                found = _of_report(blocks)
                is_whole = len(octets) < _REPORT_LIMIT and len(blocks) <= _MOST_BLOCKS
                if found.action in _SUCCESSES and is_whole:
                    return None
        elif one.media_type in _RETURNED and not original:
            octets = decode_start(entity.body, entity.transfer_encoding, _REPORT_LIMIT)
            ids = read_message_ids(read_fields(octets).value("message-id"))
            original = ids[0] if ids else ""
    if not found.recipient:
        said, copy = _text_of_server(parts)
        id_in_copy = _ID_IN_COPY.search(copy)
        original = original or (id_in_copy[1] if id_in_copy else "")
        # What a library finds in the copy may be its sender, or its message id.
        no_recipients = {original.strip("<>"), *own} - set(ADDRESS.findall(said))
        found = _completed(_of_another_form(whole, no_recipients), said, own)
    elif not found.diagnostic:
        reason = reason_for(found.recipient, _text_of_server(parts)[0])
        found = found._replace(diagnostic=reason.text, diagnostic_is_from_text=bool(reason.text))
    return found._replace(original_message_id=original or (answered[-1] if answered else ""))


def _text_of_server(parts: list[PlacedPart]) -> tuple[str, str]:
    """(what a server writes, the copy of the mail below it) of the first text."""
    for one in parts:
        if one.media_type in ("text/plain", "text/html"):
            text, _, _ = text_of(one.part, _TEXT_LIMIT)
            copy = _COPY.search(text)
            start = copy.start() if copy else len(text)
            return text[:start], text[start:]
    return "", ""


def _completed(found: Bounce, said: str, own: Set[str]) -> Bounce:
    """With the reason in the text, and with the one address that a server writes of."""
    recipient = found.recipient
    if not recipient:
        named = dict.fromkeys(one.rstrip(".") for one in ADDRESS.findall(said))
        others = {lowered(one): one for one in named if lowered(one) not in own}
        recipient = next(iter(others.values())) if len(others) == 1 else ""
    status, code, text = reason_for(recipient, said)
    is_final = bool(recipient and (status or code)[:1] == "5")
    return Bounce(
        action=found.action or ("failed" if is_final else ""),
        status=status,
        recipient=recipient,
        diagnostic=text,
        diagnostic_is_from_text=bool(text),
    )


def _blocks(octets: bytes) -> Iterator[HeaderBlock]:
    """The blocks of fields of a report, which empty lines part."""
    position = 0
    while position < len(octets):
        end, after = header_end(octets, position, len(octets))
        if end > position:
            yield read_fields(octets[position:end])
        position = after


def _of_report(blocks: list[HeaderBlock]) -> Bounce:
    found = [
        Bounce(
            action=_first(_ACTION, _text(block, "action").lower()),
            status=_first(_STATUS, _text(block, "status")),
            recipient=_typed(block, "original-recipient") or _typed(block, "final-recipient"),
            diagnostic=_typed(block, "diagnostic-code"),
        )
        for block in blocks[:_MOST_BLOCKS]
        if block.first("final-recipient") or block.first("original-recipient")
    ]
    failed = [one for one in found if one.action == "failed"]
    unreached = [one for one in found if one.action not in _SUCCESSES]
    return (failed or unreached or found or [Bounce()])[0]


def _of_another_form(whole: Region, no_recipients: Set[str]) -> Bounce:
    """The usual forms of qmail, Exim, Exchange, Yahoo … as the library knows them."""
    try:
        message = email.message_from_bytes(whole.copy(FOREIGN_LIMIT), policy=email.policy.compat32)
        temporary, permanent = all_failures(message)
    except Exception:  # hostile octets to a library that expects none: it knows nothing then
        return Bounce()
    for addresses, action in ((permanent, "failed"), (temporary, "delayed")):
        for address in sorted(addresses):
            octets = address if isinstance(address, bytes) else str(address).encode()
            recipient = read_text(octets).text[:_LONGEST]
            if lowered(recipient) not in no_recipients:
                return Bounce(action=action, recipient=recipient)
    return Bounce()


def _text(block: HeaderBlock, name: str) -> str:
    return read_text(unfold(block.value(name))).text[:_LONGEST]


def _first(pattern: re.Pattern[str], text: str) -> str:
    """What a value begins with; comments may stand behind it."""
    found = pattern.match(text)
    return found[0] if found else ""


def _typed(block: HeaderBlock, name: str) -> str:
    """What stands behind the type of an address or diagnostic: `rfc822; a@b` (section 2.1.2)."""
    kind, semicolon, rest = _text(block, name).partition(";")
    text = (rest if semicolon else kind).strip().strip("<>")
    if kind.strip().lower() == "utf-8" and "\\x{" in text:
        text = _EMBEDDED.sub(_character, text)[:_LONGEST]
    return text


def _character(embedded: re.Match[str]) -> str:
    number = int(embedded[1], 16)
    is_one = 0x20 < number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF
    return chr(number) if is_one else embedded[0]
