"""Requests of a batch that Graph throttles, refuses or has no room for."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.connections import AfterDownload
from shared.errors import NeedsPerson, TryAgain
from tests.contract.mailbox_kinds import mail
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.graph.conftest import ALICE, Office, Unhurried, process
from tests.integration.graph.test_faults import DELETE, LIMIT, MARK_READ, UNREAD, fetch


@pytest.mark.promise("M7")
def test_requests_of_a_batch_are_throttled_by_themselves(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(45))
    mailbox = office.open()
    office.server.fail("batch:", status=429, times=7, retry_after=3)
    office.server.fail("batch:", status=503, times=2)
    office.server.fail("batch:", status=412, times=1, code="ErrorIrresolvableConflict")
    # Exchange's own codes for the moment come with any status.
    office.server.fail("batch:", status=400, times=2, code="ErrorServerBusy", message="Busy.")
    fetch(mailbox, KnownKeys())
    assert all(item.read for item in office.box.items.values())
    assert 3 in office.pauses
    batches = [line for line in office.server.requests if line.endswith("$batch")]
    assert len(batches) < 10


@pytest.mark.promise("M7")
def test_what_cannot_be_settled_is_not_called_settled(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(3))
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    office.server.fail("batch:", status=403, times=1, code="ErrorAccessDenied", message="No.")
    settled = mailbox.settle(refs, MARK_READ)
    assert len(settled) == 2
    unread = [item.id for item in office.box.items.values() if not item.read]
    assert {ref.key for ref in settled} == {ref.key for ref in refs} - set(unread)
    office.server.fail("batch:", status=403, times=3, code="ErrorAccessDenied", message="No.")
    with pytest.raises(NeedsPerson) as refused:
        mailbox.settle([ref for ref in refs if ref.key in unread], DELETE)
    assert refused.value.code == "access-denied"


@pytest.mark.promise("M7")
@pytest.mark.parametrize("action", [MARK_READ, DELETE])
@pytest.mark.parametrize(
    "code", ["MailboxNotEnabledForRESTAPI", "ErrorInvalidUser", "ErrorNonExistentMailbox"]
)
def test_a_mailbox_that_is_away_has_lost_no_mail(
    office: Office, action: AfterDownload, code: str
) -> None:
    """404 as for a mail that is gone, while a mailbox is moved: taken for that, its mails would
    count as settled, and be left as they are for ever."""
    office.box.deliver(mail(f"mail {n}") for n in range(3))
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    office.server.fail("batch:", status=404, times=3, code=code, message="Not found.")
    with pytest.raises(NeedsPerson):
        mailbox.settle(refs, action)
    assert len(mailbox.settle(refs, action)) == 3
    assert all(item.read for item in office.box.items.values()) or action is DELETE


@pytest.mark.promise("M2")
def test_three_requests_at_once_over_all_replicas(office: Office, database_url: str) -> None:
    """Four fetchers in one mailbox (two folders, a test, an estimate) stay below Graph's limit."""
    office.box.deliver(mail(f"mail {n}") for n in range(40))
    office.server.delay = 0.01

    def look(_: int) -> int:
        with process(database_url) as limiter:
            mailbox = office.open(limiter=limiter, pause_budget=300)
            mailbox.open("")
            sink = Collector()
            mailbox.download(mailbox.list_new(KnownKeys(), UNREAD).new, sink, limit=LIMIT)
            return len(sink.mails)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(look, range(4))) == [40] * 4
    assert office.server.peak <= 3
    assert office.server.throttled == 0


@pytest.mark.promise("M2")
@pytest.mark.parametrize("action", [MARK_READ, DELETE])
def test_requests_of_a_batch_that_find_no_room_are_asked_again(
    office: Office, action: AfterDownload
) -> None:
    """Another program of the tenant has three of the four permits: Graph refuses single requests
    of the batch, and the batch itself says 200."""
    office.box.deliver(mail(f"mail {n}") for n in range(45))
    mailbox = office.open(pause_budget=100_000)
    sink = Collector()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    mailbox.download(refs, sink, limit=LIMIT)
    with office.server.taken(ALICE, 3):
        assert len(mailbox.settle(refs, action)) == 45
    assert office.server.throttled > 0
    left = office.box.in_folder(office.box.inbox)
    assert [item for item in left if not item.read] == []
    assert len(left) == (45 if action is MARK_READ else 0)


@pytest.mark.promise("M2")
@pytest.mark.parametrize("kind", ["in this process", "over all replicas"])
def test_a_batch_counts_as_its_requests(office: Office, database_url: str, kind: str) -> None:
    """While one settles twenty mails at once, nobody else asks anything of the mailbox: Graph
    counts each request of a batch, and would refuse some of both."""
    office.box.deliver(mail(f"mail {n}") for n in range(60))
    office.server.delay = 0.02
    here = Unhurried()

    def work(number: int) -> int:
        with process(database_url) as of_replica:
            limiter = here if kind == "in this process" else of_replica
            mailbox = office.open(limiter=limiter, pause_budget=300)
            mailbox.open("")
            refs = mailbox.list_new(KnownKeys(), UNREAD).new
            if number:
                return len(mailbox.settle(refs, MARK_READ))
            sink = Collector()
            mailbox.download(refs, sink, limit=LIMIT)
            return len(sink.mails)

    with ThreadPoolExecutor(3) as pool:
        assert len(list(pool.map(work, range(3)))) == 3
    assert office.server.peak <= office.server.at_once
    assert office.server.throttled == 0


@pytest.mark.promise("M7")
@pytest.mark.parametrize("action", [MARK_READ, DELETE])
def test_a_busy_server_says_of_no_mail_that_it_is_gone(
    office: Office, action: AfterDownload
) -> None:
    """Exchange's codes for the moment come with any status: with that of a mail that is gone, its
    mails would count as settled."""
    office.box.deliver(mail(f"mail {n}") for n in range(3))
    mailbox = office.open(pause_budget=100_000)
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    office.server.fail("batch:", status=404, code="ErrorServerBusy", message="Busy.", times=999)
    with pytest.raises(TryAgain):
        mailbox.settle(refs, action)
    office.server.faults.clear()
    assert len(mailbox.settle(refs, action)) == 3
    assert all(item.read for item in office.box.items.values()) or action is DELETE


@pytest.mark.promise("M7")
def test_a_request_that_a_batch_does_not_answer_is_not_called_settled(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(3))
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    office.server.fail("/$batch", status=200, content=answers((1, 200)))
    with pytest.raises(TryAgain, match="without an answer"):
        mailbox.settle(refs, MARK_READ)


@pytest.mark.promise("M7")
def test_what_a_batch_answers_twice_or_to_nobody_says_nothing(office: Office) -> None:
    office.box.deliver([mail("one"), mail("two")])
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    office.server.fail(
        "/$batch", status=200, content=answers((9, 200), (1, 200), (1, 403), (2, 403), (2, 200))
    )
    assert mailbox.settle(refs, MARK_READ) == [refs[0]]


@pytest.mark.promise("M7")
def test_a_mailbox_that_is_throttled_for_long_is_left_at_once(office: Office) -> None:
    """What was settled before counts; what was not asked for is asked for by a later run."""
    office.box.deliver(mail(f"mail {n}") for n in range(45))
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    office.server.fail(f"{refs[25].key}", status=429, retry_after=600, times=99)
    settled = mailbox.settle(refs, MARK_READ)
    assert [ref.key for ref in settled] == [ref.key for ref in refs[:40] if ref is not refs[25]]
    assert {item.id for item in office.box.items.values() if item.read} == {
        ref.key for ref in settled
    }
    assert sum(line.endswith("$batch") for line in office.server.requests) == 2


def answers(*pairs: tuple[int, int]) -> bytes:
    """What a batch answers: number and status of each request."""
    rows = [{"id": str(number), "status": status, "body": {}} for number, status in pairs]
    return json.dumps({"responses": rows}).encode()
