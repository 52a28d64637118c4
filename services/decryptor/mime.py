"""Entities of MIME (RFC 2045, 2046) on raw bytes: found, never re-made.

A signature covers bytes, so what is signed is cut out of the mail as it lies there. Only the
header block is looked at; a full parse of a 10 MB mail costs a third of a second and twenty times
its size, ours some microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.message import Message
from functools import lru_cache
from typing import NamedTuple

from services.decryptor.spool import Region, made

#: A longer header block is not a header block.
MAX_HEADER_BYTES = 1 << 20
MAX_BOUNDARY = 256
MAX_CONTENT_TYPE = 1 << 13
#: What is shorter and comes again and again is remembered.
_SHORT_HEADER = 256

#: RFC 2045 section 5.2.
_DEFAULT_TYPE: tuple[str, Mapping[str, str]] = ("text/plain", {})
_PARAMETER = re.compile(
    rb';\s*([A-Za-z0-9!#$%&\'*+.^_`{|}~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.DOTALL
)
_START = re.compile(rb"\r?\n|[\x21-\x39\x3b-\x7e]+[ \t]*:")
_LONGEST_NAME = 256
_CR = 13
_VALUE = rb"([^\n]*(?:\n[ \t][^\n]*)*)"
#: Its groups: the value of Content-Type, that of Content-Transfer-Encoding, or the name of another
#: field, whose colon (some write a space before it, RFC 5322 section 4.5) may be missing.
_CONTENT_FIELD = re.compile(
    rb"\n[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-(?:[Tt][Yy][Pp][Ee][ \t]*:%b"
    rb"|[Tt][Rr][Aa][Nn][Ss][Ff][Ee][Rr]-[Ee][Nn][Cc][Oo][Dd][Ii][Nn][Gg][ \t]*:%b"
    rb"|([^:\n]*)(:?)[^\n]*(?:\n[ \t][^\n]*)*)" % (_VALUE, _VALUE)
)
_COMMENT = re.compile(rb"\([^()]*\)")
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


class Entity(NamedTuple):
    """One MIME entity inside a region: header block, then body.

    `header` is the block without the empty line, every line with its end; `body` the rest.
    `described` says where in the header each Content-* field lies, by name in lower case.
    `transfer_encoding` is in lower case, `7bit` where the field is absent.
    """

    header: bytes
    body: Region
    described: tuple[tuple[bytes, int, int], ...]
    media_type: str
    parameters: Mapping[str, str]
    transfer_encoding: str

    def get(self, name: bytes) -> bytes:
        """The unfolded value of the first Content-* field of that name; b"" where absent."""
        for found, start, end in self.described:
            if found == name:
                return _value(self.header[start:end])
        return b""


def entity(part: Region) -> Entity:
    """Reads the header block of the entity that fills `part`."""
    header, start = split_header(part)
    read = _read_again if len(header) < _SHORT_HEADER else _read
    body = made(Region, (part.buffer, start, part.end))
    return made(Entity, (header, body, *read(header)))


#: What the Content-* fields say: the fields of an `Entity` from `described` on.
_Described = tuple[tuple[tuple[bytes, int, int], ...], str, Mapping[str, str], str]


def _read(header: bytes) -> _Described:
    found: list[tuple[bytes, int, int]] = []
    kind = encoding = None
    size = len(header)
    # With a line end before it, the position of a match is that of the field in the header itself.
    for match in _CONTENT_FIELD.finditer(b"\n" + header):
        start, end = match.span()
        which = match.lastindex
        if which == 1:
            name = b"content-type"
            if kind is None:
                kind = match[1]
        elif which == 2:
            name = b"content-transfer-encoding"
            if encoding is None:
                encoding = match[2]
        else:
            name = b"content-" + match[3].rstrip(b" \t").lower() if match[4] else b""
        found.append((name, start, end if end < size else size))
    media_type, parameters = _DEFAULT_TYPE
    if kind is not None and len(kind) <= MAX_CONTENT_TYPE:
        media_type, parameters = _type(kind)
    if encoding is None:
        return tuple(found), media_type, parameters, "7bit"
    named = _encoding(encoding) if len(encoding) <= _SHORT_HEADER else _encoding_of(encoding)
    return tuple(found), media_type, parameters, named


# Senders write few different ones, and each costs more to read than most of what follows.
@lru_cache(maxsize=512)
def _type(field: bytes) -> tuple[str, Mapping[str, str]]:
    value = _unfolded(field)
    return content_type(value) if value else _DEFAULT_TYPE


def _encoding_of(field: bytes) -> str:
    value = _unfolded(field)
    if b"(" in value:
        value = _COMMENT.sub(b"", value).strip()
    return value.lower().decode("ascii", "replace") or "7bit"


_encoding = lru_cache(maxsize=512)(_encoding_of)

#: What is inside a mail mostly has one short field, the same in mail after mail.
_read_again = lru_cache(maxsize=512)(_read)


def split_header(part: Region) -> tuple[bytes, int]:
    """(header block, offset of the body). Line ends may be CRLF or LF."""
    buffer, start, end = part
    limit = end if end - start <= MAX_HEADER_BYTES else start + MAX_HEADER_BYTES
    if start < end and buffer[start] <= _CR:
        # An entity without any field starts with its empty line.
        first = buffer[start : start + 2]
        if first == b"\r\n":
            return b"", start + 2
        if first[:1] == b"\n":
            return b"", start + 1
    crlf = buffer.find(b"\r\n\r\n", start, limit)
    lf = buffer.find(b"\n\n", start, limit if crlf < 0 else crlf)
    if lf >= 0:
        return buffer[start : lf + 1], lf + 2
    if crlf >= 0:
        return buffer[start : crlf + 2], crlf + 4
    if limit < end:
        return b"", start
    return buffer[start:end], end


def looks_like_header(content: Region) -> bool:
    """Whether something starts as an entity does: with a header field, or with an empty line.

    What a wrong key makes of a content passes the padding check once in 256 times; it does not
    look like this (once in some millions).
    """
    buffer, start, end = content
    return _START.match(buffer, start, min(end, start + _LONGEST_NAME)) is not None


def field_value(header: bytes, name: bytes) -> bytes:
    """The unfolded value of the first field called `name` (lower case); b"" where absent."""
    lowered = b"\n" + header.lower()
    start = lowered.find(b"\n" + name)
    while start >= 0:
        colon = start + len(name)
        while header[colon : colon + 1] in (b" ", b"\t"):
            colon += 1
        if header[colon : colon + 1] == b":":
            return _value(header[start : field_end(header, start)])
        start = lowered.find(b"\n" + name, start + 1)
    return b""


def _value(field: bytes) -> bytes:
    return _unfolded(field.partition(b":")[2])


def _unfolded(value: bytes) -> bytes:
    """The value of a field, its line ends taken out (RFC 5322 section 2.2.3)."""
    value = value.strip()
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return value


_TO_FIELD_END = re.compile(rb"[^\n]*(?:\n[ \t][^\n]*)*\n?")


def field_end(header: bytes, start: int) -> int:
    """The offset behind the field at `start`, its folded lines included."""
    found = _TO_FIELD_END.match(header, start)
    assert found is not None  # it matches whatever is there
    return found.end()


def content_type(value: bytes) -> tuple[str, Mapping[str, str]]:
    """(media type in lower case, parameters by lower-case name) of a Content-Type value.

    Parameters in the notation of RFC 2231 (`name*0=`, `name*=`) are joined and decoded.
    """
    kind, _, rest = value.partition(b";")
    if b"(" in kind:
        kind = _COMMENT.sub(b"", kind)
    media_type = kind.strip().lower().decode("ascii", "replace")
    if not rest:
        return media_type, {}
    if b"*" in rest or b"(" in rest:
        message = Message()
        message["content-type"] = value.decode("ascii", "replace")
        found = message.get_params(failobj=[], unquote=True)[1:]
        return media_type, {
            name.lower(): text if isinstance(text, str) else _joined(text) for name, text in found
        }
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(b";" + rest):
        name, quoted, token = match.groups()
        text = token if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)
        parameters.setdefault(name.decode("ascii").lower(), text.decode("utf-8", "replace"))
    return media_type, parameters


def _joined(extended: tuple[str | None, str | None, str]) -> str:
    charset, _, text = extended
    try:
        return text.encode("latin-1", "replace").decode(charset or "ascii", "replace")
    except LookupError:
        return text


def parts(whole: Entity, limit: int) -> list[Region]:
    """The first `limit` parts of a multipart entity, exactly as they lie there (RFC 2046 5.1.1).

    The line end before a delimiter belongs to the delimiter. An empty list where the boundary is
    missing or does not occur.
    """
    boundary = whole.parameters.get("boundary", "").encode("utf-8", "replace")
    if not boundary or len(boundary) > MAX_BOUNDARY:
        return []
    buffer, end = whole.body.buffer, whole.body.end
    found: list[Region] = []
    start = -1
    for line, after, closing in _delimiters(whole.body, b"--" + boundary):
        if start >= 0:
            stop = line
            if stop > start and buffer[stop - 1 : stop] == b"\n":
                stop -= 1
                if stop > start and buffer[stop - 1 : stop] == b"\r":
                    stop -= 1
            found.append(Region(buffer, start, stop))
            if len(found) == limit:
                return found
        if closing:
            return found
        start = after
    if start >= 0:
        # Cut off before its closing delimiter: what is there is still the part.
        found.append(Region(buffer, start, end))
    return found


def _delimiters(body: Region, delimiter: bytes) -> Iterator[tuple[int, int, bool]]:
    """(offset of the line, offset of the next line, whether it closes) of each delimiter line."""
    buffer, position, end = body
    size = len(delimiter)
    while True:
        position = buffer.find(delimiter, position, end)
        if position < 0:
            return
        after = position + size
        at_line_start = position == body.start or buffer[position - 1 : position] == b"\n"
        closing = buffer[after : after + 2] == b"--"
        line_end = buffer.find(b"\n", after, end)
        next_line = end if line_end < 0 else line_end + 1
        rest = buffer[after : min(next_line, after + 80)]
        if at_line_start and (closing or not rest.strip()):
            yield position, next_line, closing
            if closing:
                return
            position = next_line
        else:
            position = after
