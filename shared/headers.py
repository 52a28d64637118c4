"""The header block of a mail (RFC 5322 section 2.2), read as tolerantly as senders write it.

Only the few fields that people search by are decoded; the rest of a mail is never parsed here.
Whatever the octets are, there is a result: no input raises.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import getaddresses, parsedate_to_datetime
from functools import lru_cache
from hashlib import blake2b

from shared.messages import MailHeaders

#: Octets of a header block that are looked at; what lies beyond is carried but not read.
HEADER_LIMIT = 256 * 1024
_TEXT_LIMIT = 998
_ADDRESS_LIMIT = 100

_WANTED = frozenset((b"message-id", b"from", b"to", b"cc", b"subject", b"date"))
_INITIALS = frozenset(bytes((letter,)) for letter in b"mftcsdMFTCSD")
_FOLDED = (b" ", b"\t")
_FOLD = re.compile(r"\r?\n[ \t]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ATOM = r"[^\s<>\"(),:;@]+@[^\s<>\"(),:;@]+"
_SIMPLE_ADDRESS = re.compile(rf"\s*(?:<?({_ATOM})>?|[^\"<>(),:;@]*<({_ATOM})>)\s*")
_SIMPLE_DATE = re.compile(
    r"(?:\w{3}, )?(\d{1,2}) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)(?: \(\w+\))?"
)
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}


def header_block(start: bytes) -> bytes:
    """The header block at the beginning of a mail, without the empty line that ends it."""
    if start[:2] == b"\r\n" or start[:1] == b"\n":
        return b""
    end = start.find(b"\n\r\n")
    bare = start.find(b"\n\n", 0, end + 1 if end >= 0 else len(start))
    end = bare if bare >= 0 else end
    if end < 0:
        return start
    return start[: end - 1] if start[end - 1 : end] == b"\r" else start[:end]


def header_digest(block: bytes) -> bytes:
    """16 octets that recognise a mail by its header block, whatever the line ends."""
    return blake2b(block.replace(b"\r\n", b"\n").strip(b"\n"), digest_size=16).digest()


def read_headers(block: bytes) -> MailHeaders:
    """The searchable fields; the first of each wins, except addresses, which add up."""
    found: dict[bytes, str] = {}
    lines = block.split(b"\n")
    for number, line in enumerate(lines, 1):
        if line[:1] not in _INITIALS:
            continue
        name, colon, body = line.partition(b":")
        name = name.rstrip(b" \t").lower()
        if not colon or name not in _WANTED:
            continue
        while number < len(lines) and lines[number][:1] in _FOLDED:
            body += b"\n" + lines[number]
            number += 1
        if name not in found:
            found[name] = _decoded(body)
        elif name in (b"to", b"cc"):
            found[name] += ", " + _decoded(body)
    message_id = found.get(b"message-id", "").strip()
    senders = _addresses(found.get(b"from", ""))
    return MailHeaders(
        message_id=message_id[:_TEXT_LIMIT],
        sender=senders[0] if senders else found.get(b"from", "").strip()[:_TEXT_LIMIT],
        to=_addresses(found.get(b"to", "")),
        cc=_addresses(found.get(b"cc", "")),
        subject=_words(found.get(b"subject", "")).strip()[:_TEXT_LIMIT],
        date=_instant(found.get(b"date", "")),
    )


def _decoded(value: bytes) -> str:
    """Unfolds a field body; 8-bit octets are UTF-8 (RFC 6532) or, failing that, Latin-1."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    text = text.strip()
    if text.isprintable():  # what nearly every field is
        return text
    if "\n" in text:
        text = _FOLD.sub(" ", text)
    return _CONTROL.sub(" ", text).strip()


def _words(text: str) -> str:
    """Decodes encoded words (RFC 2047); what cannot be decoded stays as it is."""
    if "=?" not in text:
        return text
    try:
        parts = decode_header(text)
    except (HeaderParseError, ValueError, AssertionError):
        return text
    decoded = []
    for part, charset in parts:
        if isinstance(part, str):
            decoded.append(part)
            continue
        try:
            decoded.append(part.decode(charset or "latin-1"))
        except (LookupError, ValueError):
            decoded.append(part.decode("latin-1"))
    return _CONTROL.sub(" ", "".join(decoded)).encode("utf-8", "replace").decode("utf-8")


def _addresses(text: str) -> tuple[str, ...]:
    """The addr-specs of an address list; display names are left out."""
    if not text:
        return ()
    # The mails of a mailbox are mostly to the same few.
    return _few_addresses(text) if len(text) <= 200 else _any_addresses(text)


def _any_addresses(text: str) -> tuple[str, ...]:
    if '"' not in text and "(" not in text:
        # What nearly every sender writes costs a twentieth of the full grammar.
        simple = [_SIMPLE_ADDRESS.fullmatch(part) for part in text.split(",")[:_ADDRESS_LIMIT]]
        if all(simple):
            return tuple((match[1] or match[2])[:320] for match in simple if match)
    if text.count(",") > 10 * _ADDRESS_LIMIT:
        text = ",".join(text.split(",")[: 10 * _ADDRESS_LIMIT])
    try:
        pairs = getaddresses([text])
    except (ValueError, IndexError, TypeError, RecursionError):
        return ()
    found = tuple(address[:320] for _, address in pairs if "@" in address)
    return found[:_ADDRESS_LIMIT]


_few_addresses = lru_cache(maxsize=4096)(_any_addresses)


def _instant(text: str) -> datetime | None:
    if not text:
        return None
    try:
        simple = _SIMPLE_DATE.fullmatch(text)
        if simple and simple[2] in _MONTHS:
            day, month, year, hour, minute, second, sign, hours, minutes = simple.groups()
            at = datetime(
                int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC
            )
            if hours != "00" or minutes != "00":
                away = timedelta(hours=int(hours), minutes=int(minutes))
                at -= away if sign == "+" else -away
            return at if 1970 <= at.year <= 9000 else None
        at = parsedate_to_datetime(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if 1970 <= at.year <= 9000 else None
