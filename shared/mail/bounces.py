"""What a bounce says: reports of RFC 3464 by ourselves, other forms by the library flufl.bounce."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from typing import Final, NamedTuple

from flufl.bounce import all_failures

from shared.mail.encoded_words import read_text
from shared.mail.fields import HeaderBlock, header_end, read_fields, unfold
from shared.mail.message_ids import read_message_ids
from shared.mail.parts import PlacedPart
from shared.mail.region import Region
from shared.mail.transfer_encodings import decode_start

_REPORT_LIMIT: Final = 64 * 1024
#: What the library is shown of a mail that is no RFC 3464 report.
FOREIGN_LIMIT: Final = 128 * 1024
_MOST_RECIPIENTS: Final = 100
_LONGEST: Final = 998
_RETURNED: Final = ("message/rfc822", "text/rfc822-headers", "message/global-headers")


class Bounce(NamedTuple):
    """`action` is a word of RFC 3464 section 2.3.3 (`failed`, `delayed`, `delivered`, `relayed`,
    `expanded`); `status` an enhanced status code (RFC 3463) such as `5.1.1`. Empty where unknown.

    It is about the first recipient that failed, or else the first; `original_message_id` is that
    of the mail that could not be delivered.
    """

    action: str = ""
    status: str = ""
    recipient: str = ""
    diagnostic: str = ""
    original_message_id: str = ""


def read_bounce(parts: list[PlacedPart], whole: Region) -> Bounce:
    """Whatever the mail is, there is a result; an empty one where it says nothing."""
    found = Bounce()
    original = ""
    for one in parts:
        entity = one.part.entity
        if one.media_type in ("message/delivery-status", "message/global-delivery-status"):
            if not found.recipient:
                octets = decode_start(entity.body, entity.transfer_encoding, _REPORT_LIMIT)
                found = _of_report(list(_blocks(octets)))
        elif one.media_type in _RETURNED and not original:
            octets = decode_start(entity.body, entity.transfer_encoding, _REPORT_LIMIT)
            ids = read_message_ids(read_fields(octets).value("message-id"))
            original = ids[0] if ids else ""
    if not found.recipient:
        found = _of_another_form(whole)
    return found._replace(original_message_id=original)


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
            action=_text(block, "action").lower(),
            status=_text(block, "status").partition(" ")[0],
            recipient=_typed(block, "original-recipient") or _typed(block, "final-recipient"),
            diagnostic=_typed(block, "diagnostic-code"),
        )
        for block in blocks[: _MOST_RECIPIENTS + 1]
        if block.first("final-recipient") or block.first("original-recipient")
    ]
    failed = [one for one in found if one.action == "failed"]
    return (failed or found or [Bounce()])[0]


def _of_another_form(whole: Region) -> Bounce:
    """The usual forms of qmail, Exim, Exchange, Yahoo … as the library knows them."""
    try:
        message = email.message_from_bytes(whole.copy(FOREIGN_LIMIT), policy=email.policy.compat32)
        temporary, permanent = all_failures(message)
    except Exception:  # hostile octets to a library that expects none: it knows nothing then
        return Bounce()
    for addresses, action in ((permanent, "failed"), (temporary, "delayed")):
        for address in sorted(addresses):
            octets = address if isinstance(address, bytes) else str(address).encode()
            return Bounce(action=action, recipient=read_text(octets).text[:_LONGEST])
    return Bounce()


def _text(block: HeaderBlock, name: str) -> str:
    return read_text(unfold(block.value(name))).text[:_LONGEST]


def _typed(block: HeaderBlock, name: str) -> str:
    """What stands behind the type of an address or diagnostic: `rfc822; a@b` (section 2.1.2)."""
    kind, semicolon, rest = _text(block, name).partition(";")
    return (rest if semicolon else kind).strip().strip("<>")
