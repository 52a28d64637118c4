"""What a look at a Graph folder finds, and where the next one goes on: no mail is passed over, and
none of another folder, time or choice is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.connections import Selection
from shared.errors import TryAgain
from shared.messages import Key
from tests.contract.mailbox_kinds import mail
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.graph.conftest import Office
from tests.integration.graph.test_faults import fetch, subjects
from tests.servers.graph.mailboxes import Folder

UNREAD, ALL = Selection.UNREAD, Selection.ALL


@pytest.mark.promise("M17")
@pytest.mark.parametrize("selection", [UNREAD, ALL])
def test_mails_of_before_the_start_are_left_alone(office: Office, selection: Selection) -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    office.box.deliver([mail("before")], received=start - timedelta(seconds=1))
    office.box.deliver([mail("after")], received=start)
    mailbox = office.open(selection=selection)
    mailbox.open("")
    sink = Collector()
    listing = mailbox.list_new(KnownKeys(), selection, since=start)
    mailbox.download(listing.new, sink, limit=1 << 20)
    assert subjects(sink) == ["after"]


@pytest.mark.promise("M9")
def test_a_mail_that_left_the_folder_is_not_fetched_from_it(office: Office) -> None:
    mailbox, known = office.open(selection=ALL), KnownKeys()
    mailbox.open("")
    cursor = mailbox.list_new(known, ALL).cursor
    came, left = office.box.deliver([mail("came"), mail("came and left")])
    office.box.move(left.id, office.box.create("Elsewhere"))
    listing = mailbox.list_new(known, ALL, cursor=cursor)
    assert [ref.key for ref in listing.new] == [came.id]


@pytest.mark.promise("M7", "M9")
def test_what_a_round_says_to_have_left_the_folder_is_not_fetched_from_where_it_is(
    office: Office,
) -> None:
    """Its id is good everywhere: a mail of another folder was handed over, and deleted there."""
    mailbox, known = office.open(selection=ALL), KnownKeys()
    mailbox.open("")
    cursor = mailbox.list_new(known, ALL).cursor
    (left,) = office.box.deliver([mail("left")])
    office.box.move(left.id, office.box.create("Elsewhere"))
    gone = {"id": left.id, "@removed": {"reason": "changed"}}
    page = {"value": [gone], "@odata.deltaLink": cursor["delta"]}
    office.server.fail("/messages/delta", status=200, content=json.dumps(page).encode())
    assert mailbox.list_new(known, ALL, cursor=cursor).new == ()


class KnownMeanwhile(KnownKeys):
    """Something happens as it is asked."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self._happens = happens

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        self._happens()
        return super().missing(keys)


@pytest.mark.promise("M7", "M9")
def test_a_round_that_begins_anew_takes_nothing_of_the_one_before(office: Office) -> None:
    """A mail that left in between was fetched from where it is now, and deleted there."""
    mails = office.box.deliver(mail(f"mail {n}") for n in range(260))
    elsewhere = office.box.create("Elsewhere")
    mailbox = office.open(selection=ALL)
    mailbox.open("")
    office.server.forget_state_after = 0
    known = KnownMeanwhile(lambda: office.box.move(mails[0].id, elsewhere))
    listing = mailbox.list_new(known, ALL)
    assert [ref.key for ref in listing.new] == [item.id for item in mails[1:]]


@pytest.mark.promise("M9")
def test_slices_of_all_mails_pass_over_none(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(600))
    mailbox, known = office.open(selection=ALL), KnownKeys()
    mailbox.open("")
    cursor = None
    for _ in range(600 // 70 + 1):
        listing = mailbox.list_new(known, ALL, limit=70, cursor=cursor)
        known.add(listing.new)
        if listing.complete:
            cursor = listing.cursor
    assert len(known.keys) == 600
    assert cursor is not None
    assert mailbox.changed_since("", cursor) is None


@pytest.mark.promise("I9")
def test_a_look_at_what_came_names_no_whole_folder(office: Office) -> None:
    """Who took it for one would forget the others, and hand them over twice."""
    office.box.deliver([mail("one")])
    mailbox, known = office.open(selection=ALL), KnownKeys()
    mailbox.open("")
    first = mailbox.list_new(known, ALL)
    assert first.listed == tuple(ref.key for ref in first.new)
    known.add(first.new)
    office.box.deliver([mail("two"), mail("three")])
    assert mailbox.list_new(known, ALL, cursor=first.cursor).listed is None
    assert mailbox.list_new(known, ALL, limit=1).listed is None
    since = datetime(2026, 1, 1, tzinfo=UTC)
    assert mailbox.list_new(known, ALL, since=since).listed is None


@pytest.mark.promise("M9")
def test_changes_behind_an_empty_page_are_changes(office: Office) -> None:
    mailbox = office.open(selection=ALL)
    mailbox.open("")
    cursor = mailbox.list_new(KnownKeys(), ALL).cursor
    page = json.dumps({"value": [], "@odata.nextLink": f"{cursor['delta']}&page=2"}).encode()
    office.server.fail("/delta", status=200, content=page)
    assert mailbox.changed_since("", cursor) is not None


@pytest.mark.promise("M9")
def test_counts_that_changed_are_a_change(office: Office) -> None:
    """Of a mail that is moved in with an older time of change nothing else tells."""
    office.box.deliver([mail("left unread")])
    mailbox = office.open()
    mailbox.open("")
    cursor = mailbox.list_new(KnownKeys(), UNREAD).cursor
    (moved_in,) = office.box.deliver([mail("moved in")])
    moved_in.modified -= timedelta(days=900)
    assert mailbox.changed_since("", cursor) is not None


@pytest.mark.promise("M9")
def test_what_was_looked_at_for_unread_mails_was_not_for_all(office: Office) -> None:
    office.box.deliver([mail("read")], read=True)
    mailbox = office.open()
    mailbox.open("")
    cursor = mailbox.list_new(KnownKeys(), UNREAD).cursor
    assert mailbox.changed_since("", cursor) is None
    assert office.open(selection=ALL).changed_since("", cursor) is not None


@pytest.mark.promise("M2")
def test_a_folder_that_is_gone_by_its_id_is_looked_for_by_its_name(office: Office) -> None:
    """Somebody emptied the deleted items, too, while a session is kept."""
    old = office.box.create("Orders")
    mailbox = office.open()
    assert mailbox.open("Orders").total == 0
    del office.box.folders[old]
    office.box.folders["another-id"] = Folder("another-id", "Orders")
    office.box.deliver([mail("after")], folder="Orders")
    assert mailbox.open("Orders").total == 1


@pytest.mark.promise("M9")
@pytest.mark.parametrize("selection", [UNREAD, ALL])
def test_a_list_that_is_cut_is_no_empty_one(office: Office, selection: Selection) -> None:
    office.box.deliver([mail("one")])
    office.server.fail("/messages", status=200, content=b'{"value": [', times=99)
    with pytest.raises(TryAgain, match="broken JSON"):
        fetch(office.open(selection=selection), KnownKeys(), selection=selection)


@pytest.mark.promise("M9", "M19")
@pytest.mark.parametrize("selection", [UNREAD, ALL])
@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"value": null}', b'{"error": {}}'])
def test_an_answer_that_is_no_list_is_no_empty_one(
    office: Office, selection: Selection, answer: bytes
) -> None:
    """With status 200. Taken for an empty folder, all looked well, and no mail came until another
    one changed what is compared."""
    mailbox = office.open(selection=selection)
    mailbox.open("")
    cursor = mailbox.list_new(KnownKeys(), selection).cursor
    office.box.deliver([mail("one")])
    office.server.fail("/messages", status=200, content=answer, times=99)
    with pytest.raises(TryAgain, match="a list without its rows"):
        mailbox.changed_since("", cursor)
    with pytest.raises(TryAgain, match="a list without its rows"):
        fetch(mailbox, KnownKeys(), selection=selection)
    with pytest.raises(TryAgain, match="a list without its rows"):
        mailbox.keys()
    office.server.faults.clear()
    assert mailbox.changed_since("", cursor) is not None
    assert len(fetch(mailbox, KnownKeys(), selection=selection).mails) == 1


@pytest.mark.promise("M27")
def test_an_outage_of_the_provider_blames_no_mail(office: Office) -> None:
    """Tokens come from elsewhere: that there is none says nothing of a mail."""
    office.box.deliver([mail("one"), mail("two")])
    away: list[bool] = []
    given = office._access_token

    def token(renew: bool) -> str:
        if away:
            raise TryAgain("The provider is away.", code="provider-unavailable")
        return given(renew)

    office._access_token = token  # type: ignore[method-assign]
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    away.append(True)
    sink = Collector()
    with pytest.raises(TryAgain) as gone:
        mailbox.download(refs, sink, limit=1 << 20)
    assert gone.value.code == "provider-unavailable"
    assert not sink.abandoned


@pytest.mark.promise("H4")
def test_a_mail_that_is_smaller_than_exchange_counts_is_taken(office: Office) -> None:
    """It counts what it stores, two octets a character; far beyond the limit nothing is asked."""
    (item,) = office.box.deliver([mail("one", b"x" * 9000 + b"\r\n")])
    mailbox = office.open()
    mailbox.open("")
    (ref,) = mailbox.list_new(KnownKeys(), UNREAD).new
    for size, comes in ((18_000, True), (21_000, False)):
        sink = Collector()
        before = len(office.server.requests)
        mailbox.download([replace(ref, size=size)], sink, limit=10_000)
        assert list(sink.mails) == ([item.id] if comes else [])
        assert [reason.code for reason in sink.abandoned.values()] == ["too-large"] * (not comes)
        assert len(office.server.requests) == before + comes


@pytest.mark.promise("M27")
def test_a_graph_that_throttles_is_not_asked_for_every_mail(office: Office) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(12))
    mailbox = office.open()
    mailbox.open("")
    refs = mailbox.list_new(KnownKeys(), UNREAD).new
    office.server.fail("/$value", status=429, retry_after=600, times=999)
    sink = Collector()
    mailbox.download(refs, sink, limit=1 << 20)
    codes = [reason.code for reason in sink.abandoned.values()]
    assert len(codes) == 12
    assert codes.count("mail-not-asked") >= 6
    assert sum(line.endswith("$value") for line in office.server.requests) == 12 - codes.count(
        "mail-not-asked"
    )
