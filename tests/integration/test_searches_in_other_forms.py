"""Servers that announce ESEARCH (RFC 4731) and answer in another form: nothing of it is taken for
what it is not.

Seen at iCloud (`* SEARCH`: MailKit #863; a COUNT alone: horde's Imap_Client #17) and at Cyrus 2.4
(cyrus-imapd #1720). For an administrator there is nothing to do: they are asked in the old way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from shared.connections import AfterDownload, Selection
from shared.mailbox.base import AskingAhead, Mailbox, MailRef
from shared.mailbox.failures import SessionLost, StepFailed
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.scripted import Answer, Conversation, ScriptedServer, imap, read_set

CAPABILITY = b"IMAP4rev1 UIDPLUS UNSELECT ESEARCH"
NEW = (2, 5)


def plain(tag: bytes, found: Sequence[int]) -> bytes:
    return b"* SEARCH" + b"".join(b" %d" % uid for uid in found) + b"\r\n"


def untagged(tag: bytes, found: Sequence[int]) -> bytes:
    return b"* ESEARCH UID" + (b" ALL " + _set(found) if found else b"") + b"\r\n"


def counted(tag: bytes, found: Sequence[int]) -> bytes:
    return b'* ESEARCH (TAG "%s") UID COUNT %d\r\n' % (tag, len(found))


def _set(found: Sequence[int]) -> bytes:
    return b",".join(b"%d" % uid for uid in found)


Form = Callable[[bytes, Sequence[int]], bytes]
FORMS: dict[str, Form] = {"plain": plain, "untagged": untagged, "counted": counted}


@dataclass
class Inbox:
    """Six mails of which people read all but two; `form` is that of answers to RETURN (ALL)."""

    form: Form
    mails: dict[int, bytes] = field(
        default_factory=lambda: {uid: mail(uid, 300, seed=31) for uid in range(1, 7)}
    )
    unread: set[int] = field(default_factory=lambda: set(NEW))
    #: Whether it takes UID EXPUNGE and removes nothing.
    keeps: bool = False

    def script(self, talk: Conversation) -> None:
        answers: dict[str, Answer] = {
            "STATUS": self._status,
            "UID SEARCH": self._search,
            "UID STORE": lambda talk, tag, rest: talk.ok(tag),
            "UID EXPUNGE": self._expunge,
        }
        imap(answers, live=self.mails, capability=CAPABILITY)(talk)

    def _status(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(
            b"* STATUS INBOX (MESSAGES %d UIDNEXT 7 UIDVALIDITY 7 UNSEEN %d)\r\n"
            % (len(self.mails), len(self.mails.keys() & self.unread))
        )
        talk.ok(tag)

    def _expunge(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in read_set(rest, 6) if not self.keeps else ():
            self.mails.pop(uid, None)
        talk.ok(tag)

    def _search(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        query = rest.upper().replace(b"RETURN (ALL) ", b"")
        found = sorted(self.mails)
        if b"UNSEEN" in query:
            found = [uid for uid in found if uid in self.unread]
        if (named := re.search(rb"UID (\S+)", query)) is not None:
            found = [uid for uid in found if uid in read_set(named[1], 6)]
        extended = rest.upper().startswith(b"RETURN")
        talk.send(self.form(tag, found) if extended else plain(tag, found))
        talk.ok(tag)


@pytest.fixture(params=["plain", "untagged", "counted"])
def inbox(request: pytest.FixtureRequest) -> Inbox:
    return Inbox(FORMS[request.param])


@pytest.fixture
def mailbox(inbox: Inbox) -> Iterator[Mailbox]:
    with ScriptedServer(inbox.script) as server, opened(connection_to(server.port)) as mailbox:
        yield mailbox


@pytest.mark.promise("M9")
@pytest.mark.parametrize("everything", [False, True])
def test_what_people_read_is_not_new(mailbox: Mailbox, everything: bool) -> None:
    mailbox.open("")
    listing = mailbox.list_new(KnownKeys(), Selection.UNREAD, count_known=everything)
    assert [ref.key for ref in listing.new] == [*NEW]
    assert listing.listed == ([1, 2, 3, 4, 5, 6] if everything else None)


@pytest.mark.promise("M9")
def test_nor_where_it_is_asked_ahead(mailbox: Mailbox) -> None:
    cursor = dict(mailbox.open("").cursor)
    assert isinstance(mailbox, AskingAhead)
    mailbox.listing_is_next(Selection.UNREAD, None, cursor, count_known=True)
    mailbox.open("")
    listing = mailbox.list_new(KnownKeys(), Selection.UNREAD, cursor=cursor, count_known=True)
    assert [ref.key for ref in listing.new] == [*NEW]


@pytest.mark.promise("M9")
def test_what_came_since_the_last_look_is_found(mailbox: Mailbox) -> None:
    cursor = {**mailbox.open("").cursor, "highest": 4, "messages": 4}
    listing = mailbox.list_new(KnownKeys([1, 2, 3, 4]), Selection.ALL, cursor=cursor)
    assert [ref.key for ref in listing.new] == [5, 6]


@pytest.mark.promise("M7")
def test_a_deletion_that_did_not_happen_is_not_believed(inbox: Inbox, mailbox: Mailbox) -> None:
    inbox.keeps = True
    mailbox.open("")
    with pytest.raises(StepFailed) as caught:
        mailbox.settle([MailRef(2, 0)], AfterDownload.DELETE)
    assert caught.value.code == "not-deleted"


@pytest.mark.promise("M7", "M9")
def test_nobody_loses_what_they_read(here: FetcherHere, inbox: Inbox) -> None:
    """The second run looks at the whole folder, as one a day does."""
    with ScriptedServer(inbox.script) as server:
        connection = here.stack.add_plain_connection(
            server.port, name="people", mode="imap", after_download="delete"
        )
        mails = dict(inbox.mails)
        for _ in range(3):
            here.run(connection)
        assert here.had() == digests([mails[uid] for uid in NEW])
        assert sorted(inbox.mails) == [1, 3, 4, 6]


@pytest.mark.promise("M9")
@pytest.mark.parametrize("limit", [None, 1, 2])
def test_a_read_mail_that_is_found_among_unread_ones_is_left_alone(limit: int | None) -> None:
    """As a person does who reads it at that moment, or a server that finds all (Purelymail)."""
    sizes = b"".join(
        b"* %d FETCH (UID %d RFC822.SIZE 300 FLAGS (%s))\r\n"
        % (uid, uid, b"" if uid in NEW else b"\\Seen")
        for uid in range(1, 7)
    )
    mails = {uid: mail(uid, 300, seed=31) for uid in range(1, 7)}
    with (
        ScriptedServer(imap({"METADATA": sizes}, mails=mails)) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD, limit=limit)
    assert [ref.key for ref in listing.new] == [*NEW[:limit]]
    assert listing.complete is (limit is None)


def test_a_server_that_never_says_which_is_told_of() -> None:
    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(counted(tag, [1, 2]))
        talk.ok(tag)

    script = imap({"UID SEARCH": search}, capability=CAPABILITY)
    with (
        ScriptedServer(script) as server,
        opened(connection_to(server.port)) as mailbox,
        pytest.raises(SessionLost) as caught,
    ):
        mailbox.open("")
        mailbox.list_new(KnownKeys(), Selection.UNREAD)
    assert caught.value.code == "protocol-error"


# ---- what is asked ahead


def esearch(tag: bytes, found: Sequence[int]) -> bytes:
    every = b" ALL " + _set(found) if found else b""
    return b'* ESEARCH (TAG "%s") UID' % tag + every + b"\r\n"


@dataclass
class Ahead(Inbox):
    """It answers to one search with `trouble`, and rightly after that. It counts no unread mails:
    nothing else shows what is left out."""

    trouble: str = ""

    def _status(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        counts = b"(MESSAGES %d UIDNEXT 7 UIDVALIDITY 7)" % len(self.mails)
        talk.send(b"* STATUS INBOX " + counts + b"\r\n")
        talk.ok(tag)

    def _search(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        trouble, self.trouble = self.trouble, ""
        if trouble == "refused":
            talk.send(tag + b" NO [INUSE] index is being written\r\n")
        elif trouble == "cut":
            talk.send(esearch(tag, [*NEW][1:]))
            talk.ok(tag, b"[MESSAGELIMIT 1 %d] done" % NEW[1])
        elif trouble == "stray":
            talk.send(esearch(b"X1", range(1, 7)))
            super()._search(talk, tag, rest)
        else:
            super()._search(talk, tag, rest)


@pytest.mark.promise("M9")
@pytest.mark.parametrize("trouble", ["refused", "cut", "stray"])
@pytest.mark.parametrize("ahead", [True, False])
def test_a_search_that_goes_wrong_hides_no_mail_and_takes_no_other(
    ahead: bool, trouble: str
) -> None:
    inbox = Ahead(esearch)
    with ScriptedServer(inbox.script) as server, opened(connection_to(server.port)) as mailbox:
        cursor = dict(mailbox.open("").cursor)
        assert isinstance(mailbox, AskingAhead)
        inbox.trouble = trouble
        if ahead:
            mailbox.listing_is_next(Selection.UNREAD, None, cursor, count_known=False)
            mailbox.open("")
        if trouble == "refused" and not ahead:
            with pytest.raises(StepFailed):
                mailbox.list_new(KnownKeys(), Selection.UNREAD, cursor=cursor)
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD, cursor=cursor)
    assert [ref.key for ref in listing.new] == [*NEW]


@pytest.mark.promise("M9")
def test_what_was_asked_ahead_answers_no_other_question() -> None:
    """The choice of mails was changed in between: those that people read are asked for now."""
    with (
        ScriptedServer(Inbox(esearch).script) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        cursor = dict(mailbox.open("").cursor)
        assert isinstance(mailbox, AskingAhead)
        mailbox.listing_is_next(Selection.UNREAD, None, cursor, count_known=False)
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.ALL, cursor=cursor)
    assert [ref.key for ref in listing.new] == [1, 2, 3, 4, 5, 6]


@pytest.mark.promise("M9", "M17")
@pytest.mark.parametrize("form", FORMS)
def test_nor_does_what_is_asked_ahead_with_a_date_hide_a_mail(form: str) -> None:
    """Which of the answers is to which search is not said."""
    since = datetime(2026, 11, 1, tzinfo=UTC)
    with (
        ScriptedServer(Ahead(FORMS[form]).script) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        cursor = dict(mailbox.open("").cursor)
        assert isinstance(mailbox, AskingAhead)
        mailbox.listing_is_next(Selection.UNREAD, since, cursor, count_known=False)
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD, since=since, cursor=cursor)
    assert [ref.key for ref in listing.new] == [*NEW]
