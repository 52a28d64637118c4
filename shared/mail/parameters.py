"""Values with parameters: Content-Type, Content-Disposition (RFC 2045, 2183, 2231).

Read from left to right, once. The first of two parameters with one name counts, a plain one before
an extended one; but of a file's name the extended one, beside which senders write the other for old
programs. Both are a finding, since readers differ on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from shared.mail import charsets
from shared.mail.fields import unfold
from shared.mail.findings import TELLING_PARAMETERS, Finding, FindingKind

#: Octets of one value that are read.
VALUE_LIMIT = 1 << 13
#: Semicolons and opening parentheses of a value up to which it is read: each costs a step, in every
#: part of a mail. A name of 255 characters in sections (RFC 2231) has half as many.
MOST_SIGNS = 100
#: How often what follows a name is looked for up to the end in vain, as in a comment without one.
_MOST_UNREAD = 8
#: What is shorter is remembered: senders write few different values, again and again.
_SHORT_VALUE = 256
#: Others are asked for several times in a row.
_KEPT_LONG = 16

#: Findings about other parameters that are said of one value.
_MOST_FINDINGS = 50

_SPACE = re.compile(rb"[ \t\r\n]*+")
_COMMENT = re.compile(rb"\s*+\([^()]*+\)\s*+")
_COMMENT_PART = re.compile(rb"(?:[^()\\]|\\.)*+", re.DOTALL)
_TO_PARAMETERS = re.compile(rb"[^;]*+")
# Tolerant: RFC 2045 allows less in names and values; no delimiter of ours is among what is taken.
_NAME = re.compile(rb"[^\s=;\"()]++")
#: As RFC 2045 section 5.1 has them: behind another one some readers read no parameter any more.
_PROPER_NAME = re.compile(rb"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_TOKEN = re.compile(rb"[^;\s]*+")
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?")
#: Parameters that name a file: people's own words, in which senders forget the quotes.
_FILE_NAMES = ("name", "filename")
#: `text/html charset=utf-8`, as scripts write it: the parameter is meant.
_WITHOUT_SEMICOLON = re.compile(
    rb"[ \t]*+([!#$%&'*+.^_`{|}~0-9A-Za-z/-]++)[ \t,](?=[ \t,]*+[A-Za-z][A-Za-z*0-9-]*+[ \t]*+=)"
)
_TYPE = re.compile(rb"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`{|}~0-9A-Za-z-]+)?")


class Parameterised(NamedTuple):
    """`value` is what stands before the first semicolon, in lower case, without comments.

    `parameters` are decoded, by their name in lower case; `findings` have offsets in the value.
    """

    value: str
    parameters: Mapping[str, str]
    findings: tuple[Finding, ...]


class _ParameterPiece(NamedTuple):
    where: int
    octets: bytes
    extended: bool


def read_parameters(value: bytes, hint: str = "") -> Parameterised:
    """Reads the value of a field, folded or not; `hint` as of `charsets.decode_unlabelled`."""
    if len(value) <= _SHORT_VALUE:
        return _read_again(value, hint)
    line = unfold(value)
    return _read_long_again(_limited(line), len(line), hint)


def _read(value: bytes, size: int, hint: str) -> Parameterised:
    """`value` is on one line, as much of it as is read, of `size` octets in all."""
    found: list[Finding] = []
    if len(value) < size:
        found.append(Finding(FindingKind.MALFORMED_PARAMETER, len(value)))
    head = _TO_PARAMETERS.match(value)
    stop = head.end() if head else 0
    kind = value[:stop]
    if b"(" in kind:
        kind, stop = _without_comments(value, found)
    kind = kind.strip()
    if not _TYPE.fullmatch(kind):
        found.append(Finding(FindingKind.MALFORMED_CONTENT_TYPE, 0))
        if match := _WITHOUT_SEMICOLON.match(value):
            kind, stop = match[1], match.end() - 1
            value = value[:stop] + b";" + value[stop + 1 :]
    pieces = _pieces(value, stop, found) if stop < len(value) else {}
    parameters = {name: _joined(name, parts, hint, found) for name, parts in pieces.items()}
    text = kind.decode("ascii", "replace").lower()
    found.sort(key=lambda one: one.where)
    if len(found) > _MOST_FINDINGS:
        once = list({(kind, detail): one for one in found for kind, _, detail in (one,)}.values())
        found = [one for one in once if one.detail in TELLING_PARAMETERS]
        others = [one for one in once if one.detail not in TELLING_PARAMETERS]
        others.sort(key=lambda one: one.kind is not FindingKind.MALFORMED_PARAMETER)
        found += others[:_MOST_FINDINGS]
    return Parameterised(text, parameters, tuple(found))


_read_long_again = lru_cache(maxsize=_KEPT_LONG)(_read)


@lru_cache(maxsize=512)
def _read_again(folded: bytes, hint: str) -> Parameterised:
    line = unfold(folded)
    return _read(_limited(line), len(line), hint)


def _limited(line: bytes) -> bytes:
    """As much of a value as is read."""
    value = line[:VALUE_LIMIT]
    for sign in (b";", b"("):
        if value.count(sign) > MOST_SIGNS:
            value = sign.join(value.split(sign, MOST_SIGNS + 1)[: MOST_SIGNS + 1])
    return value


def _without_comments(value: bytes, found: list[Finding]) -> tuple[bytes, int]:
    """(what stands before the first semicolon outside a comment, the offset of that semicolon)."""
    kept, position = b"", 0
    while position < len(value) and value[position] != 0x3B:
        if value[position] == 0x28:
            position = _behind_comment(value, position, found)
        else:
            kept += value[position : position + 1]
            position += 1
    return kept, position


def _behind_comment(value: bytes, start: int, found: list[Finding]) -> int:
    """The offset behind the comment (they nest) that begins at `start`; the end if it has none."""
    depth, position = 0, start
    while position < len(value):
        octet = value[position]
        depth += (octet == 0x28) - (octet == 0x29)
        position += 1
        if depth == 0:
            return position
        match = _COMMENT_PART.match(value, position)
        position = match.end() if match else position
        if position < len(value) and value[position] == 0x5C:
            position += 1  # a backslash at the very end
    found.append(Finding(FindingKind.MALFORMED_PARAMETER, start))
    return position


def _skip(value: bytes, position: int, found: list[Finding]) -> int:
    """The offset behind white space and comments."""
    while True:
        match = _SPACE.match(value, position)
        position = match.end() if match else position
        if value[position : position + 1] != b"(":
            return position
        position = _behind_comment(value, position, found)


def _pieces(
    value: bytes, position: int, found: list[Finding]
) -> dict[str, dict[int, _ParameterPiece]]:
    """The parameters, by name and number of the section; -1 is one without a number."""
    pieces: dict[str, dict[int, _ParameterPiece]] = {}
    last = ""
    unread = 0
    while position < len(value) and unread < _MOST_UNREAD:
        # Stands before the semicolon that begins the next parameter.
        start = position = _skip(value, position, found)
        if value[position : position + 1] == b";":
            start = position = _skip(value, position + 1, found)
        elif position < len(value):
            found.append(Finding(FindingKind.MALFORMED_PARAMETER, position, last))
            position = _next(value, position)
            continue
        if position >= len(value) or value[position : position + 1] == b";":
            continue  # a semicolon at the end is frequent, and harmless
        name = _NAME.match(value, position)
        after = _skip(value, name.end(), found) if name else position
        if name is None or value[after : after + 1] != b"=":
            found.append(Finding(FindingKind.MALFORMED_PARAMETER, start))
            position = _next(value, position)
            unread += after >= len(value)
            continue
        last = name[0].decode("ascii", "replace").lower()
        if not _PROPER_NAME.fullmatch(name[0]):
            found.append(Finding(FindingKind.MALFORMED_PARAMETER, start, last))
        position = _skip(value, after + 1, found)
        quoted = _QUOTED.match(value, position)
        if quoted:
            octets, position = _QUOTED_PAIR.sub(rb"\1", quoted[1]), quoted.end()
        else:
            token = _TOKEN.match(value, position)
            octets = token[0] if token else b""
            if b'"' in octets or not octets:
                # Others may read the next ones as a part of it, or none of them.
                detail = "" if last in _FILE_NAMES else last
                found.append(Finding(FindingKind.MALFORMED_PARAMETER, position, detail))
            elif b"(" in octets:
                found.append(Finding(FindingKind.MALFORMED_PARAMETER, position, last))
            position += len(octets)
            if last in _FILE_NAMES:
                octets, position = _unquoted_name(value, position, octets)
        _add(pieces, last, octets, start, found)
    return pieces


def _unquoted_name(value: bytes, position: int, octets: bytes) -> tuple[bytes, int]:
    """(the name of a file that has no quotes, or one of them; the offset behind it).

    With what stands behind a space in it, up to the next semicolon, but a comment.
    """
    stop = _next(value, position)
    rest = value[position:stop]
    if rest.strip() and not _COMMENT.fullmatch(rest):
        octets, position = octets + rest.rstrip(), position + len(rest.rstrip())
    return octets.removeprefix(b'"'), position


def _next(value: bytes, position: int) -> int:
    """The next semicolon."""
    where = value.find(b";", position)
    return len(value) if where < 0 else where


def _add(
    pieces: dict[str, dict[int, _ParameterPiece]],
    name: str,
    octets: bytes,
    where: int,
    found: list[Finding],
) -> None:
    section = _SECTION.fullmatch(name)
    if section is None:
        found.append(Finding(FindingKind.MALFORMED_PARAMETER, where, name))
        return
    base, number, star = section.groups()
    sections = pieces.setdefault(base, {})
    index = -1 if number is None else int(number)
    if (star or number is not None) and base == "boundary":
        found.append(Finding(FindingKind.ENCODED_BOUNDARY, where))
    if index in sections or (sections and (index == -1) != (-1 in sections)):
        found.append(Finding(FindingKind.DUPLICATE_PARAMETER, where, base))
        is_plain = index == -1 and not star
        has_plain = -1 in sections and not sections[-1].extended
        if has_plain == is_plain or is_plain == (base in _FILE_NAMES):
            return
        sections.clear()
    sections[index] = _ParameterPiece(where, octets, bool(star))


def _joined(
    name: str, sections: Mapping[int, _ParameterPiece], hint: str, found: list[Finding]
) -> str:
    """The sections of a parameter in their order, decoded (RFC 2231 sections 3 and 4)."""
    if sections.keys() == {-1} and not sections[-1].extended:
        return _decoded(sections[-1].octets, "", hint, name)
    numbers = sorted(sections)
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 0:
        found.append(Finding(FindingKind.MALFORMED_PARAMETER, sections[numbers[0]].where, name))
    label = ""
    whole = b""
    for number in numbers:
        _, octets, extended = sections[number]
        if extended:
            if number == numbers[0] and octets.count(b"'") >= 2:
                said, _, octets = octets.split(b"'", 2)
                label = said.decode("ascii", "replace")
            octets = unquote_to_bytes(octets)
        whole += octets
    return _decoded(whole, label, hint, name)


def _decoded(octets: bytes, label: str, hint: str, name: str) -> str:
    """As every text of a header (`shared.mail.charsets`); a boundary becomes octets again."""
    if name == "boundary" or (not label and octets.isascii() and b"\x1b" not in octets):
        return octets.decode("utf-8", "replace")
    return charsets.decode(octets, label, hint).text
