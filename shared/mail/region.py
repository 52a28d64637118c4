"""A stretch of octets in memory or in a mapped file, by its offsets: cut out, never copied.

Pages of a mapped file that were read are given back at once, for a mapping that was read to its
end would count as memory in full.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

#: How much of a region is looked at in one go, in octets.
WINDOW = 1 << 18
_RELEASE_EVERY = 1 << 23


class Region(NamedTuple):
    """A part of a buffer, by offsets."""

    buffer: bytes | mmap.mmap
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def copy(self, limit: int | None = None) -> bytes:
        """The (first `limit`) octets; for what is known to be small."""
        buffer, start, end = self
        if limit is not None and end - start > limit:
            end = start + limit
        if start == 0 and end == len(buffer) and isinstance(buffer, bytes):
            return buffer
        return buffer[start:end]

    def windows(self, size: int = WINDOW) -> Iterator[memoryview]:
        """The octets in pieces of at most `size`. A piece is valid until the next one is taken."""
        released = self.start
        with memoryview(self.buffer) as view:
            for position in range(self.start, self.end, size):
                with view[position : min(position + size, self.end)] as piece:
                    yield piece
                if position - released >= _RELEASE_EVERY:
                    release(self.buffer, released, position)
                    released = position
        release(self.buffer, released, self.end)


#: Half the time of calling a NamedTuple's class; a small mail makes two dozen of such values.
made = tuple.__new__


def region(buffer: bytes | mmap.mmap) -> Region:
    """The whole of a buffer."""
    return made(Region, (buffer, 0, len(buffer)))


def release(buffer: bytes | mmap.mmap, start: int, end: int) -> None:
    """Gives the pages of a mapping back to the system; they are read again when needed."""
    if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        start -= start % mmap.PAGESIZE
        if end > start:
            buffer.madvise(mmap.MADV_DONTNEED, start, end - start)
