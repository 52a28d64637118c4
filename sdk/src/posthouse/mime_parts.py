"""The parts of a mail in memory, cut out of its octets as they lie there (RFC 2045, 2046).

By the rules of Posthouse's own reader, with its limits, so that a part has the octets here that it
has at its address. Python's `email` reads anew what it does not hold as it was: a message in the
mail, a delivery status, an encoding that it does not know.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from posthouse.mime_fields import ContentFields, header_end, read_content_fields

#: Parts of one multipart, parts of one mail, and how deep they lie in each other.
_MAX_PARTS: Final = 1000
_MAX_DEPTH: Final = 24
#: Lines that begin like a delimiter and are looked at, in one multipart.
_MAX_CANDIDATES: Final = 4 * _MAX_PARTS
_LONGEST_DELIMITER: Final = 256
_TAIL: Final = re.compile(rb"[ \t]*+(?:\r?\n|\Z)")
_TAIL_LIMIT: Final = 80
#: A part that is a whole mail (RFC 2046 section 5.2.1, RFC 6532 section 3.7).
MESSAGE_TYPES: Final = ("message/rfc822", "message/global")
#: RFC 2045 section 6.4 allows a message these only.
_IDENTITY: Final = ("7bit", "8bit", "binary")
_SIGNS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64: Final = bytes({*range(256)} - {*_SIGNS, *b"="})
_BLANK_AT_END: Final = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n)")


class Leaf(NamedTuple):
    """A part that is no multipart, with its path as IMAP counts (RFC 9051 section 6.4.5.1)."""

    path: str
    header: bytes
    media_type: str
    transfer_encoding: str
    body: bytes

    @property
    def content(self) -> bytes:
        """Its octets, decoded as far as they can be."""
        return decoded(self.body, self.transfer_encoding)


def leaves(raw: bytes) -> Iterator[Leaf]:
    """Every part that is no multipart, in the order of the mail; a message in it before its own."""
    root = _Reader(raw).node(0, len(raw), "text/plain", 0)
    if root.is_multipart and root.parts:
        yield from _below(raw, root, "")
    else:
        yield _leaf(raw, root, "1")
        yield from _below(raw, root, "1.")


class _Node(NamedTuple):
    """`start`, `body` and `end` are offsets: of its header, its body and behind it."""

    start: int
    body: int
    end: int
    fields: ContentFields
    parts: tuple[_Node, ...]

    @property
    def is_multipart(self) -> bool:
        return self.fields.media_type.startswith("multipart/")


class _Reader:
    """`left`: how many parts of the mail may still be looked at."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._left = _MAX_PARTS

    def node(self, start: int, end: int, default_type: str, depth: int) -> _Node:
        """The tree of the entity that lies there."""
        self._left -= 1
        stop, body = header_end(self._raw, start, end)
        fields = read_content_fields(self._raw[start:stop], default_type)
        inner: list[tuple[int, int]] = []
        if fields.media_type.startswith("multipart/"):
            inner = _split(self._raw, body, end, fields.boundary)
        elif fields.media_type in MESSAGE_TYPES and fields.transfer_encoding in _IDENTITY:
            inner = [(body, end)]
        is_digest = fields.media_type == "multipart/digest"
        parts: list[_Node] = []
        for one in inner if depth < _MAX_DEPTH else ():
            if self._left <= 0:
                break
            default = "message/rfc822" if is_digest else "text/plain"
            parts.append(self.node(*one, default, depth + 1))
        return _Node(start, body, end, fields, tuple(parts))


def _below(raw: bytes, node: _Node, prefix: str) -> Iterator[Leaf]:
    """The leaves in a multipart, or in the message of a message/rfc822 (which has no number)."""
    for number, one in enumerate(node.parts, 1):
        if one.is_multipart and one.parts:
            inner = f"{prefix}{number}." if node.is_multipart else prefix
        else:
            yield _leaf(raw, one, f"{prefix}{number}")
            inner = f"{prefix}{number}."
        yield from _below(raw, one, inner)


def _leaf(raw: bytes, node: _Node, path: str) -> Leaf:
    kind, _, encoding = node.fields
    return Leaf(path, raw[node.start : node.body], kind, encoding, raw[node.body : node.end])


def _split(raw: bytes, begin: int, end: int, boundary: bytes) -> list[tuple[int, int]]:
    """(start, end) of the parts of a multipart; the last one may be cut off."""
    delimiter = b"--" + boundary
    if not boundary or len(delimiter) > _LONGEST_DELIMITER:
        return []
    parts: list[tuple[int, int]] = []
    start = -1
    for line, after, is_closing in _delimiters(raw, begin, end, delimiter):
        if start >= 0:
            if len(parts) >= _MAX_PARTS:
                return parts
            parts.append((start, _before_line_end(raw, line, start)))
        if is_closing:
            return parts
        start = after
    return parts if start < 0 else [*parts, (start, end)]


def _delimiters(
    raw: bytes, begin: int, end: int, delimiter: bytes
) -> Iterator[tuple[int, int, bool]]:
    """(offset of the line, offset of the next one, whether it closes) of each delimiter line."""
    position = begin
    for _ in range(_MAX_CANDIDATES):
        position = raw.find(delimiter, position, end)
        if position < 0:
            return
        after = position + len(delimiter)
        if position > begin and raw[position - 1 : position] != b"\n":
            position = after
            continue
        is_closing = raw[after : min(end, after + 2)] == b"--"
        tail = after + 2 * is_closing
        rest = raw[tail : min(end, tail + _TAIL_LIMIT)]
        match = _TAIL.match(rest)
        has_tail = match is None or (match.end() == len(rest) == _TAIL_LIMIT and rest[-1:] != b"\n")
        if has_tail and not is_closing:
            position = after
            continue
        line_end = raw.find(b"\n", tail, end)
        next_line = end if line_end < 0 else line_end + 1
        yield position, next_line, is_closing
        position = next_line


def _before_line_end(raw: bytes, position: int, start: int) -> int:
    """`position` without the line end before it, which is the delimiter's; not before `start`."""
    if position > start and raw[position - 1 : position] == b"\n":
        position -= 1
        if position > start and raw[position - 1 : position] == b"\r":
            position -= 1
    return position


def decoded(body: bytes, encoding: str) -> bytes:
    """Octets without their Content-Transfer-Encoding; in one that is not known, as they are."""
    if encoding == "base64":
        signs = body.translate(None, _NOT_BASE64).partition(b"=")[0]
        # A sign that is left over is less than an octet.
        kept = signs[: len(signs) - (len(signs) % 4 == 1)]
        return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4))
    if encoding == "quoted-printable":
        return binascii.a2b_qp(_BLANK_AT_END.sub(b"", body))
    return body
