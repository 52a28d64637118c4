"""CMS between lines of PEM (RFC 7468 section 8): what scripts write into a text, or attach.

Only encrypted structures are looked for: PEM of other kinds (certificates, keys, signatures) is a
file or a text like any other.
"""

from __future__ import annotations

import binascii
import re
from typing import Final, NamedTuple

from services.decryptor.cms import oids
from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable
from services.decryptor.wide_texts import decoded_text, is_wide
from shared.mail.region import Region
from shared.mail.structure import Entity
from shared.mail.transfer_encodings import decode_start

#: The labels of RFC 7468 section 8 and of what came before it (section 6).
_BEGIN: Final = re.compile(rb"-----BEGIN (CMS|PKCS7)-----[ \t]*\r?\n\s*")
_LABELS: Final = (b"BEGIN CMS-----", b"BEGIN PKCS7-----")
#: How lines of every kind begin: a search for it costs 0.6 of one for each label, and one for its
#: first sign, which a large text may not have, a tenth.
_ANY_BEGIN: Final = b"-----BEGIN "
#: What hides what it holds.
_ENCRYPTIONS: Final = (oids.ENVELOPED_DATA, oids.AUTH_ENVELOPED_DATA)
#: How a ContentInfo begins (RFC 5652 section 3): a sequence of any length, and its type.
_CONTENT_INFO: Final = re.compile(
    rb"0(?:[\x00-\x80]|\x81.|\x82..|\x83.{3}|\x84.{4})\x06.(?:%b)"
    % b"|".join(map(re.escape, _ENCRYPTIONS)),
    re.DOTALL,
)
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=\s]*+")
#: Octets behind the first line that show the type, and lines that may be a first one.
_LOOK: Final = 128
_MOST: Final = 16
_BEGINNING: Final = 256
#: White space around them, at most.
_BLANK: Final = 1 << 12


def begins_with_encryption(whole: Entity) -> bool:
    """Whether an entity of whatever kind begins with the lines of an encrypted structure."""
    buffer, start, end = whole.body
    head = Region(buffer, start, min(end, start + 2 * _BEGINNING))
    beginning = decode_start(head, whole.transfer_encoding, _BEGINNING)
    begun = _BEGIN.match(beginning.lstrip())
    return begun is not None and is_encryption(beginning.lstrip()[begun.end() :])


def may_have_lines(whole: Entity) -> bool:
    """A cheap look at a text, so that ordinary ones are not decoded in vain."""
    if whole.transfer_encoding == "base64" or is_wide(whole):
        return True
    buffer, start, end = whole.body
    first = buffer.find(_ANY_BEGIN[:1], start, end)
    return first >= 0 and buffer.find(_ANY_BEGIN, first, end) >= 0


class Lines(NamedTuple):
    """The lines of an encrypted structure in a text; `is_all` where there is nothing else."""

    is_all: bool


def lines_in(whole: Entity, spool: Spool) -> Lines | None:
    """Those in a text; None where there are none."""
    try:
        return lines_of(decoded_text(whole, spool))
    except Undecodable:
        return None


def lines_of(text: Region) -> Lines | None:
    """The same in a text that is decoded already."""
    buffer, start, end = text
    position = start
    for _ in range(_MOST):
        found = [buffer.find(label, position, end) for label in _LABELS]
        position = min((one for one in found if one >= 0), default=-1)
        if position < 0:
            return None
        first = max(start, position - len(b"-----"))
        begun = _BEGIN.match(buffer, first, end)
        if begun and is_encryption(buffer[begun.end() : min(end, begun.end() + _LOOK)]):
            return Lines(_is_all(text, first, begun))
        position += 1
    return None


def is_encryption(characters: bytes) -> bool:
    """Whether base64 is the beginning of an encrypted structure."""
    signs = characters[:_LOOK].translate(None, b" \t\r\n")
    try:
        octets = binascii.a2b_base64(signs[: len(signs) // 4 * 4])
    except binascii.Error:
        return False
    return _CONTENT_INFO.match(octets) is not None


def _is_all(text: Region, first: int, begun: re.Match[bytes]) -> bool:
    """Whether these lines begin and end a text, with nothing but base64 between them."""
    buffer, start, end = text
    signs = _BASE64.match(buffer, begun.end(), end)
    assert signs is not None
    if max(first - start, end - signs.end()) > _BLANK:
        return False
    last = b"-----END " + begun[1] + b"-----"
    return not buffer[start:first].strip() and buffer[signs.end() : end].strip() == last
