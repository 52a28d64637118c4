"""How IMAP servers describe mails, dates and folders: nothing that they leave out, tell twice or
refuse strands a mail, or takes one of before the start.

For an administrator: as in test_unusual_imap.py.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from shared.connections import Selection
from shared.mailbox.failures import SessionLost, StepFailed
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.integration.test_unusual_imap import listed
from tests.servers.scripted import MAILS, Answer, Conversation, ScriptedServer, imap

LINE = b'* %d FETCH (UID %d RFC822.SIZE %d INTERNALDATE "%s" FLAGS ())\r\n'


def test_what_is_told_of_a_mail_again_takes_nothing_away() -> None:
    """A flag that somebody sets meanwhile is told without size and date: without these a mail of
    before the start would be taken."""
    answer = b"".join(
        LINE % (uid, uid, 10 * uid, b"22-Nov-2026 10:00:00 +0000") for uid in MAILS
    ) + (b"* 2 FETCH (UID 2 FLAGS (\\Flagged))\r\n")
    for ref in listed(imap({"METADATA": answer}), Selection.ALL).new:
        assert (ref.size, ref.arrived) == (
            10 * int(ref.key),
            datetime(2026, 11, 22, 10, tzinfo=UTC),
        )


def test_mails_that_the_server_does_not_describe_are_told_of() -> None:
    """Where a search finds them no more, either, nothing would show that they never came."""

    def refuse(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" NO [SERVERBUG] index is damaged\r\n")

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* SEARCH\r\n" if rest.startswith(b"UID ") else b"* SEARCH 1 2 3\r\n")
        talk.ok(tag)

    answers: dict[str, Answer] = {"METADATA": refuse, "UID SEARCH": search}
    with pytest.raises(StepFailed) as caught:
        listed(imap(answers))
    assert (caught.value.code, caught.value.step) == ("server-refused", "list")


@pytest.mark.promise("M17")
@pytest.mark.parametrize(
    ("arrived", "searched_as", "comes"),
    [
        # The day of a server with a clock of its own is the day before the start still.
        (b"22-Nov-2026 20:00:00 -0500", datetime(2026, 11, 22, tzinfo=UTC), True),
        (b"23-Nov-2026 00:29:59 +0000", datetime(2026, 11, 23, tzinfo=UTC), False),
        (b"23-Nov-2026 00:30:00 +0000", datetime(2026, 11, 23, tzinfo=UTC), True),
        # It does not tell the date.
        (b"", datetime(2026, 11, 23, tzinfo=UTC), True),
    ],
)
def test_a_start_is_a_moment_whatever_day_the_server_has(
    arrived: bytes, searched_as: datetime, comes: bool
) -> None:
    start = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        since = re.search(rb"SINCE (\S+)", rest)
        day = datetime.strptime(since[1].decode(), "%d-%b-%Y") if since else None
        found = day is None or day.replace(tzinfo=UTC) <= searched_as
        talk.send(b"* SEARCH 1\r\n" if found else b"* SEARCH\r\n")
        talk.ok(tag)

    told = LINE % (1, 1, 30, arrived) if arrived else b"* 1 FETCH (UID 1 RFC822.SIZE 30)\r\n"
    answers: dict[str, Answer] = {"METADATA": told, "UID SEARCH": search}
    with (
        ScriptedServer(imap(answers, mails={1: MAILS[1]})) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD, since=start)
    assert [ref.key for ref in listing.new] == [1] * comes


@pytest.mark.promise("I9")
@pytest.mark.parametrize(
    "told", [b"MESSAGES 3 UIDNEXT 4 UNSEEN 3", b"UIDVALIDITY 7 UIDNEXT 4", b"UIDVALIDITY 0"]
)
def test_a_status_without_what_was_asked_for_is_none(told: bytes) -> None:
    """Under no UIDVALIDITY every mail would be another one, and come once more."""
    status = b"* STATUS INBOX (" + told + b")\r\n"
    with pytest.raises(SessionLost) as caught:
        listed(imap({"STATUS": status}))
    assert caught.value.code == "protocol-error"


COUNTS = {"MESSAGES": 3, "UIDNEXT": 4, "UIDVALIDITY": 7, "UNSEEN": 3, "HIGHESTMODSEQ": 12}


@pytest.mark.promise("M9")
@pytest.mark.parametrize("changed", COUNTS)
def test_any_number_that_changed_is_a_change(changed: str) -> None:
    """One mail comes as another one goes, or is set unread as another one is read."""
    counts = dict(COUNTS)
    if changed != "HIGHESTMODSEQ":
        del counts["HIGHESTMODSEQ"]

    def status(talk: Conversation, tag: bytes, rest: bytes) -> None:
        told = " ".join(f"{name} {number}" for name, number in counts.items())
        talk.send(f"* STATUS INBOX ({told})\r\n".encode())
        talk.ok(tag)

    capability = b"IMAP4rev1 UNSELECT CONDSTORE"
    with (
        ScriptedServer(imap({"STATUS": status}, capability=capability)) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        cursor = mailbox.list_new(KnownKeys(), Selection.UNREAD).cursor
        assert mailbox.changed_since("", cursor) is None
        counts[changed] += 1
        assert mailbox.changed_since("", cursor) is not None
