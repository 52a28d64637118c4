"""Where a look at an IMAP folder goes on, and what it is held to: no mail is passed over for what
an earlier look knew, or for what a search says beside the folder's counts.

For an administrator there is nothing to do: all comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from shared.connections import Selection
from shared.mailbox.base import Cursor, Mailbox
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.integration.test_left_out_mails import Inbox, listed, uids
from tests.rig.mails import mail
from tests.servers.scripted import Conversation, ScriptedServer

pytestmark = pytest.mark.promise("M9")
#: The server once counted two unread mails more than there were.
BEFORE = {"uid_validity": 7, "messages": 3, "unseen": 5, "highest": 3, "miscounted": 2}


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def mailbox(inbox: Inbox) -> Iterator[Mailbox]:
    with ScriptedServer(inbox.script) as server, opened(connection_to(server.port)) as mailbox:
        yield mailbox


@pytest.mark.parametrize(
    "cursor",
    [
        {**BEFORE, "uid_validity": 6},
        {**BEFORE, "uid_next": 11},
        # It is told by the UIDs that were given alone, where the server tells no next one.
        {**BEFORE, "highest": 10},
    ],
    ids=["another validity", "a lower next UID", "higher UIDs"],
)
def test_what_was_known_of_another_state_of_the_folder_says_nothing(
    cursor: Cursor, inbox: Inbox, mailbox: Mailbox
) -> None:
    """That it counts wrongly would hide mails that a search leaves out."""
    inbox.searched = lambda there: there[:1]
    inbox.named = lambda there: there
    assert uids(listed(mailbox, Selection.UNREAD, cursor=cursor)) == [1, 2, 3]


def test_the_next_uid_is_what_either_answer_says(inbox: Inbox) -> None:
    """STATUS does not tell it, EXAMINE does: the folder is an earlier state of itself."""

    def status(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* STATUS INBOX (MESSAGES 3 UIDVALIDITY 7 UNSEEN 3)\r\n")
        talk.ok(tag)

    inbox.searched = lambda there: there[:1]
    inbox._status = status  # type: ignore[method-assign]
    with ScriptedServer(inbox.script) as server, opened(connection_to(server.port)) as mailbox:
        found = listed(mailbox, Selection.UNREAD, cursor={**BEFORE, "highest": 10})
    assert uids(found) == [1, 2, 3]


def test_a_search_that_does_not_find_the_last_mail_is_not_believed(
    inbox: Inbox, mailbox: Mailbox
) -> None:
    """`*` stands for it, whatever its UID. One came as another one went, so no count shows it."""
    inbox.read.update(inbox.mails)
    first = listed(mailbox, Selection.ALL)
    del inbox.mails[1]
    inbox.mails[4] = mail(4, 300, seed=17)
    inbox.read.add(4)
    inbox.searched = lambda there: []
    assert uids(listed(mailbox, Selection.ALL, 1, 2, 3, cursor=first.cursor)) == [4]


@pytest.mark.promise("M17")
@pytest.mark.parametrize("selection", [Selection.ALL, Selection.UNREAD])
def test_a_search_that_leaves_mails_out_is_not_believed_about_their_dates(
    selection: Selection, inbox: Inbox, mailbox: Mailbox
) -> None:
    inbox.searched = lambda there: []
    mailbox.open("")
    since = datetime(2026, 11, 1, tzinfo=UTC)
    listing = mailbox.list_new(KnownKeys(), selection, since=since)
    assert uids(listing) == [1, 2, 3]


@pytest.mark.promise("M17")
def test_nor_are_those_taken_that_came_before_the_start(inbox: Inbox, mailbox: Mailbox) -> None:
    inbox.searched = lambda there: []
    mailbox.open("")
    listing = mailbox.list_new(
        KnownKeys(), Selection.UNREAD, since=datetime(2026, 11, 23, tzinfo=UTC)
    )
    assert uids(listing) == []


def test_mails_that_people_read_are_not_taken_as_a_search_leaves_others_out(
    inbox: Inbox, mailbox: Mailbox
) -> None:
    inbox.read.add(2)
    inbox.searched = lambda there: [uid for uid in there if uid == 1]
    inbox.counted_unread = 1
    assert uids(listed(mailbox, Selection.UNREAD)) == [1, 3]


def test_flags_that_are_cut_are_asked_for_in_smaller_pieces(inbox: Inbox, mailbox: Mailbox) -> None:
    inbox.mails |= {uid: mail(uid, 300, seed=17) for uid in range(4, 8)}
    inbox.searched = lambda there: []
    inbox.named = lambda there: there[:2]
    listing = listed(mailbox, Selection.UNREAD)
    assert uids(listing) == list(range(1, 8))
    assert listing.not_listed is None


def test_a_mail_that_came_during_a_look_hides_no_other(inbox: Inbox, mailbox: Mailbox) -> None:
    """Two come between the searches of a look, and two go after it, so that no count shows it."""
    inbox.read.update(inbox.mails)
    first = listed(mailbox, Selection.ALL)

    def look(there: list[int]) -> list[int]:
        """It is looked for what is above first, though unread mails were asked for before."""
        if inbox.asked[-1] != b"UID SEARCH UNSEEN":
            return [uid for uid in there if uid < 4]
        inbox.mails |= {uid: mail(uid, 300, seed=17) for uid in (4, 5)}
        inbox.read.add(4)
        return [5]

    inbox.searched = look
    second = listed(mailbox, Selection.ALL, 1, 2, 3, cursor=first.cursor)
    for uid in (1, 2):
        del inbox.mails[uid]
    inbox.read.add(5)
    inbox.searched = lambda there: there
    found = listed(mailbox, Selection.ALL, 1, 2, 3, *uids(second), cursor=second.cursor)
    assert {*uids(second), *uids(found)} == {4, 5}
    assert not re.search(rb"ALL", inbox.asked[-1])


def test_an_unread_mail_below_those_that_were_had_is_found_whatever_went(
    inbox: Inbox, mailbox: Mailbox
) -> None:
    """One comes under a UID that is not the highest, and another one goes: no count shows it."""
    inbox.mails.update({10: b"", 20: b"", 30: b""})
    inbox.read.update(inbox.mails)
    first = listed(mailbox, Selection.ALL)
    del inbox.mails[10]
    inbox.mails[25] = mail(1, 300, seed=17)
    had = [int(ref.key) for ref in first.new]
    assert uids(listed(mailbox, Selection.ALL, *had, cursor=first.cursor)) == [25]
