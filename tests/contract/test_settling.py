"""After download, over every kind of mailbox: marking read and deleting exactly what was had."""

from __future__ import annotations

import pytest

from shared.connections import AfterDownload
from shared.mailbox.base import MailRef
from tests.contract.mailbox_kinds import MailboxKind, mail, subject_of
from tests.contract.recorders import Collector, KnownKeys
from tests.contract.sessions import (
    DELETE,
    MARK_READ,
    UNREAD,
    session,
)


@pytest.mark.promise("M7")
def test_mark_read_marks_exactly_these_mails(kind: MailboxKind) -> None:
    kind.deliver(mail("ours"), mail("later"), mail("ours too"))
    with session(kind) as mailbox:
        refs = mailbox.list_new(KnownKeys(), UNREAD).new
        settled = mailbox.settle([refs[0], refs[2]], MARK_READ)
    assert [ref.key for ref in settled] == [refs[0].key, refs[2].key]
    assert set(kind.stored()) == {"ours", "later", "ours too"}
    if kind.read_flag:
        assert kind.is_read("ours")
        assert kind.is_read("ours too")
    assert not kind.is_read("later")


@pytest.mark.promise("M7")
def test_delete_removes_exactly_these_mails(kind: MailboxKind) -> None:
    kind.deliver(mail("ours"), mail("somebody's"), mail("later"))
    with session(kind) as mailbox:
        refs = mailbox.list_new(KnownKeys(), UNREAD).new
        settled = mailbox.settle([refs[0]], DELETE)
        assert [ref.key for ref in settled] == [refs[0].key]
    assert set(kind.stored()) == {"somebody's", "later"}


@pytest.mark.promise("M7")
def test_delete_never_removes_what_somebody_else_flagged(kind: MailboxKind) -> None:
    if not kind.deleted_flag:
        pytest.skip("this kind has no deleted flag")
    kind.deliver(mail("ours"), mail("flagged by somebody"), mail("later"))
    kind.flag_deleted("flagged by somebody")
    with session(kind) as mailbox:
        exact = mailbox.capabilities.exact_delete
        refs = mailbox.list_new(KnownKeys(), UNREAD).new
        ours = [ref for ref in refs if ref.key == refs[0].key]
        # What could only be flagged is not settled: it is tried again with later ones.
        assert mailbox.settle(ours, DELETE) == (ours if exact else [])
    left = set(kind.stored())
    assert {"flagged by somebody", "later"} <= left
    # A server that cannot delete single mails keeps ours, flagged, for the sake of the other.
    assert ("ours" in left) == (not exact)


@pytest.mark.promise("M7")
@pytest.mark.parametrize("action", [MARK_READ, DELETE])
def test_settling_again_and_what_is_gone_already_is_fine(
    kind: MailboxKind, action: AfterDownload
) -> None:
    kind.deliver(mail("removed by somebody"), mail("ours"), mail("later"))
    with session(kind) as mailbox:
        refs = mailbox.list_new(KnownKeys(), UNREAD).new[:2]
    kind.remove("removed by somebody")
    keys = {ref.key for ref in refs}
    for _ in range(2):
        with session(kind) as mailbox:
            assert {ref.key for ref in mailbox.settle(refs, action)} == keys
    assert set(kind.stored()) == ({"ours", "later"} if action is MARK_READ else {"later"})
    assert not kind.is_read("later")


@pytest.mark.promise("M7")
def test_settling_what_an_earlier_run_downloaded(kind: MailboxKind) -> None:
    """After a crash only the keys are left, in a new session."""
    kind.deliver(mail("downloaded"), mail("not downloaded"))
    with session(kind) as mailbox:
        key = mailbox.list_new(KnownKeys(), UNREAD).new[0].key
    with session(kind) as mailbox:
        assert [ref.key for ref in mailbox.settle([MailRef(key, 0)], DELETE)] == [key]
    assert set(kind.stored()) == {"not downloaded"}


@pytest.mark.promise("H4", "I5")
def test_one_mail_that_vanished_or_is_too_large_stops_no_other(kind: MailboxKind) -> None:
    kind.deliver(mail("one"), mail("vanishes"), mail("large", b"x" * 70 + b"\r\n"), mail("last"))
    with session(kind) as mailbox:
        refs = mailbox.list_new(KnownKeys(), UNREAD).new
        keys = {subject_of(block): ref.key for ref, block in mailbox.headers(refs)}
        gone, large = keys["vanishes"], keys["large"]
    kind.deliver(mail("very large", (b"y" * 70 + b"\r\n") * 400))
    kind.remove("vanishes")
    with session(kind) as mailbox:
        refs = (*refs, *mailbox.list_new(KnownKeys({ref.key for ref in refs}), UNREAD).new)
        sink = Collector()
        mailbox.download(refs, sink, limit=20_000)
    assert {subject_of(raw) for raw in sink.mails.values()} == {"one", "large", "last"}
    assert large in sink.mails
    codes = {key: reason.code for key, reason in sink.abandoned.items()}
    assert codes == {gone: "mail-vanished", refs[-1].key: "too-large"}
    assert "very large" in kind.stored()
