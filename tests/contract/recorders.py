"""What a fetcher would hold against a mailbox in the tests: what is known, and a sink."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.errors import PosthouseError
from shared.mailbox.base import MailRef
from shared.messages import Key


class KnownKeys:
    """The keys that a connection had, in memory."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.keys = set(keys)

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        return [key for key in keys if key not in self.keys]

    def count(self) -> int:
        return len(self.keys)

    def add(self, refs: Iterable[MailRef]) -> None:
        self.keys |= {ref.key for ref in refs}


class Collector:
    """A sink that keeps every mail, and sees that it is called in order."""

    def __init__(self) -> None:
        self.mails: dict[Key, bytes] = {}
        self.abandoned: dict[Key, PosthouseError] = {}
        self._open: MailRef | None = None
        self._chunks: list[bytes] = []

    def begin(self, ref: MailRef) -> None:
        assert self._open is None, "a mail began before the last one ended"
        assert ref.key not in self.mails, "a mail came twice"
        self._open, self._chunks = ref, []

    def write(self, chunk: bytes | memoryview) -> None:
        assert self._open is not None
        assert len(chunk) > 0
        self._chunks.append(bytes(chunk))

    def end(self) -> None:
        assert self._open is not None
        self.mails[self._open.key] = b"".join(self._chunks)
        self._open = None

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        assert ref.key not in self.mails
        assert ref.key not in self.abandoned
        self.abandoned[ref.key] = reason
        self._open = None
