"""Mails that a server counts and does not show where new ones are looked for: they come all the
same.

Its UIDNEXT is too high, so that mails come below it; a search says "nothing" while STATUS counts.
For an administrator: where all comes there is nothing to do, and the protocol log says what was
left out. Where the server names mails to nobody, the connection fails with `mails-not-listed` (its
page, the alert `connection-failing`, `posthouse_fetch_runs_total`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from shared.connections import Selection
from shared.mailbox.base import Cursor, Listing, Mailbox
from shared.storage import connections
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.scripted import (
    Answer,
    Conversation,
    ScriptedServer,
    flags_response,
    imap,
    read_set,
)

pytestmark = pytest.mark.promise("M9")


def all_of(found: list[int]) -> list[int]:
    return found


@dataclass
class Inbox:
    """What a server has, and what it says of it. `searched`: mails that a search finds."""

    mails: dict[int, bytes] = field(
        default_factory=lambda: {uid: mail(uid, 300, seed=17) for uid in (1, 2, 3)}
    )
    read: set[int] = field(default_factory=set)
    next_uid: int | None = None
    #: Counted beside those that are there and unread.
    counted_unread: int = 0
    searched: Callable[[list[int]], list[int]] = all_of
    named: Callable[[list[int]], list[int]] = all_of
    #: Commands by name, as they were asked.
    asked: list[bytes] = field(default_factory=list)

    def script(self, talk: Conversation) -> None:
        answers: dict[str, Answer] = {
            "STATUS": self._status,
            "EXAMINE": self._examine,
            "UID SEARCH": self._search,
            "FETCH": self._flags,
            "UID STORE": self._store,
        }
        imap(answers, live=self.mails)(talk)

    def flags_read(self) -> int:
        return self.asked.count(b"FETCH")

    def _next(self) -> int:
        return self.next_uid or max(self.mails, default=0) + 1

    def _status(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        unread = len(self.mails.keys() - self.read) + self.counted_unread
        talk.send(
            b"* STATUS INBOX (MESSAGES %d UIDNEXT %d UIDVALIDITY 7 UNSEEN %d)\r\n"
            % (len(self.mails), self._next(), unread)
        )
        talk.ok(tag)

    def _examine(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(
            b"* %d EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [UIDNEXT %d] ok\r\n"
            b"* OK [READ-ONLY] ok\r\n" % (len(self.mails), self._next())
        )
        talk.ok(tag)

    def _search(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        self.asked.append(b"UID SEARCH " + rest)
        found = sorted(self.mails)
        words = rest.upper().split()
        if words[0] == b"UID":
            found = [uid for uid in found if uid in read_set(words[1], found[-1])] or found[-1:]
        if b"UNSEEN" in words:
            found = [uid for uid in found if uid not in self.read]
        told = self.searched(found)
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in told) + b"\r\n")
        talk.ok(tag)

    def _flags(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        self.asked.append(b"FETCH")
        uids = sorted(self.mails)
        wanted = read_set(rest.split(b" ")[0], len(uids))
        for uid in self.named([uid for n, uid in enumerate(uids, 1) if n in wanted]):
            talk.send(flags_response(uids.index(uid) + 1, uid, seen=uid in self.read))
        talk.ok(tag)

    def _store(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        self.read |= read_set(rest.split(b" ")[0], 99) & self.mails.keys()
        talk.ok(tag)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def mailbox(inbox: Inbox) -> Iterator[Mailbox]:
    with ScriptedServer(inbox.script) as server, opened(connection_to(server.port)) as there:
        yield there


def listed(
    mailbox: Mailbox, selection: Selection, *known: int, cursor: Cursor | None = None
) -> Listing:
    mailbox.open("")
    return mailbox.list_new(KnownKeys(known), selection, cursor=cursor)


def uids(listing: Listing) -> list[int]:
    return [int(ref.key) for ref in listing.new]


@pytest.mark.parametrize("seen", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("many", [1, 2, 5])
def test_a_uidnext_that_is_too_high_strands_no_mail(
    many: int, seen: bool, inbox: Inbox, mailbox: Mailbox
) -> None:
    inbox.next_uid = 1000
    first = listed(mailbox, Selection.ALL)
    assert uids(first) == [1, 2, 3]
    later = range(4, 4 + many)
    inbox.mails |= {uid: mail(uid, 300, seed=17) for uid in later}
    if seen:
        inbox.read.update(later)
    assert uids(listed(mailbox, Selection.ALL, 1, 2, 3, cursor=first.cursor)) == [*later]


@pytest.mark.parametrize("where", ["last", "unread", "more than above"])
def test_a_mail_below_those_that_were_had_is_found(
    where: str, inbox: Inbox, mailbox: Mailbox
) -> None:
    """A server gives UIDs that do not rise."""
    inbox.mails = {10: b"", 20: b"", 30: b""}
    inbox.read.update({10, 20, 30})
    inbox.next_uid = 31
    first = listed(mailbox, Selection.ALL)
    new = 25
    if where == "last":
        del inbox.mails[30]
    inbox.mails[new] = mail(1, 300, seed=17)
    if where != "unread":
        inbox.read.add(new)
    assert uids(listed(mailbox, Selection.ALL, 10, 20, 30, cursor=first.cursor)) == [new]


def test_what_was_had_is_not_looked_at_again(inbox: Inbox, mailbox: Mailbox) -> None:
    first = listed(mailbox, Selection.ALL)
    inbox.mails[4] = mail(4, 300, seed=17)
    inbox.asked.clear()
    assert uids(listed(mailbox, Selection.ALL, 1, 2, 3, cursor=first.cursor)) == [4]
    assert inbox.asked == [b"UID SEARCH UNSEEN", b"UID SEARCH UID 4:*"]


def test_an_unread_mail_of_before_the_start_costs_no_look_at_the_folder(
    dovecot: Dovecot, mail_user: str
) -> None:
    """A search tells days apart, and the start is a moment: that mail is never had."""
    start = datetime.now(UTC) - timedelta(minutes=30)
    connection = connection_to(dovecot.imap_port, username=mail_user)
    assert dovecot.password is not None
    with dovecot.client(mail_user) as person:
        person.append("INBOX", mail(1, 300, seed=17), msg_time=start - timedelta(hours=1))
    dovecot.deliver(mail_user, [mail(2, 300, seed=17)])
    with opened(connection, password=dovecot.password) as there:
        there.open("")
        first = there.list_new(KnownKeys(), Selection.ALL, since=start)
        assert uids(first) == [2]
        dovecot.deliver(mail_user, [mail(3, 300, seed=17)])
        there.open("")
        asked = len(there.transcript)
        later = there.list_new(KnownKeys([2]), Selection.ALL, since=start, cursor=first.cursor)
        assert uids(later) == [3]
        assert not [line for line in there.transcript[asked:] if line.endswith((") ALL", "H ALL"))]


@pytest.mark.parametrize("selection", [Selection.ALL, Selection.UNREAD])
@pytest.mark.parametrize("found", [0, 1], ids=["nothing", "one"])
def test_a_search_is_not_believed_against_the_counts(
    found: int, selection: Selection, inbox: Inbox, mailbox: Mailbox
) -> None:
    inbox.searched = lambda there: there[:found]
    listing = listed(mailbox, selection)
    assert uids(listing) == [1, 2, 3]
    assert listing.not_listed is None
    ranges_found_them = bool(found)
    said = any("flags of 3 mails read" in line for line in mailbox.transcript)
    assert said or ranges_found_them
    inbox.mails[4] = mail(4, 300, seed=17)
    assert 4 in uids(listed(mailbox, selection, 1, 2, 3, cursor=listing.cursor))


@pytest.mark.parametrize("counted", [2, 1])
def test_a_wrong_count_of_unread_mails_costs_one_look(
    counted: int, inbox: Inbox, mailbox: Mailbox
) -> None:
    """It counts recent or deleted mails as well. More of them are looked for once more."""
    inbox.read.update({1, 2})
    inbox.counted_unread = counted
    first = listed(mailbox, Selection.UNREAD)
    assert (uids(first), inbox.flags_read()) == ([3], 1)
    said = f"{counted + 1} unread mails counted, 1 by their flags"
    assert any(said in line for line in mailbox.transcript)
    inbox.mails[4] = mail(4, 300, seed=17)
    second = listed(mailbox, Selection.UNREAD, 3, cursor=first.cursor)
    assert (uids(second), inbox.flags_read()) == ([4], 1)
    inbox.mails[5] = mail(5, 300, seed=17)
    inbox.searched = lambda there: []
    third = listed(mailbox, Selection.UNREAD, 3, 4, cursor=second.cursor)
    assert (uids(third), inbox.flags_read()) == ([5], 2)
    inbox.searched = all_of
    inbox.counted_unread += 1
    listed(mailbox, Selection.UNREAD, 3, 4, 5, cursor=third.cursor)
    assert inbox.flags_read() == 3


def test_mails_that_nothing_shows_are_told_of(inbox: Inbox, mailbox: Mailbox) -> None:
    inbox.searched = inbox.named = lambda there: [uid for uid in there if uid != 2]
    for selection in Selection:
        listing = listed(mailbox, selection)
        assert uids(listing) == [1, 3]
        assert listing.listed is None, "else what is left out would be forgotten"
        assert listing.not_listed is not None
        assert listing.not_listed.code == "mails-not-listed"


def test_a_mail_that_goes_between_count_and_search_is_no_contradiction(
    inbox: Inbox, mailbox: Mailbox
) -> None:
    def gone(there: list[int]) -> list[int]:
        inbox.mails.pop(3, None)
        return [uid for uid in there if uid != 3]

    inbox.searched = gone
    listing = listed(mailbox, Selection.ALL)
    assert uids(listing) == [1, 2]
    assert listing.not_listed is None
    assert inbox.flags_read() == 0


@pytest.mark.promise("M17")
def test_old_mails_that_are_not_named_are_not_taken_later(
    inbox: Inbox, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """They lay there as "from now on" was chosen: that begins once the server names them all."""
    inbox.searched = inbox.named = lambda there: [uid for uid in there if uid != 2]
    stack = build_stack(redis_url)
    stack.add_handler()
    asked = "SELECT health, error ->> 'code' FROM connection_state"
    with ScriptedServer(inbox.script) as server, FetcherHere(stack).working() as here:
        number = stack.add_plain_connection(
            server.port, name="damaged", mode="imap", selection="all"
        )
        with stack.database.transaction() as session:
            connections.start_from(session, number, since=None, skip_existing=True)
        here.run(number)
        assert stack.query(asked) == [("failing", "mails-not-listed")]
        inbox.searched = inbox.named = all_of
        here.run_until_idle(number)
        assert here.had() == []
        assert stack.query(asked) == [("working", None)]


@pytest.mark.parametrize("selection", ["all", "unread"])
def test_a_connection_does_not_stay_green_where_mails_are_not_named(
    selection: str, inbox: Inbox, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    inbox.searched = inbox.named = lambda there: [uid for uid in there if uid != 2]
    had = [inbox.mails[1], inbox.mails[3]]
    stack = build_stack(redis_url)
    stack.add_handler()
    asked = "SELECT health, error ->> 'code' FROM connection_state"
    with ScriptedServer(inbox.script) as server, FetcherHere(stack).working() as here:
        number = stack.add_plain_connection(
            server.port, name="damaged", mode="imap", selection=selection
        )
        here.run(number)
        assert here.had() == digests(had), "what is named comes"
        assert stack.query(asked) == [("failing", "mails-not-listed")]
        inbox.searched = inbox.named = all_of
        here.run(number)
        assert here.had() == digests([*inbox.mails.values()])
        assert stack.query(asked) == [("working", None)]
        # What is had already is not forgotten as it is not named for a while.
        for named in (lambda there: [uid for uid in there if uid != 2], all_of):
            inbox.searched = inbox.named = named
            stack.execute("UPDATE connection_state SET pruned_at = now() - interval '25 h'")
            here.run_until_idle(number)
        assert here.had() == digests([*inbox.mails.values()])


def test_the_whole_folder_is_looked_at_once_a_day(
    inbox: Inbox, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """A mail that came where none is looked for, while another one went: nothing else shows it."""
    inbox.mails = {10: mail(1, 300, seed=17), 20: mail(2, 300, seed=17)}
    inbox.read.update({10, 20})
    inbox.next_uid = 21
    stack = build_stack(redis_url)
    stack.add_handler()
    with ScriptedServer(inbox.script) as server, FetcherHere(stack).working() as here:
        number = stack.add_plain_connection(
            server.port, name="swapped", mode="imap", selection="all"
        )
        here.run_until_idle(number)
        assert stack.count("message") == 2
        inbox.mails.pop(10)
        inbox.mails[15] = mail(3, 300, seed=17)
        inbox.read.add(15)
        here.run_until_idle(number)
        stack.query("UPDATE connection_state SET pruned_at = now() - interval '25 h' RETURNING 1")
        here.run_until_idle(number)
        assert stack.count("message") == 3
        ((looked,),) = stack.query(
            "SELECT pruned_at > now() - interval '1 h' FROM connection_state"
        )
        assert looked


@pytest.mark.parametrize("selection", ["all", "unread"])
def test_a_poll_costs_no_look_at_the_mails(
    selection: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
    logging_dovecot: Dovecot,
    mail_user: str,
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    dovecot = logging_dovecot
    dovecot.prepare_rawlog(mail_user)
    with FetcherHere(stack).working() as here:
        number = stack.watch(dovecot, mail_user, selection=selection)
        for round_ in range(3):
            dovecot.deliver(mail_user, [mail(round_, 300, seed=18)])
            here.run_until_idle(number)
        assert stack.count("message") == 3
        before = len(dovecot.commands(mail_user))
        here.run(number)
        asked = dovecot.commands(mail_user)[before:]
    assert [line for line in asked if "SEARCH" in line or "FETCH" in line] == []
