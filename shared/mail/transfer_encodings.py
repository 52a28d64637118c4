"""Undoing a Content-Transfer-Encoding (RFC 2045 section 6) as far as it can be, in the stream.

What handlers and pages get of a part: cut off, badly padded, with other signs among it, what can be
decoded is. (What was encrypted or signed is decoded strictly, by the decryptor.)
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Generator
from typing import Final, NamedTuple

import pybase64

from shared.mail.region import WINDOW, Region

_SIGNS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LINES: Final = _SIGNS + b"\r\n"
#: What is left out of base64.
_STRANGE: Final = bytes({*range(256)} - {*_SIGNS, *b"="})
#: What may stand behind the last sign.
_PADDING: Final = b"= \t\r\n"
#: An equals sign that is neither an octet nor a soft line break (RFC 2045 section 6.7).
_NOT_QUOTED: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*+(?:\r?\n|\Z))")
#: Looked for from the line end backwards: there are more blanks than lines.
_BLANK_END: Final = re.compile(rb"\n(?:(?<=[ \t]\n)|(?<=[ \t]\r\n))")
#: From its first blank only, so that each is looked at once.
_BLANK_AT_END: Final = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n)")
#: Longer ones are no lines of quoted-printable; a soft line break is looked for within one.
_LONGEST_LINE: Final = 4 * WINDOW


def decoded(body: Region, encoding: str) -> Generator[bytes]:
    """The decoded octets, in pieces of some 256 KiB; `encoding` in lower case, as of an entity."""
    if encoding == "base64":
        return _base64(body)
    if encoding == "quoted-printable":
        return _quoted_printable(body)
    return (bytes(window) for window in body.windows())


class DecodedSize(NamedTuple):
    """How many octets `decoded` gives, and whether what was encoded is damaged: other signs among
    it, something behind its end, or cut off within a group of signs."""

    octets: int
    is_damaged: bool


def measured(body: Region, encoding: str) -> DecodedSize:
    """Without decoding where that can be told."""
    if encoding == "base64":
        return _measured_base64(body)
    if encoding == "quoted-printable":
        size = sum(map(len, _quoted_printable(body)))
        return DecodedSize(size, bool(_NOT_QUOTED.search(body.buffer, body.start, body.end)))
    return DecodedSize(body.end - body.start, is_damaged=False)


def decoded_size(body: Region, encoding: str) -> int:
    """How many octets `decoded` gives."""
    return measured(body, encoding).octets


def decode_start(body: Region, encoding: str, limit: int) -> bytes:
    """The first `limit` decoded octets."""
    if encoding not in ("base64", "quoted-printable"):
        return body.copy(limit)
    found = bytearray()
    for piece in decoded(body, encoding):
        found += piece
        if len(found) >= limit:
            break
    return bytes(found[:limit])


def _base64(body: Region) -> Generator[bytes]:
    carry = b""
    for window in body.windows():
        kept, ended, _ = (carry + bytes(window)).translate(None, _STRANGE).partition(b"=")
        if ended:
            carry = kept
            break
        whole = len(kept) - len(kept) % 4
        carry = kept[whole:]
        if whole:
            yield pybase64.b64decode(kept[:whole])
    # A sign that is left over is less than an octet.
    kept = carry[: len(carry) - (len(carry) % 4 == 1)]
    if kept:
        yield pybase64.b64decode(kept + b"=" * (-len(kept) % 4))


def _measured_base64(body: Region) -> DecodedSize:
    signs, padding = 0, 0
    is_damaged = False
    for window in body.windows():
        octets = bytes(window)
        if padding:  # the end was in a window before
            text, tail = b"", octets
        else:
            text, _, tail = octets.partition(b"=")
            padding = len(octets) > len(text)
        if strange := text.translate(None, _LINES):
            is_damaged = is_damaged or not strange.isspace()
            text = text.translate(None, _STRANGE)
            signs += len(text)
        else:
            signs += len(text) - text.count(b"\n") - text.count(b"\r")
        if tail:
            padding += tail.count(b"=")
            is_damaged = is_damaged or bool(tail.translate(None, _PADDING))
        if padding and is_damaged:
            break
    is_damaged = is_damaged or (signs + padding) % 4 != 0
    return DecodedSize(signs // 4 * 3 + max(0, signs % 4 - 1), is_damaged)


def _quoted_printable(body: Region) -> Generator[bytes]:
    carry = b""
    for window in body.windows():
        piece = carry + bytes(window)
        # A soft line break needs its whole line, an octet its two signs.
        cut = piece.rfind(b"\n") + 1
        if not cut and len(piece) > _LONGEST_LINE:
            half = piece.find(b"=", len(piece) - 2)
            cut = len(piece) if half < 0 else half
        if cut:
            yield _of_lines(piece[:cut])
        carry = piece[cut:]
    if carry:
        yield _of_lines(carry)


def _of_lines(octets: bytes) -> bytes:
    """White space at the end of a line is none of it (RFC 2045 section 6.7, rule 3)."""
    if _BLANK_END.search(octets):
        octets = _BLANK_AT_END.sub(b"", octets)
    return binascii.a2b_qp(octets)
