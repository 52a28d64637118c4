"""Graph misbehaves as it does in life; no mail is lost, none comes twice, nobody waits for ever."""

from __future__ import annotations

import hashlib
import random
import ssl
from collections.abc import Sequence

import httpx
import pytest

from shared.connections import AfterDownload, Selection
from shared.errors import NeedsAuthorisation, NeedsPerson, TryAgain
from shared.mailbox.base import MailRef
from shared.mailbox.graph import folders
from shared.mailbox.graph.mailbox import GraphMailbox
from shared.messages import Key
from tests.contract.mailbox_kinds import mail, subject_of
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.graph.conftest import ALICE, Office

LIMIT = 1 << 20
COUNT = 600
UNREAD, ALL = Selection.UNREAD, Selection.ALL
MARK_READ, DELETE = AfterDownload.MARK_READ, AfterDownload.DELETE


def fetch(
    mailbox: GraphMailbox,
    known: KnownKeys,
    action: AfterDownload = MARK_READ,
    selection: Selection = UNREAD,
) -> Collector:
    """One whole fetch, as the fetcher does it."""
    mailbox.open("")
    listing = mailbox.list_new(known, selection)
    sink = Collector()
    mailbox.download(listing.new, sink, limit=LIMIT)
    known.add(ref for ref in listing.new if ref.key in sink.mails)
    mailbox.settle([ref for ref in listing.new if ref.key in sink.mails], action)
    return sink


def subjects(sink: Collector) -> list[str]:
    return sorted(subject_of(raw) for raw in sink.mails.values())


@pytest.mark.promise("M2")
@pytest.mark.parametrize("action", [MARK_READ, DELETE])
def test_every_mail_once_while_graph_throttles(office: Office, action: AfterDownload) -> None:
    """Every mail octet for octet and exactly once, by SHA-256, with every 7th request refused."""
    chance = random.Random(7)
    sent = [mail(f"mail {n}", chance.randbytes(chance.randint(10, 6000))) for n in range(COUNT)]
    office.box.deliver(sent)
    office.server.throttle_every = 7
    known, got = KnownKeys(), []
    mailbox = office.open(pause_budget=100_000)
    for _ in range(2):
        got += [
            hashlib.sha256(raw).digest() for raw in fetch(mailbox, known, action).mails.values()
        ]
    assert sorted(got) == sorted(hashlib.sha256(raw).digest() for raw in sent)
    assert office.server.throttled > COUNT // 7
    assert office.server.peak <= office.server.at_once
    left = office.box.in_folder(office.box.inbox)
    assert [item for item in left if not item.read] == []
    assert len(left) == (COUNT if action is MARK_READ else 0)


@pytest.mark.promise("M2")
def test_retry_after_is_honoured_and_its_absence_survived(office: Office) -> None:
    office.box.deliver([mail("one"), mail("two")])
    mailbox = office.open()
    office.server.fail("/$value", status=429, times=1, retry_after=17)
    office.server.fail("/messages", status=429, times=2)
    assert subjects(fetch(mailbox, KnownKeys())) == ["one", "two"]
    assert 17 in office.pauses
    unasked = [pause for pause in office.pauses if pause != 17]
    assert len(unasked) == 2
    assert unasked[1] > unasked[0] > 0  # backs off further each time


@pytest.mark.promise("M2")
def test_a_long_retry_after_is_left_to_the_scheduler(office: Office) -> None:
    mailbox = office.open()
    office.server.fail("/messages", status=429, times=9, retry_after=600)
    with pytest.raises(TryAgain) as refused:
        fetch(mailbox, KnownKeys())
    assert refused.value.retry_after == 600
    assert refused.value.code == "throttled"
    assert office.pauses == []


@pytest.mark.promise("M2")
def test_a_burst_of_server_errors_is_sat_out(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(5))
    mailbox = office.open()
    office.server.fail("/$value", status=503, times=4)
    office.server.fail("/$batch", status=502, times=2)
    office.server.fail("/messages", status=504, times=2)
    assert subjects(fetch(mailbox, KnownKeys())) == [f"mail {n}" for n in range(5)]
    assert all(item.read for item in office.box.items.values())


@pytest.mark.promise("M2")
def test_an_outage_is_tried_again_later(office: Office) -> None:
    mailbox = office.open()
    office.server.fail("/messages", status=503, times=99)
    with pytest.raises(TryAgain) as refused:
        fetch(mailbox, KnownKeys())
    assert refused.value.code == "graph-unavailable"
    assert any("503" in line for line in refused.value.transcript)


@pytest.mark.promise("A4")
def test_a_token_that_ends_in_the_middle_is_renewed(office: Office) -> None:
    sent = [mail(f"mail {n}") for n in range(12)]
    office.box.deliver(sent)
    mailbox = office.open()
    office.token = office.server.token("alice@example.org", requests=5)
    assert len(fetch(mailbox, KnownKeys()).mails) == 12
    assert office.renewed >= 1


@pytest.mark.promise("A4")
def test_a_token_that_is_refused_in_the_middle_is_no_lost_grant(office: Office) -> None:
    """The account worked a moment ago, and the token endpoint gave a fresh token: whether the grant
    is gone is for the token endpoint to say."""
    mailbox = office.open()
    office.server.fail(
        "/messages", status=401, times=9, code="InvalidAuthenticationToken", message="No."
    )
    with pytest.raises(TryAgain) as refused:
        fetch(mailbox, KnownKeys())
    assert refused.value.code == "token-refused"
    assert "authorise again" in refused.value.hint
    assert office.renewed == 1


@pytest.mark.promise("A4")
def test_a_token_that_never_opened_the_mailbox_needs_authorisation(office: Office) -> None:
    office.server.fail(
        "/inbox", status=401, times=9, code="InvalidAuthenticationToken", message="No."
    )
    with pytest.raises(NeedsAuthorisation) as refused:
        office.open()
    assert refused.value.code == "token-refused"


@pytest.mark.promise("M2")
@pytest.mark.parametrize(("status", "code"), [(401, "UnknownError"), (400, "")])
def test_refusals_that_say_nothing_pass(office: Office, status: int, code: str) -> None:
    """Reported of Graph: 401 UnknownError without words, 400 with an empty body."""
    office.box.deliver([mail("one"), mail("two")])
    mailbox = office.open()
    office.server.fail("/messages", status=status, code=code, message="", times=2)
    assert subjects(fetch(mailbox, KnownKeys())) == ["one", "two"]
    office.server.fail("/messages", status=status, code=code, message="", times=99)
    with pytest.raises(TryAgain) as refused:
        fetch(mailbox, KnownKeys())
    assert refused.value.code == "graph-unavailable"


LINKS = [
    (410, "SyncStateNotFound", "The sync state generation is not found."),
    (400, "ErrorInvalidIdMalformed", "Id is malformed."),
    (400, "BadRequest", "Badly formed token."),
    (404, "ErrorItemNotFound", "The specified object was not found in the store."),
]


@pytest.mark.promise("M2")
def test_a_busy_server_keeps_its_link(office: Office) -> None:
    """Exchange's code for the moment with status 400 says nothing about the link."""
    office.box.deliver(mail(f"mail {n}") for n in range(3))
    mailbox, known = office.open(selection=ALL), KnownKeys()
    mailbox.open("")
    listing = mailbox.list_new(known, ALL)
    known.add(listing.new)
    office.server.fail("/delta", status=400, code="ErrorServerBusy", message="Busy.", times=99)
    with pytest.raises(TryAgain):
        mailbox.list_new(known, ALL, cursor=listing.cursor)
    assert not any("everything again" in line for line in mailbox.transcript)


@pytest.mark.promise("M2")
@pytest.mark.parametrize(("status", "code", "message"), LINKS)
def test_a_stored_link_that_is_not_taken_any_more_begins_anew_once(
    office: Office, status: int, code: str, message: str
) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(3))
    mailbox, known = office.open(selection=ALL), KnownKeys()
    mailbox.open("")
    listing = mailbox.list_new(known, ALL)
    known.add(listing.new)
    office.box.deliver([mail("later")])
    office.server.fail("/delta", status=status, code=code, message=message, times=2)
    assert mailbox.changed_since("", listing.cursor) is not None
    again = mailbox.list_new(known, ALL, cursor=listing.cursor)
    assert (len(again.new), again.known) == (1, 3), "what is known stays known"
    office.server.fail("/delta", status=status, code=code, message=message, times=99)
    with pytest.raises((NeedsPerson, TryAgain)):
        mailbox.list_new(known, ALL, cursor=listing.cursor)
    office.server.faults.clear()
    requests = len(office.server.requests)
    office.server.fail("/delta", status=403, code="ErrorAccessDenied", message="No.", times=1)
    with pytest.raises(NeedsPerson):
        mailbox.list_new(known, ALL, cursor=listing.cursor)
    assert len(office.server.requests) == requests + 1, "a missing right is no forgotten link"


@pytest.mark.promise("M2")
def test_a_first_round_that_is_forgotten_half_way_begins_anew(office: Office) -> None:
    """Reported: while pages are read, the links of earlier ones turn to SyncStateNotFound."""
    office.box.deliver(mail(f"mail {n}") for n in range(600))
    mailbox = office.open()
    mailbox.open("")
    office.server.forget_state_after = 1
    listing = mailbox.list_new(KnownKeys(), ALL)
    assert len({ref.key for ref in listing.new}) == len(listing.new) == 600


@pytest.mark.promise("M2")
def test_a_server_that_tells_no_sizes_is_read_without_them(office: Office) -> None:
    """Reported of the cloud of 21Vianet: it does not know extended properties of a message."""
    office.box.deliver([mail("one"), mail("two")])
    office.server.extended_properties = False
    mailbox = office.open()
    assert subjects(fetch(mailbox, KnownKeys())) == ["one", "two"]


@pytest.mark.promise("M2")
def test_an_order_that_the_filter_does_not_begin_with_is_refused_as_graph_does(
    office: Office,
) -> None:
    """ "List messages", "Using filter and orderby in the same query"; the listing never asks so."""
    office.box.deliver([mail("one")])
    refused = httpx.get(
        f"{office.server.origin}/v1.0/users/{ALICE}/mailFolders/inbox/messages",
        params={"$filter": "isRead eq false", "$orderby": "receivedDateTime"},
        headers={
            "Authorization": f"Bearer {office.token}",
            "Prefer": 'IdType="ImmutableId"',
        },
        verify=ssl.create_default_context(cadata=office.server.ca),
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "InefficientFilter")
    mailbox = office.open()
    assert subjects(fetch(mailbox, KnownKeys())) == ["one"]
    assert not any("does not sort" in line for line in mailbox.transcript)


@pytest.mark.promise("M2")
def test_a_server_that_does_not_sort_is_sorted_here(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(600))
    mailbox = office.open()
    mailbox.open("")
    sorted_there = [ref.key for ref in mailbox.list_new(KnownKeys(), UNREAD).new]
    office.server.sorts = False
    listing = mailbox.list_new(KnownKeys(), UNREAD)
    arrived = [ref.arrived for ref in listing.new]
    assert len(arrived) == 600
    assert arrived == sorted(arrived, key=str)
    assert any("does not sort" in line for line in mailbox.transcript)
    # What a limit lets through are the oldest all the same, wherever the server lists them.
    first = mailbox.list_new(KnownKeys(), UNREAD, limit=50)
    assert [ref.key for ref in first.new] == [ref.key for ref in listing.new[:50]]
    assert (first.more, first.complete) == (550, False)
    assert mailbox.list_new(KnownKeys(), UNREAD, limit=0).more == 600
    assert [ref.key for ref in listing.new] == list(mailbox.keys()) == sorted_there
    assert len(fetch(mailbox, KnownKeys()).mails) == 600


@pytest.mark.promise("M2")
@pytest.mark.parametrize("after", [0, 1, 20_000, 90_000])
def test_a_download_that_breaks_off_begins_anew(office: Office, after: int) -> None:
    raw = mail("large", random.Random(1).randbytes(100_000))
    office.box.deliver([raw])
    mailbox = office.open()
    office.server.fail("/$value", status=0, after=after, times=2)
    (got,) = fetch(mailbox, KnownKeys()).mails.values()
    assert got == raw


@pytest.mark.promise("M2")
def test_a_download_that_never_ends_well_voids_nothing_else(office: Office) -> None:
    office.box.deliver([mail("one"), mail("two")])
    mailbox = office.open()
    office.server.fail("/$value", status=0, after=3, times=99)
    sink = fetch(mailbox, KnownKeys())
    assert not sink.mails
    assert {reason.code for reason in sink.abandoned.values()} == {"mail-refused"}
    assert not any(item.read for item in office.box.items.values())
    office.server.faults.clear()
    assert subjects(fetch(mailbox, KnownKeys())) == ["one", "two"]


@pytest.mark.promise("M2")
@pytest.mark.parametrize("selection", [UNREAD, ALL])
def test_pages_without_an_end_keep_no_thread_for_ever(
    office: Office, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty ones, each with a link of its own: the run fails, and says so."""
    monkeypatch.setattr(folders, "_MOST_IN_VAIN", 20)
    office.box.deliver(mail(f"mail {n}") for n in range(10))
    mailbox = office.open()
    office.server.endless_links = True
    with pytest.raises(TryAgain, match="without an end"):
        fetch(mailbox, KnownKeys(), selection=selection)
    office.server.endless_links = False
    assert len(fetch(mailbox, KnownKeys(), selection=selection).mails) == 10


@pytest.mark.promise("M2")
@pytest.mark.parametrize("selection", [UNREAD, ALL])
def test_pages_that_lead_in_a_circle_end(office: Office, selection: Selection) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(10))
    mailbox = office.open()
    office.server.loop_links = True
    with pytest.raises(TryAgain, match="circle"):
        fetch(mailbox, KnownKeys(), selection=selection)


@pytest.mark.promise("M2")
@pytest.mark.parametrize("selection", [UNREAD, ALL])
def test_a_mail_that_is_listed_twice_is_downloaded_once(
    office: Office, selection: Selection
) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(700))
    office.server.duplicate_pages = True
    mailbox = office.open()
    mailbox.open("")
    listing = mailbox.list_new(KnownKeys(), selection)
    assert len(listing.new) == len({ref.key for ref in listing.new}) == 700


@pytest.mark.promise("M2")
def test_a_mail_that_vanishes_before_its_download_stops_no_other(office: Office) -> None:
    items = office.box.deliver(mail(f"mail {n}") for n in range(5))
    mailbox = office.open()
    vanishing = items[2].id
    office.server.fail(
        "/$value", status=404, code="ErrorItemNotFound", before=lambda: office.box.remove(vanishing)
    )
    office.server.fail("/$value", times=0)
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    sink = Collector()
    mailbox.download(refs, sink, limit=LIMIT)
    gone = [error.code for error in sink.abandoned.values()]
    assert set(gone) == {"mail-vanished"}
    assert len(sink.mails) + len(gone) == 5


def downloaded(mailbox: GraphMailbox, refs: Sequence[MailRef]) -> dict[Key, bytes]:
    sink = Collector()
    mailbox.download(refs, sink, limit=LIMIT)
    return sink.mails


@pytest.mark.promise("M27", "I1")
def test_an_outage_makes_no_mail_of_properties(office: Office) -> None:
    """That is not what travelled, and the original may be deleted after it. So only an item that
    is refused once more after another one came is built of them."""
    office.box.deliver(mail(f"mail {n}") for n in range(4))
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    outage = {"status": 500, "code": "ErrorInternalServerError", "message": "An error occurred."}
    office.server.fail("/$value", times=999, **outage)
    sink = Collector()
    mailbox.download(refs, sink, limit=LIMIT)
    assert sink.mails == {}
    assert {error.code for error in sink.abandoned.values()} <= {"mail-refused", "mail-not-asked"}
    office.server.faults.clear()
    broken = refs[0]
    office.server.fail(f"{broken.key}/$value", times=999, **outage)
    assert downloaded(mailbox, [broken]) == {}
    came = downloaded(mailbox, [refs[1], broken])
    assert b"X-Posthouse-Rebuilt" not in came[refs[1].key]
    assert b"X-Posthouse-Rebuilt" in downloaded(mailbox, [broken])[broken.key]
