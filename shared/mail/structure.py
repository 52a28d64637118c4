"""Entities of MIME (RFC 2045, 2046) on raw octets: found with their places, never re-made.

A signature covers octets, so what is signed is cut out of the mail as it lies there. Each octet is
looked at a bounded number of times, whatever the mail: parts, their depth and the length of their
header blocks have limits, and what lies beyond a limit is a finding.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from shared.mail.fields import HeaderBlock, HeaderField, KnownNames, Names, split_header, unfold
from shared.mail.findings import Finding, FindingKind
from shared.mail.parameters import Parameterised, read_parameters
from shared.mail.region import Region, made

#: RFC 2046 section 5.1.1; longer ones occur, and are a finding.
_LONGEST_BOUNDARY = 70
_MAX_BOUNDARY = 256
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
#: Parts of one multipart, parts of one mail, and how deep they lie in each other.
MAX_PARTS = 1000
MAX_DEPTH = 24
#: Lines that begin like a delimiter and are looked at, in one multipart.
_MAX_CANDIDATES = 4 * MAX_PARTS

#: The fields that say what a body is.
MIME_FIELDS = Names("content-", "mime-version")
#: Those of them that are asked for by their values.
PART_FIELDS = KnownNames(
    ("content-type", "content-transfer-encoding", "content-disposition", "content-id"),
    among=MIME_FIELDS,
)
#: RFC 2045 section 5.2.
_DEFAULT_TYPE = Parameterised("text/plain", {}, ())
#: RFC 2046 section 5.1.5.
_DEFAULT_IN_DIGEST = Parameterised("message/rfc822", {}, ())
#: Types of a part that is a whole mail (RFC 2046 section 5.2.1, RFC 6532 section 3.7).
MESSAGE_TYPES = ("message/rfc822", "message/global")
#: RFC 2045 section 6.4 allows a multipart or a message these only.
_IDENTITY = ("7bit", "8bit", "binary")
_TRANSFER_ENCODINGS = (*_IDENTITY, "base64", "quoted-printable")
_TAIL = re.compile(rb"[ \t]*+(?:\r?\n|\Z)")
_TAIL_LIMIT = 80
_CR = 13
#: But one at the very end. Half the price of looking ahead.
_BARE_CR = re.compile(rb"\r[^\n]")
_COMMENT = re.compile(r"\([^()]*\)")


class Entity(NamedTuple):
    """One MIME entity inside a region: header block, then body.

    `media_type` and `transfer_encoding` are in lower case; the first is `text/plain` (in a
    multipart/digest `message/rfc822`) and the second `7bit` where the field is absent.
    """

    header: HeaderBlock
    body: Region
    media_type: str
    parameters: Mapping[str, str]
    transfer_encoding: str

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is ambiguous about this entity's own header; offsets are in its header block."""
        return (*self.header.findings, *self.mime_findings)

    @property
    def mime_findings(self) -> tuple[Finding, ...]:
        """Those about its Content-* fields alone, for where the header's own are known already."""
        return () if _is_orderly(self) else tuple(_mime_findings(self))


def entity(
    whole: Region, default: Parameterised = _DEFAULT_TYPE, names: KnownNames = PART_FIELDS
) -> Entity:
    """Reads the header block of the entity that fills `whole`; `default` where it names no type.

    `names`: the fields that its header is going to be asked for, `PART_FIELDS` or more than those.
    """
    header, start = split_header(whole)
    said = header.values(names)
    kind = said.get("content-type")
    media_type, parameters, _ = default
    if kind and kind[0]:
        media_type, parameters, _ = read_parameters(kind[0], header.charset_hint)
    encoding = said.get("content-transfer-encoding")
    body = made(Region, (whole.buffer, start, whole.end))
    return made(
        Entity,
        (
            header,
            body,
            media_type or "text/plain",
            parameters,
            "7bit" if encoding is None else _encoding(encoding[0][:_MAX_BOUNDARY]),
        ),
    )


@lru_cache(maxsize=512)
def _encoding(value: bytes) -> str:
    text = value.decode("ascii", "replace")
    if "(" in text:
        text = _COMMENT.sub("", text)
    return " ".join(text.split()).lower() or "7bit"


def _is_orderly(whole: Entity) -> bool:
    """Whether its Content-* fields have no findings for certain: told without their places."""
    said = whole.header.values(PART_FIELDS)
    if "content-type" in said and read_parameters(said["content-type"][0]).findings:
        return False
    if "content-disposition" in said and read_parameters(said["content-disposition"][0]).findings:
        return False
    if "/" not in whole.media_type:
        return False
    encoding = said.get("content-transfer-encoding")
    if encoding is None:
        return True
    if len(encoding[0]) > _MAX_BOUNDARY:
        return False
    plain = _plain(encoding[0])
    return plain in _IDENTITY or (
        plain in _TRANSFER_ENCODINGS and not whole.media_type.startswith(("multipart/", "message/"))
    )


@lru_cache(maxsize=512)
def _plain(value: bytes) -> str:
    return unfold(value).decode("ascii", "replace").lower()


def _mime_findings(whole: Entity) -> Iterator[Finding]:
    first: dict[str, HeaderField] = {}
    for field in whole.header.select(MIME_FIELDS):
        first.setdefault(field.name, field)
    for name in ("content-type", "content-disposition"):
        if name in first:
            start = first[name].start
            for one in read_parameters(first[name].value).findings:
                detail = one.detail if name == "content-type" else f"{name} {one.detail}".strip()
                yield Finding(one.kind, start, detail)
            if name == "content-type" and "/" not in whole.media_type:
                yield Finding(FindingKind.MALFORMED_CONTENT_TYPE, start)
    encoding = first.get("content-transfer-encoding")
    if encoding is None:
        return
    composite = whole.media_type.startswith(("multipart/", "message/"))
    plain = encoding.unfolded.decode("ascii", "replace").lower()
    if plain not in _TRANSFER_ENCODINGS:
        yield Finding(FindingKind.UNKNOWN_TRANSFER_ENCODING, encoding.start)
    elif composite and whole.transfer_encoding not in _IDENTITY:
        yield Finding(FindingKind.ENCODED_MULTIPART, encoding.start)


class Multipart(NamedTuple):
    """The parts of a multipart entity, exactly as they lie there (RFC 2046 section 5.1.1).

    The line end before a delimiter belongs to the delimiter. `preamble` lies before the first
    delimiter, `epilogue` behind the closing one (empty where there is none). The offsets of the
    findings are those of the buffer.
    """

    parts: tuple[Region, ...]
    preamble: Region
    epilogue: Region
    findings: tuple[Finding, ...]


def split_multipart(whole: Entity, limit: int = MAX_PARTS) -> Multipart:
    """Finds the first `limit` parts; none where the boundary is missing or does not occur.

    A multipart that was cut off before its closing delimiter ends with its last part. Text in
    preamble or epilogue is a finding, whatever it says.
    """
    buffer, begin, end = whole.body
    found: list[Finding] = []
    boundary = whole.parameters.get("boundary", "")
    delimiter = b"--" + boundary.encode("utf-8", "replace")
    if not _BOUNDARY.fullmatch(boundary) or len(boundary) > _LONGEST_BOUNDARY:
        found.append(Finding(FindingKind.MALFORMED_BOUNDARY, begin))
    if not boundary or len(delimiter) > _MAX_BOUNDARY:
        empty = Region(buffer, end, end)
        return Multipart((), whole.body, empty, tuple(found))
    parts: list[Region] = []
    preamble, closed = Region(buffer, begin, end), end
    start = -1
    for line, after, closing in _delimiters(whole.body, delimiter, found):
        stop = _before_line_end(buffer, line, begin if start < 0 else start)
        if start < 0:
            preamble = Region(buffer, begin, stop)
        elif len(parts) < limit:
            parts.append(Region(buffer, start, stop))
        else:
            found.append(Finding(FindingKind.TOO_MANY_PARTS, start))
            start = -1
            break
        start = after
        if closing:
            start, closed = -1, after
            break
    else:
        found.append(Finding(FindingKind.UNCLOSED_MULTIPART, end))
    if start >= 0:
        # Cut off before its closing delimiter: what is there is still the part.
        parts.append(Region(buffer, start, end))
    epilogue = Region(buffer, closed, end)
    for name, outside in (("preamble", preamble), ("epilogue", epilogue)):
        if not _is_blank(outside):
            found.append(Finding(FindingKind.TEXT_OUTSIDE_PARTS, outside.start, name))
    return Multipart(tuple(parts), preamble, epilogue, tuple(found))


def _delimiters(
    body: Region, delimiter: bytes, found: list[Finding]
) -> Iterator[tuple[int, int, bool]]:
    """(offset of the line, offset of the next line, whether it closes) of each delimiter line.

    A closing delimiter may have text behind it; another line than that is none.
    """
    buffer, position, end = body
    size = len(delimiter)
    for _ in range(_MAX_CANDIDATES):
        position = buffer.find(delimiter, position, end)
        if position < 0:
            return
        after = position + size
        if position > body.start:
            before = buffer[position - 1 : position]
            if before != b"\n":
                if before == b"\r":
                    found.append(Finding(FindingKind.BARE_CR, position - 1))
                position = after
                continue
        closing = buffer[after : min(end, after + 2)] == b"--"
        tail = after + 2 * closing
        rest = buffer[tail : min(end, tail + _TAIL_LIMIT)]
        match = _TAIL.match(rest)
        if match is None or (match.end() == len(rest) == _TAIL_LIMIT and rest[-1:] != b"\n"):
            found.append(Finding(FindingKind.DELIMITER_WITH_TAIL, position))
            if not closing:
                position = after
                continue
        line_end = buffer.find(b"\n", tail, end)
        next_line = end if line_end < 0 else line_end + 1
        yield position, next_line, closing
        position = next_line
    found.append(Finding(FindingKind.TOO_MANY_PARTS, position))


def _before_line_end(buffer: bytes | mmap.mmap, position: int, start: int) -> int:
    """`position` without the line end before it, not before `start`."""
    if position > start and buffer[position - 1 : position] == b"\n":
        position -= 1
        if position > start and buffer[position - 1 : position] == b"\r":
            position -= 1
    return position


def _is_blank(part: Region) -> bool:
    return not any(bytes(window).strip(b" \t\r\n") for window in part.windows())


class Part(NamedTuple):
    """One node of the tree. `whole` is header and body; `multipart` is None for a leaf.

    `parts` are those of a multipart; that of a message is what it holds.
    """

    whole: Region
    entity: Entity
    multipart: Multipart | None
    parts: tuple[Part, ...]
    #: Those of this node alone. Offsets are in the buffer.
    findings: tuple[Finding, ...]

    def walk(self) -> Iterator[Part]:
        """This node and all below it, in the order of the mail."""
        yield self
        for one in self.parts:
            yield from one.walk()

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """The findings of this node and of all below it."""
        if not self.parts:
            return self.findings
        return tuple([one for part in self.walk() for one in part.findings])


def read_structure(whole: Region) -> Part:
    """The tree of the mail or entity that fills `whole`."""
    return read_tree(whole, entity(whole))


def read_tree(whole: Region, read: Entity) -> Part:
    """As `read_structure`, of a whole whose header was read already."""
    return _part(whole, read, 0, _Budget())


def read_entity(read: Entity) -> Part:
    """The tree of an entity that was read already; its `whole` is its body."""
    return _part(read.body, read, 0, _Budget())


class _Budget:
    """How many parts of the mail may still be looked at."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_PARTS


def _part(whole: Region, read: Entity, depth: int, budget: _Budget) -> Part:
    found = [one._replace(where=one.where + whole.start) for one in read.findings]
    multipart: Multipart | None = None
    inner: tuple[Region, ...] = ()
    budget.left -= 1
    if read.media_type.startswith("multipart/"):
        multipart = split_multipart(read, MAX_PARTS)
        found += multipart.findings
        inner = multipart.parts
    elif read.media_type in MESSAGE_TYPES and read.transfer_encoding in _IDENTITY:
        inner = (read.body,)
    elif has_bare_cr(read.body) and read.transfer_encoding != "binary":
        found.append(Finding(FindingKind.BARE_CR, read.body.start))
    default = _DEFAULT_IN_DIGEST if read.media_type == "multipart/digest" else _DEFAULT_TYPE
    parts: list[Part] = []
    if inner and depth >= MAX_DEPTH:
        found.append(Finding(FindingKind.TOO_DEEP, whole.start))
    else:
        for one in inner:
            if budget.left <= 0:
                found.append(Finding(FindingKind.TOO_MANY_PARTS, one.start))
                break
            parts.append(_part(one, entity(one, default), depth + 1, budget))
    return Part(whole, read, multipart, tuple(parts), tuple(found))


def has_bare_cr(part: Region) -> bool:
    """Whether a carriage return without its line feed occurs."""
    buffer, start, end = part
    if isinstance(buffer, bytes):
        ends_with_cr = end > start and buffer[end - 1] == _CR
        return ends_with_cr or _BARE_CR.search(buffer, start, end) is not None
    open_end = False
    for window in part.windows():
        octets = bytes(window)
        if open_end and octets[:1] != b"\n":
            return True
        open_end = octets[-1:] == b"\r"
        if octets.count(b"\r") - octets.count(b"\r\n") > open_end:
            return True
    return open_end
