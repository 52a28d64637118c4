"""Sessions of any kind of mailbox, and a whole fetch over one, for the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.connections import AfterDownload, Selection
from shared.mailbox.base import Listing, Mailbox, MailRef
from tests.contract.mailbox_kinds import MailboxKind, subject_of
from tests.contract.recorders import Collector, KnownKeys

LIMIT = 150 << 20
UNREAD, ALL = Selection.UNREAD, Selection.ALL
MARK_READ, DELETE = AfterDownload.MARK_READ, AfterDownload.DELETE


@contextmanager
def session(kind: MailboxKind, folder: str | None = "") -> Iterator[Mailbox]:
    mailbox = kind.open()
    try:
        if folder is not None:
            mailbox.open(folder)
        yield mailbox
    finally:
        mailbox.close()


def read(
    mailbox: Mailbox, refs: list[MailRef] | tuple[MailRef, ...], limit: int = LIMIT
) -> dict[str, bytes]:
    sink = Collector()
    mailbox.download(refs, sink, limit=limit)
    assert not sink.abandoned
    return {subject_of(raw): raw for raw in sink.mails.values()}


def new_subjects(kind: MailboxKind, known: KnownKeys, selection: Selection = UNREAD) -> set[str]:
    with session(kind) as mailbox:
        return set(read(mailbox, mailbox.list_new(known, selection).new))


def fetched(kind: MailboxKind, known: KnownKeys, action: AfterDownload = MARK_READ) -> Listing:
    """One whole fetch: list, download, know, settle. Returns the listing."""
    with session(kind) as mailbox:
        listing = mailbox.list_new(known, UNREAD)
        read(mailbox, listing.new)
        known.add(listing.new)
        settled = mailbox.settle(listing.new, action)
        assert {ref.key for ref in settled} == {ref.key for ref in listing.new}
        return listing
