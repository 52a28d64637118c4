"""A cheap look at the octets of a mail, so that ordinary ones are not opened in vain.

Every mail goes through here, so it is a search for octets and nothing else. What it finds may be
anything; what it does not find is not there.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import Final

from services.decryptor.markup_armour import GAP

#: In lower case; each stands beside a hyphen or a dot, neither of which is in lines of base64. Two
#: are of names in encoded words (RFC 2047): `.p7m` in Q, `smime.p7m` in B.
_MARKS: Final = (
    b"pkcs7-", b".p7m", b".gpg", b"winmail.dat", b"=2ep7m", b"c21pbwuucddt", b"utf-16", b"ucs-2",
)  # fmt: skip
#: One of these lies in all of them, and in the types below. They are fewer, so that less is looked
#: for in nearly all mails.
_HINTS: Final = (
    b"pgp", b"gpg", b"p7m", b"pkcs7-", b"winmail.dat", b"c21pbwuucddt", b"utf-16", b"ucs-2",
    b"application/", b"message/",
)  # fmt: skip
_APPLICATION: Final = b"application/"
_APPLICATIONS: Final = (b"ms-tnef", b"application/cms")
_OCTETS: Final = b"application/octet-stream"
_MESSAGE: Final = b"message/"
_HIDING: Final = (b"base64", b"quoted-printable")
#: What stands before `pgp` in a type or in the name of a file.
_BEFORE_PGP: Final = (b"/", b".", b"-")
#: The words of an armour's first line, also in quoted-printable and in markup. KMail writes the
#: first hyphen as `=2D`.
_FIRST_LINE: Final = re.compile(
    rb"BEGIN(?:%b|=20|=A0|=C2|=\r?\n){1,16}+(?:P(?:=\r?\n)?GP|CMS|PKCS7)" % GAP
)
_BEGIN: Final = b"BEGIN"


#: Three hyphens in base64: of the five of a first line three are together in one group of signs.
_ENCODED_HYPHENS: Final = b"LS0t"
#: Signs, and line ends between them, in which a first line lies behind these.
_ENCODED_LINE: Final = 96
#: Hyphens in base64 that are looked at in one window.
_MOST_HYPHENS: Final = 256
#: Parts of one type that are looked at in one window.
_MOST_PARTS: Final = 64
#: Octets that overlap where a mail is looked through in pieces: longer than any of these marks.
MARK_LENGTH: Final = 96
#: Octets that are looked through in one go: few, as those that are all base64 are passed over.
_WINDOW: Final = 1 << 13
#: Within so many octets of a mark stands the hyphen or dot of its line.
_NEAR: Final = 512
#: Octets of a part's header behind its type that are looked at.
_HEADER: Final = 1 << 10
_END_OF_HEADER: Final = re.compile(rb"\r?\n\r?\n")
#: How a CMS structure or an OpenPGP message begins, in octets, base64 and quoted-printable.
_BODY: Final = re.compile(
    rb"\s*+(?:0[\x80-\x84]|[\x84-\x87\x8c-\x8f\xc1\xc3]|MI[AGIMQ]|[hjw][A-Za-z0-9+/]|0?=)"
)


def has_armour(octets: bytes) -> bool:
    """Whether the first line of an armour may occur, as it is or in base64."""
    return has_first_line(octets) or _has_encoded_line(octets, 0, len(octets))


def has_first_line(octets: bytes) -> bool:
    """Whether the first line of an armour occurs as it is."""
    return _BEGIN in octets and _FIRST_LINE.search(octets) is not None


def has_marks(octets: bytes) -> bool:
    """Whether something of which S/MIME or OpenPGP is made occurs, in whichever case.

    Most of a large mail is lines of base64, in which there can be few of them.
    """
    for start in range(0, len(octets), _WINDOW):
        window = octets[start : start + _WINDOW + _NEAR]
        if b"-" in window or b"." in window:
            lowered = window.lower()
            if any(hint in lowered for hint in _HINTS) and (
                any(mark in lowered for mark in _MARKS)
                or _has_pgp(lowered)
                or _has_part(octets, start, lowered)
            ):
                return True
            if has_first_line(window):
                return True
        if _has_encoded_line(octets, start, start + _WINDOW + len(_ENCODED_HYPHENS) - 1):
            return True
    return False


def _has_encoded_line(octets: bytes, start: int, end: int) -> bool:
    """Whether the first line of an armour may begin there in base64."""
    position = start
    for _ in range(_MOST_HYPHENS):
        position = octets.find(_ENCODED_HYPHENS, position, end)
        if position < 0:
            return False
        signs = octets[position : position + _ENCODED_LINE].translate(None, b"\r\n")
        if has_first_line(_decoded(signs[: len(signs) // 4 * 4])):
            return True
        position += 1
    return True  # it has to be read


def _decoded(signs: bytes) -> bytes:
    try:
        return binascii.a2b_base64(signs)
    except binascii.Error:
        return b""


def _has_pgp(lowered: bytes) -> bool:
    position = lowered.find(b"pgp")
    while position >= 0:
        if lowered[position - 1 : position] in _BEFORE_PGP:
            return True
        position = lowered.find(b"pgp", position + 1)
    return False


def _has_part(octets: bytes, start: int, lowered: bytes) -> bool:
    """Whether a part has a type, or begins, as an encrypted one does."""
    if _APPLICATION in lowered:
        if any(mark in lowered for mark in _APPLICATIONS):
            return True
        if _any_part(_may_be_message, octets, start, lowered, _OCTETS):
            return True
    return _any_part(_is_encoded, octets, start, lowered, _MESSAGE)


def _any_part(
    may_be: Callable[[bytes, int], bool], octets: bytes, start: int, lowered: bytes, kind: bytes
) -> bool:
    """Whether a part may be, whose type `kind` is in `lowered`, the octets from `start` on."""
    position = 0
    for _ in range(_MOST_PARTS):
        position = lowered.find(kind, position)
        if position < 0:
            return False
        position += len(kind)
        if may_be(octets, start + position):
            return True
    return True  # it has to be read


def _may_be_message(octets: bytes, position: int) -> bool:
    """Whether a part of octets, whose type ends at `position`, may be an encrypted message, under
    whatever name: people give another one."""
    header = octets[position : position + _HEADER]
    end = _END_OF_HEADER.search(header)
    if end is None:
        return True  # cut off, or long: it has to be read
    body = octets[position + end.end() : position + end.end() + MARK_LENGTH]
    return len(body) < MARK_LENGTH or _BODY.match(body) is not None


def _is_encoded(octets: bytes, position: int) -> bool:
    """Whether a message in the mail, whose type ends at `position`, may be in a transfer encoding
    that hides it (which RFC 2046 section 5.2.1 forbids)."""
    header = octets[position : position + _HEADER]
    end = _END_OF_HEADER.search(header)
    if end is None:
        return True  # cut off, or long: it has to be read
    before = octets[max(0, position - _HEADER) : position]
    begun = max(before.rfind(b"\n\n"), before.rfind(b"\n\r\n"), before.rfind(b"\n--"), 0)
    said = (before[begun:] + header[: end.start()]).lower()
    return any(encoding in said for encoding in _HIDING)
