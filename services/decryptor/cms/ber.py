"""Reading BER (X.690) in place: definite and indefinite lengths, chunked octet strings.

Every function works on a buffer (bytes, memoryview or mmap) and offsets into it, touches each
octet once, and raises `Malformed` for whatever is not BER. Positions are octet offsets. Tags are
identifier octets (`0x30` for SEQUENCE, `0xA0` for a constructed [0]); tag numbers above 30 do not
occur in CMS and are refused.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

from services.decryptor.cms.errors import Malformed
from shared.mail.region import made

Buffer = bytes | bytearray | memoryview | mmap.mmap

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x02, 0x03, 0x04, 0x05, 0x06
SEQUENCE, SET = 0x30, 0x31
CONSTRUCTED = 0x20
#: The content end of an element whose length is indefinite.
INDEFINITE = -1
#: Nesting of elements; CMS needs about 15.
MAX_DEPTH = 48
#: Chunks of one octet string, and elements that are stepped over in a row. Senders use chunks of
#: 1,000 octets and more: of 800 octets as many are the largest mail. Without a bound, chunks of one
#: octet would cost a minute of work a mail.
MAX_CHUNKS = 200_000
#: What is copied out of a message piece by piece (names, keys, certificates) is small; only its
#: content can be large, and that is streamed.
MAX_SMALL = 1 << 18
#: Bounds of a list of elements that is read at once: the recipients of a large distribution list.
MAX_LIST = 1 << 22
MAX_ITEMS = 10_000

_CUT_OFF = "The structure ends in the middle of an element."
_TOO_LONG = "An element is longer than the structure."
_TOO_LARGE = "A part of the structure is larger than it can be."
_TOO_MANY = "The structure has too many elements."
_TOO_DEEP = "The structure is nested too deeply."


def header(buffer: Buffer, position: int, end: int) -> tuple[int, int, int]:
    """The element at `position`: (tag, content start, content end or INDEFINITE).

    The content end is never after `end`.
    """
    start = position + 2
    if start > end:
        raise Malformed(_CUT_OFF)
    tag = buffer[position]
    length = buffer[position + 1]
    if tag & 0x1F == 0x1F:
        raise Malformed("The structure has a tag that CMS does not know.")
    if length < 0x80:
        stop = start + length
    elif length == 0x82 and start + 2 <= end:
        stop = start + 2 + (buffer[start] << 8 | buffer[start + 1])
        start += 2
    elif length == 0x80:
        if not tag & CONSTRUCTED:
            raise Malformed("A primitive element has no length.")
        return tag, start, INDEFINITE
    else:
        first = start
        start += length & 0x7F
        if length > 0x88 or start > end:
            raise Malformed(_TOO_LONG)
        stop = start + int.from_bytes(buffer[first:start])
    if stop > end:
        raise Malformed(_TOO_LONG)
    return tag, start, stop


def skip(buffer: Buffer, position: int, end: int) -> int:
    """The offset behind the element at `position`, in one pass over what is indefinite."""
    _, start, stop = header(buffer, position, end)
    return end_of(buffer, start, stop, end)


def end_of(buffer: Buffer, start: int, stop: int, end: int) -> int:
    """The offset behind an element whose `header` is known (for indefinite ones: behind EOC)."""
    if stop != INDEFINITE:
        return stop
    position, depth, left = start, 1, MAX_CHUNKS
    while depth:
        if position + 2 > end:
            raise Malformed(_CUT_OFF)
        if buffer[position] == 0 and buffer[position + 1] == 0:
            position += 2
            depth -= 1
            continue
        left -= 1
        if left < 0:
            raise Malformed(_TOO_MANY)
        _, start, stop = header(buffer, position, end)
        if stop == INDEFINITE:
            depth += 1
            if depth > MAX_DEPTH:
                raise Malformed(_TOO_DEEP)
            position = start
        else:
            position = stop
    return position


class Item(NamedTuple):
    """One element, by offsets: header from `begin`, content from `start` to `stop`, next at `next`.

    All definite: the end marks of an indefinite length lie between `stop` and `next`.
    """

    tag: int
    begin: int
    start: int
    stop: int
    next: int


def items(buffer: Buffer, start: int, stop: int) -> list[Item]:
    """The elements between two offsets: the children of a small element, in one go.

    For what is small: a large content would be walked here and again when it is read.
    """
    if stop - start > MAX_LIST:
        raise Malformed(_TOO_LARGE)
    found: list[Item] = []
    while start < stop:
        tag, content, end = header(buffer, start, stop)
        behind = end
        if end == INDEFINITE:
            behind = end_of(buffer, content, end, stop)
            end = behind - 2
        found.append(made(Item, (tag, start, content, end, behind)))
        start = behind
        if len(found) > MAX_ITEMS:
            raise Malformed(_TOO_LARGE)
    return found


def small(buffer: Buffer, start: int, stop: int) -> bytes:
    """A copy of the octets between two offsets. Raises Malformed where that is no small thing."""
    if stop - start > MAX_SMALL:
        raise Malformed(_TOO_LARGE)
    return bytes(buffer[start:stop])


def octets_of(buffer: Buffer, item: Item, tag: int = OCTET_STRING) -> bytes:
    """A small octet string, chunked or not. `tag` is its primitive tag."""
    if item.tag == tag:
        return small(buffer, item.start, item.stop)
    return octet_string(reader_at(buffer, item.begin, item.next), tag)


class Reader:
    """A forward cursor over the content of one constructed element."""

    __slots__ = ("_indefinite", "buffer", "end", "position")

    def __init__(self, buffer: Buffer, start: int, stop: int, end: int) -> None:
        """`stop` as `header` gives it; `end` bounds an indefinite element."""
        self.buffer = buffer
        self.position = start
        self._indefinite = stop == INDEFINITE
        self.end = end if self._indefinite else stop

    def peek(self) -> int:
        """The tag of the next element; -1 at the end."""
        position = self.position
        if position >= self.end:
            if self._indefinite:
                raise Malformed(_CUT_OFF)
            return -1
        tag = self.buffer[position]
        if tag == 0 and self._indefinite:
            return -1
        return tag

    def take(self, tag: int = 0) -> tuple[int, int]:
        """Steps over the next element: (content start, content end), both definite.

        Raises Malformed where its tag is not `tag` (0: any tag).
        """
        found, start, stop = header(self.buffer, self.position, self.end)
        if found != tag and tag:
            raise Malformed(f"The structure has tag {found:#04x} where {tag:#04x} belongs.")
        if stop == INDEFINITE:
            self.position = end_of(self.buffer, start, stop, self.end)
            return start, self.position - 2
        self.position = stop
        return start, stop

    def item(self, tag: int) -> Item:
        """Steps over the next element and gives its offsets."""
        begin = self.position
        start, stop = self.take(tag)
        return Item(tag, begin, start, stop, self.position)

    def element(self, tag: int = 0) -> bytes:
        """Steps over the next element and gives a copy of it, header included."""
        start = self.position
        self.take(tag)
        return small(self.buffer, start, self.position)

    def value(self, tag: int) -> bytes:
        """Steps over the next element and gives a copy of its content."""
        start, stop = self.take(tag)
        return small(self.buffer, start, stop)

    def enter(self, tag: int) -> Reader:
        """A reader of the next element's content. Give it back to `leave` before going on."""
        found, start, stop = header(self.buffer, self.position, self.end)
        if found != tag:
            raise Malformed(f"The structure has tag {found:#04x} where {tag:#04x} belongs.")
        return Reader(self.buffer, start, stop, self.end)

    def leave(self, inner: Reader) -> None:
        """Goes on behind the element that `enter` opened, skipping what was not read."""
        left = MAX_CHUNKS
        while inner.peek() != -1:
            left -= 1
            if left < 0:
                raise Malformed(_TOO_MANY)
            inner.position = skip(inner.buffer, inner.position, inner.end)
        self.position = inner.position + 2 if inner._indefinite else inner.position

    def octets(self, tag: int = OCTET_STRING) -> Iterator[tuple[int, int]]:
        """Steps through an octet string, chunked or not: (start, end) of each piece.

        `tag` is the primitive tag (0x80 for an implicit [0]); the constructed one is taken too.
        The reader stands behind the string only when the iteration is exhausted.
        """
        buffer, end = self.buffer, self.end
        found, start, stop = header(buffer, self.position, end)
        if found == tag:
            self.position = stop
            yield start, stop
            return
        if found != tag | CONSTRUCTED:
            raise Malformed(f"The structure has tag {found:#04x} where {tag:#04x} belongs.")
        # Each open constructed string: where it ends (INDEFINITE until its EOC).
        stack = [stop]
        bounds = [end if stop == INDEFINITE else stop]
        position, chunks = start, 0
        while stack:
            bound = bounds[-1]
            if stack[-1] == INDEFINITE:
                if position + 2 > bound:
                    raise Malformed(_CUT_OFF)
                if buffer[position] == 0 and buffer[position + 1] == 0:
                    position += 2
                    stack.pop()
                    bounds.pop()
                    continue
            elif position >= bound:
                stack.pop()
                bounds.pop()
                continue
            found, start, stop = header(buffer, position, bound)
            if found == OCTET_STRING:
                chunks += 1
                if chunks > MAX_CHUNKS:
                    raise Malformed("The content is cut into too many pieces.")
                yield start, stop
                position = stop
            elif found == OCTET_STRING | CONSTRUCTED:
                if len(stack) >= MAX_DEPTH:
                    raise Malformed(_TOO_DEEP)
                stack.append(stop)
                bounds.append(bound if stop == INDEFINITE else stop)
                position = start
            else:
                raise Malformed("The content is not an octet string.")
        self.position = position


def reader(buffer: Buffer, tag: int = SEQUENCE, start: int = 0, end: int | None = None) -> Reader:
    """A reader of the content of the one element at `start`."""
    return reader_at(buffer, start, end).enter(tag)


def octet_string(source: Reader, tag: int = OCTET_STRING) -> bytes:
    """A small octet string in one piece."""
    if source.peek() == tag:
        return source.value(tag)
    joined = bytearray()
    left = MAX_ITEMS
    for start, stop in source.octets(tag):
        joined += small(source.buffer, start, stop)
        left -= 1
        if len(joined) > MAX_SMALL or left < 0:
            raise Malformed(_TOO_LARGE)
    return bytes(joined)


def encode(tag: int, content: bytes) -> bytes:
    """One element in DER (X.690 section 10)."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(octets))) + octets + content


def to_der(element: bytes) -> bytes:
    """A small BER element with definite lengths, chunked strings joined and sets sorted.

    Signed attributes are hashed in DER however they were sent (RFC 5652 section 5.4). Raises
    Malformed, also where it has more than `MAX_ITEMS` elements in it.
    """
    return _DerWriter(element).write(0, len(element), 0)[0]


class _DerWriter:
    """Goes through an element once: to step over what is indefinite first would take as many ways
    as it is deep."""

    def __init__(self, element: bytes) -> None:
        self._element = element
        self._left = MAX_ITEMS

    def write(self, position: int, end: int, depth: int) -> tuple[bytes, int]:
        """(the element there in DER, the offset behind it as it was sent)."""
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise Malformed(_TOO_DEEP if depth > MAX_DEPTH else _TOO_MANY)
        tag, start, stop = header(self._element, position, end)
        if not tag & CONSTRUCTED:
            return encode(tag, self._element[start:stop]), stop
        if tag == OCTET_STRING | CONSTRUCTED:
            source = reader_at(self._element, position, end)
            return encode(OCTET_STRING, octet_string(source)), source.position
        children: list[bytes] = []
        inner = Reader(self._element, start, stop, end)
        while inner.peek() != -1:
            child, inner.position = self.write(inner.position, inner.end, depth + 1)
            children.append(child)
        if tag == SET:
            children.sort()
        behind = inner.position + 2 if stop == INDEFINITE else stop
        return encode(tag, b"".join(children)), behind


def reader_at(buffer: Buffer, start: int = 0, end: int | None = None) -> Reader:
    """A reader that stands before the element at `start`."""
    stop = len(buffer) if end is None else end
    return Reader(buffer, start, stop, stop)
