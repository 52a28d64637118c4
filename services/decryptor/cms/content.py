"""ContentInfo (RFC 5652 section 3): what a CMS body is, and where its content lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from services.decryptor.cms.ber import OID, SEQUENCE, Reader, reader
from shared.mail.region import WINDOW, Region, release

_RELEASE_EVERY = 1 << 23


class ContentInfo(NamedTuple):
    """The content type's OID, and a reader that stands before the content's SEQUENCE."""

    content_type: bytes
    content: Reader


def content_info(body: Region) -> ContentInfo:
    """Reads the outermost structure; what follows it (line ends, padding) is ignored.

    Raises Malformed.
    """
    outer = reader(body.buffer, SEQUENCE, body.start, body.end)
    return ContentInfo(outer.value(OID), outer.enter(0xA0))


def pieces(chunks: Iterable[tuple[int, int]], body: Region) -> Iterator[memoryview]:
    """The octets of an octet string's chunks, in views of at most 256 KiB.

    A view is valid until the next one is taken; pages of a file are given back on the way.
    """
    released = body.start
    with memoryview(body.buffer) as view:
        for start, end in chunks:
            for position in range(start, end, WINDOW):
                with view[position : min(position + WINDOW, end)] as piece:
                    yield piece
                if position - released >= _RELEASE_EVERY:
                    release(body.buffer, released, position)
                    released = position
    release(body.buffer, released, body.end)
