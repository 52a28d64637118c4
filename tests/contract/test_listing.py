"""Noticing what is new, over every kind of mailbox: polls, slices, moments."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from shared.connections import AfterDownload
from shared.mailbox.base import Pollable
from tests.contract.mailbox_kinds import MailboxKind, mail, subject_of
from tests.contract.recorders import Collector, KnownKeys
from tests.contract.sessions import (
    ALL,
    DELETE,
    LIMIT,
    MARK_READ,
    UNREAD,
    new_subjects,
    read,
    session,
)


@pytest.mark.promise("M4")
def test_an_unchanged_mailbox_is_recognised_and_news_are_noticed(kind: MailboxKind) -> None:
    known = KnownKeys()
    kind.deliver(mail("first"), mail("second"))
    with session(kind) as mailbox:
        listing = mailbox.list_new(known, UNREAD)
        known.add(listing.new)
        assert mailbox.changed_since("", None) is not None
        assert mailbox.changed_since("", listing.cursor) is None
    with session(kind, None) as mailbox:
        assert mailbox.changed_since("", listing.cursor) is None
        kind.deliver(mail("third"))
        status = mailbox.changed_since("", listing.cursor)
        assert status is not None
        assert status.total == 3
    assert new_subjects(kind, known) == {"third"}


@pytest.mark.promise("M4")
@pytest.mark.parametrize("action", [MARK_READ, DELETE])
def test_our_own_settling_is_no_news(kind: MailboxKind, action: AfterDownload) -> None:
    known = KnownKeys()
    kind.deliver(mail("kept"), seen=True)
    kind.deliver(*(mail(f"mail {n}") for n in range(5)))
    with session(kind) as mailbox:
        listing = mailbox.list_new(known, UNREAD)
        settled = mailbox.settle(listing.new, action)
        cursor = mailbox.cursor_after(listing.cursor, settled, action)
    with session(kind, None) as mailbox:
        status = mailbox.changed_since("", cursor)
        assert status is None or not kind.read_flag
    kind.deliver(mail("one more"))
    with session(kind, None) as mailbox:
        assert mailbox.changed_since("", cursor) is not None


def test_many_kept_open_sessions_are_polled_together(kind: MailboxKind) -> None:
    with session(kind) as one, session(kind) as other:
        if not isinstance(one, Pollable) or not isinstance(other, Pollable):
            pytest.skip("this kind cannot poll in two halves")
        cursor = one.list_new(KnownKeys(), UNREAD).cursor
        for expected in (True, False):
            for mailbox in (one, other):
                mailbox.poll_send("", cursor)
            assert [m.poll_receive() is None for m in (one, other)] == [expected, expected]
            kind.deliver(mail("news"))


@pytest.mark.promise("M9")
def test_a_huge_mailbox_is_listed_in_slices(kind: MailboxKind) -> None:
    known = KnownKeys()
    subjects = [f"slice {n}" for n in range(23)]
    kind.deliver(*map(mail, subjects))
    found: list[str] = []
    with session(kind) as mailbox:
        counted = mailbox.list_new(known, UNREAD, limit=0)
        assert (counted.new_count, counted.new, counted.complete) == (23, (), False)
        while True:
            listing = mailbox.list_new(known, UNREAD, limit=10)
            assert listing.new_count + len(found) == 23
            sink = Collector()
            mailbox.download(listing.new, sink, limit=LIMIT)
            found += [subject_of(sink.mails[ref.key]) for ref in listing.new]
            known.add(listing.new)
            if listing.complete:
                break
    assert sorted(found) == sorted(subjects)
    if kind.arrival_order:
        assert found == subjects
    with session(kind, None) as mailbox:
        assert mailbox.changed_since("", listing.cursor) is None


@pytest.mark.promise("M9")
def test_all_mails_are_found_again_from_where_the_last_listing_ended(kind: MailboxKind) -> None:
    known = KnownKeys()
    kind.deliver(mail("old"), seen=True)
    with session(kind) as mailbox:
        before = mailbox.list_new(known, ALL)
        known.add(before.new)
        assert mailbox.list_new(known, ALL, cursor=before.cursor).new == ()
    kind.deliver(mail("new and read"), seen=True)
    with session(kind) as mailbox:
        listing = mailbox.list_new(known, ALL, cursor=before.cursor)
        assert set(read(mailbox, listing.new)) == {"new and read"}


@pytest.mark.promise("M17")
def test_only_mails_since_a_moment(kind: MailboxKind) -> None:
    moment = datetime.now(UTC).replace(microsecond=0)
    dates = [moment - timedelta(days=3), moment - timedelta(hours=1), moment + timedelta(hours=1)]
    if kind.read_flag:  # the server knows when a mail arrived
        kind.deliver(mail("arrived before"))
        time.sleep(1.1)
        since = datetime.now(UTC).replace(microsecond=0)
        kind.deliver(mail("arrived after"))
        expected = {"arrived after"}
    else:
        since = moment
        for date in dates:
            line = date.strftime("Date: %a, %d %b %Y %H:%M:%S +0000\r\n").encode()
            kind.deliver(line + mail(f"of {date:%d %H}"))
        expected = {f"of {dates[2]:%d %H}"}
    with session(kind) as mailbox:
        listing = mailbox.list_new(KnownKeys(), UNREAD, since=since)
        assert set(read(mailbox, listing.new)) == expected
