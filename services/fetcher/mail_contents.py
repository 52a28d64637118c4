"""The content of mails on a server, to be compared with what was fetched under their keys.

A header block tells most mails apart. Where it is that of others as well, as devices write it
(`is_telling`), the mail itself is read for it, and nothing of that is kept. So it is where the
block is not the one of before: some servers show another one in answer to TOP than to RETR (which
Jakarta Mail has `mail.pop3.forgettopheaders` for).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

from shared.errors import PosthouseError
from shared.mail.fields import HEADER_LIMIT, read_fields
from shared.mail.summary import content_digest, header_digest, header_octets, is_telling
from shared.mailbox.base import Mailbox, MailRef
from shared.messages import Key


class MailContent(NamedTuple):
    """The header block of a mail, and the digest that recognises it (`content_digest`)."""

    header: bytes
    digest: bytes


def contents_of(
    mailbox: Mailbox,
    refs: Sequence[MailRef],
    *,
    limit: int,
    unclear: Callable[[Key, MailContent | None], bool],
) -> dict[Key, MailContent]:
    """Those of the mails that the server shows. Read is each that is `unclear` by its header (None:
    it is not shown), at most `limit` octets of it."""
    found: dict[Key, MailContent] = {}
    if mailbox.capabilities.dates:
        for ref, block in mailbox.headers(refs):
            header = header_octets(block)
            found[ref.key] = MailContent(header, header_digest(header))
    whole = [
        ref
        for ref in refs
        if unclear(ref.key, found.get(ref.key))
        or (ref.key in found and not is_telling(found[ref.key].header))
    ]
    if whole:
        reading = _ContentSink()
        mailbox.download(whole, reading, limit=limit)
        found |= dict.fromkeys((ref.key for ref in whole), _NOTHING) | reading.found
    return {key: content for key, content in found.items() if content is not _NOTHING}


_NOTHING = MailContent(b"", b"")


class _ContentSink:
    """A sink that keeps of each mail what recognises it."""

    def __init__(self) -> None:
        self.found: dict[Key, MailContent] = {}

    def begin(self, ref: MailRef) -> None:
        self._ref = ref
        self._hash = sha256()
        self._head = bytearray()

    def write(self, chunk: bytes | memoryview) -> None:
        self._hash.update(chunk)
        self._head += chunk[: max(0, HEADER_LIMIT + 1 - len(self._head))]

    def end(self) -> None:
        header = read_fields(bytes(self._head)).octets
        digest = content_digest(header, self._hash.digest())
        self.found[self._ref.key] = MailContent(header, digest)

    def abandon(self, ref: MailRef, reason: PosthouseError) -> None:
        pass
