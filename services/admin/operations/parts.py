"""The parts of a mail; and one of them, decoded, as a stream of bounded pieces: whatever its size.

A large mail is laid into a file without a name, mapped and read by the one reader; the file goes
with the stream.
"""

from __future__ import annotations

import mmap
import re
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from typing import Final, NamedTuple

from posthouse.contents import NO_SUCH_PART
from services.admin.context import Context
from services.admin.operations.messages import RawMail, read_message
from shared.errors import NotFound, TryAgain
from shared.mail.charsets import true_label
from shared.mail.facts import read_parts
from shared.mail.parts import PartFacts, PlacedPart, UnpackedPart, find_part, leaves
from shared.mail.region import region
from shared.mail.structure import read_structure

#: Octets of a mail that is read in memory, and mails that lie in files at the same time.
_SMALL: Final = 1 << 20
_AT_ONCE: Final = 6
_FREE: Final = threading.BoundedSemaphore(_AT_ONCE)
_TIMEOUT_S: Final = 10.0
_PATH: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,30}")
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")
#: What a browser may run or open with rights of this server, should it ever show it.
_ACTIVE: Final = re.compile(r".*(?:html|xml|svg|script|flash|java|mhtml|multipart/|message/).*")


class DecodedPart:
    """One part, open until `stream` has ended or `close` was called.

    `name` is safe for a disk (never empty), `media_type` for a browser.
    """

    def __init__(
        self, placed: PlacedPart | UnpackedPart, default_name: str, stack: ExitStack
    ) -> None:
        self._placed = placed
        self._stack = stack
        self.name = placed.name or default_name
        self.media_type = _safe_type(placed.media_type)

    @cached_property
    def content_type(self) -> str:
        """The value of its field: a text has the charset that its octets have, or none."""
        if not self.media_type.startswith("text/"):
            return self.media_type
        with closing(self._placed.content()) as decoding:
            charset = true_label(decoding, self._placed.charset)
        return f"{self.media_type}; charset={charset}" if charset else self.media_type

    @cached_property
    def size(self) -> int:
        """Octets once decoded."""
        return self._placed.size

    def stream(self, start: int = 0, end: int | None = None) -> Generator[bytes]:
        """The octets from `start` up to `end`."""
        position = 0
        with self._stack, closing(self._placed.content()) as decoding:
            for piece in decoding:
                first, last = max(start - position, 0), len(piece)
                if end is not None:
                    last = min(last, end - position)
                position += len(piece)
                if first < last:
                    yield piece[first:last]
                if end is not None and position >= end:
                    return

    def close(self) -> None:
        """Lets go of the mail; may be called twice."""
        self._stack.close()


class ListedParts(NamedTuple):
    """The parts as `data.mail.parts` of an event has them, and how many more there are."""

    items: tuple[PartFacts, ...]
    left_off: int


def list_parts(ctx: Context, message_id: uuid.UUID, *, original: bool = False) -> ListedParts:
    """Who may read the mail may see its parts. Raises NotFound, TryAgain as `read_part` does."""
    with readable(read_message(ctx, message_id, original=original)) as octets:
        read = read_parts(leaves(read_structure(region(octets))))
        return ListedParts(read.told, read.left_off)


def read_part(
    ctx: Context, message_id: uuid.UUID, path: str, *, original: bool = False
) -> DecodedPart:
    """The part at `path` (as `data.mail.parts` has it). Who may read the mail may read its parts.

    Raises NotFound, and TryAgain where too many large ones are read at the moment.
    """
    if not _PATH.fullmatch(path):
        raise NotFound(f"There is no part {path[:100]!r}: a path is like 2.1.", code=NO_SUCH_PART)
    mail = read_message(ctx, message_id, original=original)
    with ExitStack() as stack:
        octets = stack.enter_context(readable(mail))
        found = find_part(read_structure(region(octets)), path)
        if found is None:
            raise NotFound(f"The mail {message_id} has no part {path}.", code=NO_SUCH_PART)
        return DecodedPart(found, f"{message_id}-{path}", stack.pop_all())


@contextmanager
def readable(mail: RawMail) -> Iterator[bytes | mmap.mmap]:
    """The octets of a mail, of a large one in a file. Raises TryAgain where too many are read."""
    if mail.size <= _SMALL:
        yield b"".join(mail.chunks)
        return
    if not _FREE.acquire(timeout=_TIMEOUT_S):
        raise TryAgain(
            "Too many parts of mails are being read at the moment.",
            hint="Try again in a few seconds.",
            code="busy",
            retry_after=5,
        )
    try:
        with tempfile.TemporaryFile() as file:
            for chunk in mail.chunks:
                file.write(chunk)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
                yield mapping
    finally:
        _FREE.release()


def _safe_type(media_type: str) -> str:
    if not _TYPE.fullmatch(media_type) or _ACTIVE.fullmatch(media_type):
        return "application/octet-stream"
    return media_type
