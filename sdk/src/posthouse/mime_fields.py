"""The Content-* fields of a header block on raw octets (RFC 2045, 2183, 2231), tolerant.

By the rules of Posthouse's own reader, so that a mail has the same parts here as at its address: a
line ends with CRLF or LF, the first field of a name counts, and of two parameters with one name the
first, a plain one before an extended one; but of a file's name the extended one.
"""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

#: Octets of a header block, and of a value, that are read.
_HEADER_LIMIT: Final = 256 * 1024
_VALUE_LIMIT: Final = 1 << 13
_ENCODING_LIMIT: Final = 256
#: Semicolons and opening parentheses of a value up to which it is read.
_MOST_SIGNS: Final = 100
#: Octets of a file's name, as it is sent, in which encoded words (RFC 2047) are read.
_LONGEST_ENCODED: Final = 1000
#: How often what follows a name is looked for up to the end in vain.
_MOST_UNREAD: Final = 8

_FIELD: Final = re.compile(
    rb"\n((?i:content-(?:type|transfer-encoding|disposition)))[ \t]*+:(.*+(?:\n[ \t].*+)*+)"
)
_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
_FOLD: Final = re.compile(rb"\r?\n(?=[ \t])")
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_COMMENT: Final = re.compile(rb"\s*+\([^()]*+\)\s*+")
_COMMENT_IN_TEXT: Final = re.compile(r"\([^()]*\)")
_COMMENT_PART: Final = re.compile(rb"(?:[^()\\]|\\.)*+", re.DOTALL)
_NAME: Final = re.compile(rb"[^\s=;\"()]++")
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_TOKEN: Final = re.compile(rb"[^;\s]*+")
_TYPE: Final = re.compile(rb"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`{|}~0-9A-Za-z-]+)?")
#: `text/html charset=utf-8`, as scripts write it: the parameter is meant.
_WITHOUT_SEMICOLON: Final = re.compile(
    rb"[ \t]*+([!#$%&'*+.^_`{|}~0-9A-Za-z/-]++)[ \t,](?=[ \t,]*+[A-Za-z][A-Za-z*0-9-]*+[ \t]*+=)"
)
_SECTION: Final = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?")
#: People's own words, in which senders forget the quotes.
_FILE_NAMES: Final = ("name", "filename")
#: The number of a parameter that is not cut into sections.
_WHOLE: Final = -1
#: A parameter by the numbers of its sections: (octets, whether they are extended).
_Sections = dict[int, tuple[bytes, bool]]


class ContentFields(NamedTuple):
    """What a header block says of its body.

    `media_type` and `transfer_encoding` are in lower case; `boundary` is empty where none is named.
    """

    media_type: str
    boundary: bytes
    transfer_encoding: str


def header_end(octets: bytes, start: int, end: int) -> tuple[int, int]:
    """(the end of the header block with its last line end, the offset of the body).

    Without an empty line all is header.
    """
    first = octets[start : min(end, start + 2)]
    if first == b"\r\n":
        return start, start + 2
    if first[:1] == b"\n":
        return start, start + 1
    match = _EMPTY_LINE.search(octets, start, end)
    return (end, end) if match is None else (match.start() + 1, match.end())


def read_content_fields(header: bytes, default_type: str) -> ContentFields:
    """Of a header block; `default_type` is that of a body whose type is not named."""
    found = _values(header)
    kind = found.get(b"content-type")
    media_type, boundary = _read_type(kind) if kind else (default_type, b"")
    encoding = found.get(b"content-transfer-encoding")
    return ContentFields(
        media_type or "text/plain",
        boundary,
        "7bit" if encoding is None else _encoding(encoding[:_ENCODING_LIMIT]),
    )


def file_name(header: bytes) -> str:
    """The name of a part, decoded, by its header block; empty where the sender gave none.

    Python's `email` takes minutes for a long field.
    """
    found = _values(header)
    for field, parameter in ((b"content-disposition", "filename"), (b"content-type", "name")):
        _, parameters = _read_value(found.get(field, b""))
        if name := _joined(parameters.get(parameter, {})).decode("utf-8", "replace"):
            return _decoded(name) if "=?" in name else name
    return ""


def _decoded(name: str) -> str:
    """With encoded words, which senders put into parameters against RFC 2047 section 5."""
    try:
        return str(make_header(decode_header(name[:_LONGEST_ENCODED])))
    except (HeaderParseError, LookupError, ValueError):
        return name


def _values(header: bytes) -> dict[bytes, bytes]:
    """The first value of each Content-* field that is read, by its name in lower case."""
    if len(header) > _HEADER_LIMIT:
        header = header[:_HEADER_LIMIT].removesuffix(b"\r")
    found: dict[bytes, bytes] = {}
    for match in _FIELD.finditer(b"\n" + header):
        name, value = match.groups()
        if match.end() <= len(header):
            value = value.removesuffix(b"\r")
        found.setdefault(name.lower(), value)
    return found


def _encoding(value: bytes) -> str:
    text = value.decode("ascii", "replace")
    return " ".join(_COMMENT_IN_TEXT.sub("", text).split()).lower() or "7bit"


@lru_cache(maxsize=64)
def _read_type(folded: bytes) -> tuple[str, bytes]:
    """(the media type, the boundary) of a Content-Type."""
    kind, parameters = _read_value(folded)
    # What is not UTF-8 in it fits no delimiter, here as in Posthouse's own reader.
    text = _joined(parameters.get("boundary", {})).decode("utf-8", "replace")
    return kind.strip().decode("ascii", "replace").lower(), text.encode("utf-8", "replace")


def _read_value(folded: bytes) -> tuple[bytes, dict[str, _Sections]]:
    """(what stands before the first semicolon, without comments; the parameters, by name)."""
    value = _FOLD.sub(b"", folded).strip(b" \t\r\n")[:_VALUE_LIMIT]
    for sign in (b";", b"("):
        if value.count(sign) > _MOST_SIGNS:
            value = sign.join(value.split(sign, _MOST_SIGNS + 1)[: _MOST_SIGNS + 1])
    kind, position = b"", 0
    while position < len(value) and value[position : position + 1] != b";":
        if value[position : position + 1] == b"(":
            position = _behind_comment(value, position)
        else:
            kind += value[position : position + 1]
            position += 1
    if not _TYPE.fullmatch(kind.strip()) and (match := _WITHOUT_SEMICOLON.match(value)):
        kind, position = match[1], match.end() - 1
        value = value[:position] + b";" + value[position + 1 :]
    return kind, _parameters(value, position)


def _joined(sections: _Sections) -> bytes:
    """The sections of a parameter in their order (RFC 2231 sections 3 and 4)."""
    whole = b""
    for number in sorted(sections):
        octets, is_extended = sections[number]
        if is_extended:
            if number == min(sections) and octets.count(b"'") >= 2:
                octets = octets.split(b"'", 2)[2]
            octets = unquote_to_bytes(octets)
        whole += octets
    return whole


def _behind_comment(value: bytes, start: int) -> int:
    """The offset behind the comment (they nest) that begins at `start`; the end if it has none."""
    depth, position = 0, start
    while position < len(value):
        octet = value[position : position + 1]
        depth += (octet == b"(") - (octet == b")")
        position += 1
        if depth == 0:
            return position
        match = _COMMENT_PART.match(value, position)
        position = match.end() if match else position
        position += value[position : position + 1] == b"\\"  # at the very end
    return position


def _skip(value: bytes, position: int) -> int:
    """The offset behind white space and comments."""
    while True:
        match = _SPACE.match(value, position)
        position = match.end() if match else position
        if value[position : position + 1] != b"(":
            return position
        position = _behind_comment(value, position)


def _next(value: bytes, position: int) -> int:
    where = value.find(b";", position)
    return len(value) if where < 0 else where


def _parameters(value: bytes, position: int) -> dict[str, _Sections]:
    found: dict[str, _Sections] = {}
    unread = 0
    while position < len(value) and unread < _MOST_UNREAD:
        position = _skip(value, position)
        if value[position : position + 1] == b";":
            position = _skip(value, position + 1)
        elif position < len(value):
            position = _next(value, position)
            continue
        if position >= len(value) or value[position : position + 1] == b";":
            continue
        match = _NAME.match(value, position)
        after = _skip(value, match.end()) if match else position
        if match is None or value[after : after + 1] != b"=":
            position = _next(value, position)
            unread += after >= len(value)
            continue
        name = match[0].decode("ascii", "replace").lower()
        octets, position = _parameter_value(value, _skip(value, after + 1), name)
        _add(found, name, octets)
    return found


def _parameter_value(value: bytes, position: int, name: str) -> tuple[bytes, int]:
    """(its octets, the offset behind it)."""
    if quoted := _QUOTED.match(value, position):
        return _QUOTED_PAIR.sub(rb"\1", quoted[1]), quoted.end()
    token = _TOKEN.match(value, position)
    octets = token[0] if token else b""
    position += len(octets)
    if name in _FILE_NAMES:
        rest = value[position : _next(value, position)]
        if rest.strip() and not _COMMENT.fullmatch(rest):
            octets, position = octets + rest.rstrip(), position + len(rest.rstrip())
        octets = octets.removeprefix(b'"')
    return octets, position


def _add(found: dict[str, _Sections], name: str, octets: bytes) -> None:
    section = _SECTION.fullmatch(name)
    if section is None:
        return
    base, number, star = section.groups()
    sections = found.setdefault(base, {})
    index = _WHOLE if number is None else int(number)
    if index in sections or (sections and (index == _WHOLE) != (_WHOLE in sections)):
        is_plain = index == _WHOLE and not star
        has_plain = _WHOLE in sections and not sections[_WHOLE][1]
        if has_plain == is_plain or is_plain == (base in _FILE_NAMES):
            return
        sections.clear()
    sections[index] = (octets, bool(star))
