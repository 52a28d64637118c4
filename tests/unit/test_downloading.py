"""Whose fault it is where a download gives no mail: a mail's, the server's, or our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.fetcher.downloading import Downloads
from services.fetcher.storing import Intake
from shared.mailbox.base import MailRef, Sink
from shared.mailbox.errors.refused_mails import MailRefused
from shared.mailbox.failures import SessionLost
from shared.mailbox.in_memory import MemoryAccount, MemoryMailbox
from shared.store import FileStore, Pack, StoreFull

LIMIT = 1 << 20


class TightPack(Pack):
    """Has room for so many octets."""

    room = 100

    def write(self, chunk: bytes | memoryview) -> None:
        if self.size + len(chunk) > self.room:
            raise StoreFull("There is no room for another mail.")
        super().write(chunk)


class TightStore(FileStore):
    def pack(self) -> Pack:
        return TightPack(self, lambda: (self._spool / "tight").open("xb"), "raw/tight")


@pytest.fixture
def account() -> MemoryAccount:
    found = MemoryAccount()
    for number in range(4):
        found.deliver(b"Subject: %d\r\n\r\n" % number + b"x" * 60)
    return found


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    with Intake(FileStore(tmp_path)) as found:
        yield found


def download(account: MemoryAccount, intake: Intake, *uids: int) -> Downloads:
    mailbox = MemoryMailbox(account)
    mailbox.open("")
    downloads = Downloads(mailbox, LIMIT)
    downloads.into(intake, [MailRef(uid, 75) for uid in uids])
    return downloads


@pytest.mark.promise("M27")
def test_a_full_store_is_no_break_by_the_mail_under_way(
    account: MemoryAccount, tmp_path: Path
) -> None:
    with Intake(TightStore(tmp_path)) as intake:
        downloads = download(account, intake, 1, 2, 3)
        assert isinstance(downloads.stopped, StoreFull)
        assert downloads.out_of_step
        assert not downloads.broken
        assert [ref.key for ref in intake.refs] == [1]


@pytest.mark.promise("M27")
def test_a_session_that_breaks_names_the_mail_under_way_first(
    account: MemoryAccount, intake: Intake
) -> None:
    account.fail("download", SessionLost("cut"), after_octets=100)
    downloads = download(account, intake, 1, 2, 3, 4)
    assert downloads.out_of_step
    assert [ref.key for ref in downloads.broken] == [2, 3, 4]
    assert not downloads.alone


@pytest.mark.promise("M27", "H4")
@pytest.mark.parametrize("bad", [{2}, {4}, {2, 3}, {3, 4}])
def test_damaged_mails_are_quarantined_while_others_are_given(
    bad: set[int], account: MemoryAccount, intake: Intake
) -> None:
    for uid in bad:
        account.change(uid, damaged=True)
    downloads = download(account, intake, 1, 2, 3, 4)
    assert downloads.stopped is None
    assert {item.key for item in intake.refused} == bad
    assert {int(ref.key) for ref in intake.refs} == {1, 2, 3, 4} - bad


@pytest.mark.promise("M27")
def test_where_nothing_is_given_no_mail_is_blamed(account: MemoryAccount, intake: Intake) -> None:
    for uid in range(1, 5):
        account.change(uid, damaged=True)
    downloads = download(account, intake, 1, 2, 3, 4)
    assert downloads.stopped is not None
    assert downloads.stopped.code == "server-refused"
    assert not intake.refused


class HesitantMailbox(MemoryMailbox):
    """Refuses the second mail the first time."""

    refuses = True

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        for ref in refs:
            if ref.key == 2 and self.refuses:
                self.refuses = False
                sink.abandon(ref, MailRefused("It cannot be read"))
            else:
                super().download([ref], sink, limit=limit)


@pytest.mark.promise("M27", "H4")
def test_a_mail_that_is_given_when_it_is_asked_for_again_is_no_bad_one(
    account: MemoryAccount, intake: Intake
) -> None:
    mailbox = HesitantMailbox(account)
    mailbox.open("")
    downloads = Downloads(mailbox, LIMIT)
    downloads.into(intake, [MailRef(uid, 75) for uid in (1, 2, 3, 4)])
    assert downloads.stopped is None
    assert not intake.refused
    assert {ref.key for ref in intake.refs} == {1, 2, 3, 4}


class ThrottlingMailbox(MemoryMailbox):
    """Refuses each second mail in words about itself."""

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        for ref in refs:
            if int(ref.key) % 2 == 0:
                sink.abandon(ref, MailRefused("Request is throttled. Try again in 60 seconds"))
            else:
                super().download([ref], sink, limit=limit)


@pytest.mark.promise("M27")
def test_a_server_that_throttles_now_and_then_is_not_the_mails_fault(
    account: MemoryAccount, intake: Intake
) -> None:
    mailbox = ThrottlingMailbox(account)
    mailbox.open("")
    downloads = Downloads(mailbox, LIMIT)
    downloads.into(intake, [MailRef(uid, 75) for uid in (1, 2, 3, 4)])
    assert downloads.stopped is not None
    assert (downloads.stopped.code, downloads.stopped.retry_after) == ("throttled", 60.0)
    assert not intake.refused
    assert not intake.suspected
    assert {ref.key for ref in intake.refs} == {1, 3}
