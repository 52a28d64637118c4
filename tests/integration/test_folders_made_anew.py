"""A folder that somebody re-creates at the worst moment, or that does not close as it was opened:
nothing in it is read, marked or removed for what another one was asked.

For an administrator: the run fails with `uid-validity-changed` and is tried again by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from shared.connections import AfterDownload, Selection
from shared.mailbox.base import AskingAhead, MailRef
from shared.mailbox.failures import StepFailed
from shared.mailbox.push import Pushing
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import MAILS, Conversation, ScriptedServer, imap

REFS = [MailRef(uid, len(raw)) for uid, raw in MAILS.items()]


@dataclass
class Inbox:
    """`validity` is what it says now; another one from the answer to `changes_after` on."""

    changes_after: str = ""
    refuses_select: bool = False
    finds: bytes = b" 1 2 3"
    validity: int = 7
    said: list[str] = field(default_factory=list)

    def script(self, talk: Conversation) -> None:
        imap(
            {
                "STATUS": self._status,
                "EXAMINE": self._examine,
                "SELECT": self._select,
                "UID SEARCH": self._search,
            }
        )(talk)

    def _answered(self, name: str) -> None:
        self.said.append(name)
        if name == self.changes_after:
            self.validity = 8

    def _status(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        counts = b"(MESSAGES 3 UIDNEXT 4 UIDVALIDITY %d UNSEEN 3)" % self.validity
        talk.send(b"* STATUS INBOX " + counts + b"\r\n")
        self._answered("STATUS")
        talk.ok(tag)

    def _examine(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* 3 EXISTS\r\n* OK [UIDVALIDITY %d] ok\r\n" % self.validity)
        self._answered("EXAMINE")
        talk.ok(tag, b"[READ-ONLY] done")

    def _select(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        self._answered("SELECT")
        talk.send(tag + b" NO [NOPERM] not for you\r\n" if self.refuses_select else b"")
        if not self.refuses_select:
            talk.ok(tag, b"[READ-WRITE] done")

    def _search(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* SEARCH" + self.finds + b"\r\n")
        self._answered("UID SEARCH")
        talk.ok(tag)


def made_anew(inbox: Inbox, *, settles: bool = False) -> list[bytes]:
    """What was said up to the error that tells of it."""
    with ScriptedServer(inbox.script) as server:
        with opened(connection_to(server.port)) as mailbox:
            with pytest.raises(StepFailed) as caught:
                mailbox.open("")
                mailbox.list_new(KnownKeys(), Selection.UNREAD)
                if settles:
                    mailbox.settle(REFS, AfterDownload.DELETE)
            assert caught.value.code == "uid-validity-changed"
            assert not mailbox.is_alive(), "its numbers mean other mails now"
        return list(server.heard)


@pytest.mark.promise("I9", "M7")
def test_as_it_is_opened() -> None:
    said = made_anew(Inbox(changes_after="STATUS"))
    assert not [line for line in said if b"SEARCH" in line]


@pytest.mark.promise("I9", "M7")
def test_during_a_look() -> None:
    """A search finds nothing where mails are counted, so both are asked once more."""
    inbox = Inbox(changes_after="UID SEARCH", finds=b"")
    said = made_anew(inbox)
    assert inbox.said.count("EXAMINE") == 2
    assert not [line for line in said if b" FETCH " in line]


@pytest.mark.promise("I9", "M7")
def test_as_it_may_not_be_changed() -> None:
    inbox = Inbox(changes_after="SELECT", refuses_select=True)
    said = made_anew(inbox, settles=True)
    assert not [line for line in said if b"STORE" in line or b"EXPUNGE" in line]


@pytest.mark.promise("M7")
@pytest.mark.parametrize("access", [b"[READ-WRITE] done", b"done"])
def test_a_folder_that_stays_open_for_changes_is_not_closed(access: bytes) -> None:
    """CLOSE would remove what somebody else flagged deleted (RFC 9051 section 6.4.1): EXAMINE goes
    before it, and its answer has to say that the folder is open to be looked at."""

    def examine(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n")
        talk.ok(tag, access)

    with ScriptedServer(imap({"EXAMINE": examine}, capability=b"IMAP4rev1 UIDPLUS")) as server:
        with opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            refs = mailbox.list_new(KnownKeys(), Selection.UNREAD).new
            mailbox.settle(refs, AfterDownload.MARK_READ)
            assert mailbox.changed_since("", None) is not None
        said = [line.split(b" ")[1] for line in server.heard if line]
    assert said.count(b"EXAMINE") == 2
    assert b"CLOSE" not in said


def test_what_was_asked_ahead_of_another_folder_is_no_answer_about_this_one() -> None:
    """A session would wait in that one, and hear of no mail in this one."""
    folders = b'* LIST () "/" INBOX\r\n* LIST () "/" Other\r\n'
    capability = b"IMAP4rev1 UNSELECT IDLE"
    with (
        ScriptedServer(imap({"LIST": folders}, capability=capability)) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        assert isinstance(mailbox, AskingAhead)
        assert isinstance(mailbox, Pushing)
        mailbox.waiting_is_next("Other")
        mailbox.wait_for_push("", None)
        opened_ones = [line.split(b" ")[2] for line in server.heard if b" EXAMINE " in line]
    assert opened_ones == [b'"INBOX"', b'"Other"', b'"INBOX"']
