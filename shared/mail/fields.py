"""The fields of a header block (RFC 5322 section 2.2), with their places, as tolerant as senders.

A line ends with CRLF or LF. A bare CR ends no line here and is a finding, since others let it.
A line that begins with a space or a tabulator belongs to the field before it.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from shared.mail.charset_hints import charset_hint
from shared.mail.findings import Finding, FindingKind
from shared.mail.region import Region, made

#: Octets of a header block that are read; what lies beyond is carried but says nothing.
HEADER_LIMIT = 256 * 1024
_SHORT_HEADER = 256
_KNOWN_NAMES = 4096
#: Nobody repeats a longer one but to fill the memory.
_LONGEST_KNOWN = 64
_LF = 10

_LINES = rb".*+(?:\n[ \t].*+)*+"
# A name is of printable characters but the colon (RFC 5322 section 2.2). The second form is a line
# that is no field.
_FIELD = re.compile(rb"(?:([!-9;-~]++)[ \t]*+:)?(%b)\n?+" % _LINES)
#: Every line of a block, or field; only those that are written as they should be have a name.
_LISTED = re.compile(rb"(?:([!-9;-~]++):)?+(%b)\n" % _LINES)
#: With the line end before it.
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BLANK_FOLDED = re.compile(rb"\n[ \t]++\r?(?:\n|\Z)")

#: Octets that are never a finding by themselves.
_ORDINARY = bytes({*range(256)} - {*range(0x20), 0x7F} | {0x09, 0x0A})
_DUPLICATES = {
    "from": FindingKind.DUPLICATE_FROM,
    "content-type": FindingKind.DUPLICATE_CONTENT_TYPE,
}

#: Fields that a mail has once: RFC 5322 section 3.6, RFC 2045, RFC 2183.
SINGLE_FIELDS = frozenset(
    (
        "date", "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to",
        "references", "subject", "mime-version", "content-type", "content-transfer-encoding",
        "content-disposition", "content-id", "content-description",
    )
)  # fmt: skip


class HeaderField(NamedTuple):
    """One field. `name` is in lower case, "" for a line that is no field.

    `value` is what stands behind the colon as it lies there, folded, without its last line end;
    for a line that is no field, the line. `start` and `end` are offsets in the block, `end`
    behind the line end.
    """

    name: str
    value: bytes
    start: int
    end: int

    @property
    def unfolded(self) -> bytes:
        """The value on one line (RFC 5322 section 2.2.3), without the white space around it."""
        return unfold(self.value)


class Names:
    """Names of fields, in lower case, that are looked for together; one with a hyphen at its end
    stands for every name that begins so."""

    __slots__ = ("pattern",)

    def __init__(self, *names: str) -> None:
        any_of = "|".join(
            re.escape(name) + ("[!-9;-~]*+" if name.endswith("-") else "") for name in names
        )
        self.pattern = re.compile(rb"\n((?i:%b))[ \t]*+:(%b)" % (any_of.encode("ascii"), _LINES))


class KnownNames(dict[bytes, str]):
    """Names of fields, as they are written, to those in lower case that are looked for; "" for
    others. Half the price of a cache that counts who asks.

    `base`: others that are looked for too. A block that was asked for these names has the answer
    for those, so that its fields are gone through once. `among`: `Names` that are all of these and
    perhaps more. Selecting those has the answer for these.
    """

    __slots__ = ("among", "base", "wanted")

    def __init__(
        self, wanted: Iterable[str], base: KnownNames | None = None, among: Names | None = None
    ) -> None:
        super().__init__()
        self.base = base
        self.among = among
        known: frozenset[str] = frozenset() if base is None else base.wanted
        self.wanted: frozenset[str] = known.union(wanted)

    def __missing__(self, raw: bytes) -> str:
        name = raw.decode("ascii").lower()
        if name not in self.wanted:
            name = ""
        if len(self) < _KNOWN_NAMES and len(raw) <= _LONGEST_KNOWN:
            self[raw] = name
        return name


class HeaderBlock:
    """The fields of one header block in their order. `octets` is the block, every line end in it.

    `is_too_long`: the mail's own block is longer than `octets`, which is as much as is read.
    `charset_hint`: the label for octets that nothing names a character set for. It does not change
    once it is made; the fields are read when they are asked for, since most mails are asked for a
    few of many.
    """

    __slots__ = (
        "_fields",
        "_findings",
        "_listed",
        "_names",
        "_selected",
        "_values",
        "charset_hint",
        "is_too_long",
        "octets",
    )

    def __init__(self, octets: bytes, *, too_long: bool = False, charset_hint: str = "") -> None:
        self.octets = octets
        self.is_too_long = too_long
        self.charset_hint = charset_hint
        self._fields: tuple[HeaderField, ...] | None = None
        self._listed: Sequence[tuple[bytes, bytes]] | None = None
        self._values: list[tuple[KnownNames, Mapping[str, Sequence[bytes]]]] = []
        self._names: Names | None = None
        self._selected: tuple[HeaderField, ...] = ()
        self._findings: tuple[Finding, ...] | None = None

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        """Every field, and every line that is none."""
        if self._fields is None:
            self._fields = _fields(self.octets)
        return self._fields

    def select(self, names: Names) -> tuple[HeaderField, ...]:
        """The fields of these names, as they are among `fields`."""
        if self._names is not names:
            read = _select_again if len(self.octets) < _SHORT_HEADER else _select
            self._names, self._selected = names, read(self.octets, names)
        return self._selected

    def values(self, names: KnownNames) -> Mapping[str, Sequence[bytes]]:
        """The values of these fields as they are among `fields`, by name, each in their order.

        There may be others among them. For who asks for no places: a third of the price of reading
        them.
        """
        for known, values in self._values:
            if known is names or known.base is names:
                return values
        found = self._listed_values(names) if names.among is None else self._among(names.among)
        self._values.append((names, found))
        return found

    def in_order(self, names: KnownNames) -> Iterator[tuple[str, bytes]]:
        """(name, value) of these fields as they are among `fields`, from the top; there may be
        others among them, as of `values`."""
        for raw, value in self._all_listed():
            if name := names[raw]:
                yield name, value[:-1] if value[-1:] == b"\r" else value

    def _among(self, names: Names) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for one in self.select(names):
            found.setdefault(one.name, []).append(one.value)
        return found

    def _all_listed(self) -> Sequence[tuple[bytes, bytes]]:
        if self._listed is None:
            read = _list_again if len(self.octets) < _SHORT_HEADER else _list
            self._listed = read(self.octets)
        return self._listed

    def _listed_values(self, names: KnownNames) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for raw, value in self._all_listed():
            if name := names[raw]:
                if value[-1:] == b"\r":
                    value = value[:-1]
                if name in found:
                    found[name].append(value)
                else:
                    found[name] = [value]
        return found

    def first(self, name: str) -> HeaderField | None:
        """The first field of that name (in lower case); None where there is none."""
        for one in self.fields:
            if one.name == name:
                return one
        return None

    def all(self, name: str) -> list[HeaderField]:
        """Every field of that name (in lower case)."""
        return [one for one in self.fields if one.name == name]

    def value(self, name: str) -> bytes:
        """The unfolded value of the first field of that name; b"" where there is none."""
        found = self.first(name)
        return b"" if found is None else unfold(found.value)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What others may read differently, by its offset in the block."""
        if self._findings is None:
            plain = not self.is_too_long and plain_fields(self.octets) is not None
            self._findings = () if plain else tuple(_findings(self, too_long=self.is_too_long))
        return self._findings


def read_fields(block: bytes) -> HeaderBlock:
    """Reads a header block, with or without the empty line that ends it.

    What lies behind an empty line is not looked at, nor what is longer than `HEADER_LIMIT`.
    """
    end, _ = header_end(block, 0, len(block))
    too_long = end > HEADER_LIMIT
    octets = _cut(block[:HEADER_LIMIT]) if too_long else block[:end]
    hint = "" if octets.isascii() else charset_hint(octets, block, end, len(block))
    return HeaderBlock(octets, too_long=too_long, charset_hint=hint)


def split_header(whole: Region) -> tuple[HeaderBlock, int]:
    """(the header block of the entity that fills `whole`, the offset of its body)."""
    buffer, start, end = whole
    stop, body = header_end(buffer, start, end)
    too_long = stop - start > HEADER_LIMIT
    octets = _cut(buffer[start : start + HEADER_LIMIT]) if too_long else buffer[start:stop]
    hint = "" if octets.isascii() else charset_hint(octets, buffer, stop, end)
    return HeaderBlock(octets, too_long=too_long, charset_hint=hint), body


def _cut(octets: bytes) -> bytes:
    """Not between the two octets of a line end: half of it would be a finding."""
    return octets[:-1] if octets[-1:] == b"\r" else octets


def header_end(buffer: bytes | mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """(the end of the header block with its last line end, the offset behind the empty line).

    An empty line is a line end straight behind another, CRLF or LF. Without one all is header.
    """
    first = buffer[start : min(end, start + 2)]
    if first == b"\r\n":
        return start, start + 2
    if first[:1] == b"\n":
        return start, start + 1
    match = _EMPTY_LINE.search(buffer, start, end)
    return (end, end) if match is None else (match.start() + 1, match.end())


def unfold(value: bytes) -> bytes:
    """The value of a field on one line, without the white space around it."""
    if b"\n" in value:
        # As there is no empty line in a value, none of these makes another one. An expression takes
        # twice as long for a usual value, and nine times for one that is folds alone.
        value = value.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")
        value = value.replace(b"\n ", b" ").replace(b"\n\t", b"\t")
    return value.strip(b" \t\r\n")


def _read(octets: bytes) -> tuple[HeaderField, ...]:
    found: list[HeaderField] = []
    for match in _FIELD.finditer(octets):
        start, end = match.span()
        if start == end:
            break  # the end of the block
        name, value = match.groups()
        if value[-1:] == b"\r" and octets[end - 1] == _LF:
            value = value[:-1]
        if name is None:
            name = ""
        elif len(name) <= _LONGEST_KNOWN:
            name = _name(name)
        else:
            name = name.decode("ascii").lower()
        found.append(made(HeaderField, (name, value, start, end)))
    return tuple(found)


def _select(octets: bytes, names: Names) -> tuple[HeaderField, ...]:
    size = len(octets)
    found: list[HeaderField] = []
    # With a line end before it, a match begins and ends where the field does in the block.
    for match in names.pattern.finditer(b"\n" + octets):
        start, end = match.span()
        name, value = match.groups()
        if end > size:
            end = size
        elif value[-1:] == b"\r":
            value = value[:-1]
        found.append(made(HeaderField, (_name(name), value, start, end)))
    return tuple(found)


def _list(octets: bytes) -> Sequence[tuple[bytes, bytes]]:
    """(name as it is written, value) of every field; a value may have the CR of its line end."""
    if octets[-1:] == b"\n":
        listed: list[tuple[bytes, bytes]] = _LISTED.findall(octets)
        if b"" not in [raw for raw, _ in listed]:
            return listed
    # A CR behind a value that has lost its own is one of the value.
    return [
        (one.name.encode("ascii"), one.value + b"\r" if one.value[-1:] == b"\r" else one.value)
        for one in _fields(octets)
    ]


#: What is inside a mail mostly has one short field or two, the same in mail after mail.
_read_again = lru_cache(maxsize=512)(_read)
_select_again = lru_cache(maxsize=512)(_select)
_list_again = lru_cache(maxsize=512)(_list)


def _fields(octets: bytes) -> tuple[HeaderField, ...]:
    return _read_again(octets) if len(octets) < _SHORT_HEADER else _read(octets)


@lru_cache(maxsize=4096)
def _name(octets: bytes) -> str:
    return octets.decode("ascii").lower()


def plain_fields(octets: bytes) -> dict[str, bytes] | None:
    """The values of `SINGLE_FIELDS` in a block without findings; None for every other block.

    This is what nearly all blocks are, and costs a quarter of reading the fields with their places.
    A value may have the CR of its line end.
    """
    if octets[-1:] != b"\n":
        return plain_fields(octets + b"\r\n") if octets else {}
    if octets.translate(None, _ORDINARY) != b"\r" * octets.count(b"\r\n"):
        return None
    found: dict[str, bytes] = {}
    for raw, value in _LISTED.findall(octets):
        if name := _ONCE[raw]:
            if name in found:
                return None
            found[name] = value
        elif not raw:
            return None
    return None if _BLANK_FOLDED.search(octets) else found


_ONCE = KnownNames(SINGLE_FIELDS)


def _findings(block: HeaderBlock, *, too_long: bool) -> list[Finding]:
    octets = block.octets
    found: list[Finding] = []
    if too_long:
        found.append(Finding(FindingKind.HEADER_TOO_LONG, len(octets)))
    # What is left is one CR a line end, in nearly every mail.
    odd = octets.translate(None, _ORDINARY)
    if odd != b"\r" * octets.count(b"\r\n"):
        if match := _BARE_CR.search(octets):
            found.append(Finding(FindingKind.BARE_CR, match.start()))
        if (where := octets.find(b"\0")) >= 0:
            found.append(Finding(FindingKind.NUL, where))
        if match := _CONTROL.search(octets):
            found.append(Finding(FindingKind.CONTROL_CHARACTER, match.start()))
    if match := _BLANK_FOLDED.search(octets):
        found.append(Finding(FindingKind.BLANK_FOLDED_LINE, match.start() + 1))
    spaced = b" :" in octets or b"\t:" in octets
    seen: set[str] = set()
    for name, _, start, _ in block.fields:
        if name in seen:
            if name in SINGLE_FIELDS:
                found.append(
                    Finding(_DUPLICATES.get(name, FindingKind.DUPLICATE_FIELD), start, name)
                )
        elif not name:
            found.append(Finding(FindingKind.MALFORMED_FIELD, start))
            continue
        else:
            seen.add(name)
        if spaced and octets[start + len(name) : start + len(name) + 1] != b":":
            found.append(Finding(FindingKind.SPACE_BEFORE_COLON, start, name))
    return sorted(found, key=lambda one: one.where)
