"""Undoing a Content-Transfer-Encoding (RFC 2045 section 6) as far as it can be, in the stream.

What handlers and pages get of a part: cut off, badly padded, with other signs among it, what can be
decoded is. (What was encrypted or signed is decoded strictly, by the decryptor.)
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Generator
from typing import Final

import pybase64

from shared.mail.region import WINDOW, Region

_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/=]+")
_LINES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/\r\n"
_BLANK_ENDS: Final = (b" \n", b" \r\n", b"\t\n", b"\t\r\n")
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


def decoded_size(body: Region, encoding: str) -> int:
    """How many octets `decoded` gives, without decoding where that can be told."""
    if encoding == "base64":
        return _size_of_base64(body)
    if encoding == "quoted-printable":
        return sum(map(len, _quoted_printable(body)))
    return body.end - body.start


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
        kept, ended, _ = _NOT_BASE64.sub(b"", carry + bytes(window)).partition(b"=")
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


def _size_of_base64(body: Region) -> int:
    signs = 0
    for window in body.windows():
        octets = bytes(window)
        text, ended, _ = octets.partition(b"=")
        if text.translate(None, _LINES):
            text = _NOT_BASE64.sub(b"", text)
            signs += len(text)
        else:
            signs += len(text) - text.count(b"\n") - text.count(b"\r")
        if ended:
            break
    return signs // 4 * 3 + max(0, signs % 4 - 1)


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
    if any(one in octets for one in _BLANK_ENDS):
        octets = _BLANK_AT_END.sub(b"", octets)
    return binascii.a2b_qp(octets)
