"""IMAP servers that do not do what they are told after a download: nothing is believed that cannot
be seen, and nothing of others is removed.

For an administrator: as in test_unusual_imap.py.
"""

from __future__ import annotations

import pytest

from shared.connections import AfterDownload
from shared.mailbox.base import MailRef
from shared.mailbox.failures import Refused, StepFailed, Unreachable
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import MAILS, Answer, Conversation, ScriptedServer, imap

REFS = [MailRef(uid, len(raw)) for uid, raw in MAILS.items()]
GMAIL = b"IMAP4rev1 UIDPLUS MOVE X-GM-EXT-1 UNSELECT"
TRASH = b'* LIST (\\Trash) "/" "[Gmail]/Trash"\r\n'


@pytest.mark.promise("M7")
def test_without_uidplus_a_mail_that_is_flagged_during_the_look_is_kept() -> None:
    """Whether others flagged mails is looked at beyond what the server may cut, which takes
    several searches; the last one is right before the EXPUNGE."""
    looks: list[bytes] = []

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        looks.append(rest)
        flagged = rest == b"DELETED"
        found = b" 1 2 3" if flagged or not rest.endswith(b"DELETED") else b""
        strangers = b" 9" if flagged and looks.count(b"DELETED") > 1 else b""
        talk.send(b"* SEARCH" + found + strangers + b"\r\n")
        talk.ok(tag)

    script = imap({"UID SEARCH": search}, capability=b"IMAP4rev1")
    with ScriptedServer(script) as server:
        with opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            assert mailbox.settle(REFS, AfterDownload.DELETE) == []
        assert looks.count(b"DELETED") == 2
        assert not [line for line in server.heard if line.endswith(b" EXPUNGE")]


@pytest.mark.promise("M7")
@pytest.mark.parametrize("words", [b"NO [OVERQUOTA] the trash is full", b"OK done"])
def test_what_gmail_did_not_move_is_not_taken_for_deleted(words: bytes) -> None:
    def move(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" " + words + b"\r\n")

    answers: dict[str, Answer] = {"LIST": TRASH, "UID MOVE": move, "UID SEARCH": b"* SEARCH 2\r\n"}
    with (
        ScriptedServer(imap(answers, capability=GMAIL)) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        settled = mailbox.settle(REFS, AfterDownload.DELETE)
        assert [ref.key for ref in settled] == [1, 3]
        with pytest.raises(StepFailed):
            mailbox.settle(REFS[1:2], AfterDownload.DELETE)


@pytest.mark.promise("M7")
@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (b"NO [NOPERM] not for you", Refused, "read-only"),
        (b"NO [SERVERBUG] internal error", Unreachable, "server-refused"),
        # Gmail's word for its limits of a day, which pass; of others it is a full mailbox.
        (
            b"NO [OVERQUOTA] Account exceeded command or bandwidth limits.",
            Unreachable,
            "throttled",
        ),
        (b"NO [OVERQUOTA] no room", Refused, "read-only"),
    ],
)
def test_a_server_that_marks_no_mail_is_told_of(
    words: bytes, kind: type[StepFailed], code: str
) -> None:
    """They would stay unread for ever, and the connection green."""

    def store(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" " + words + b"\r\n")

    with (
        ScriptedServer(imap({"UID STORE": store})) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        with pytest.raises(kind) as caught:
            mailbox.settle(REFS, AfterDownload.MARK_READ)
    assert (caught.value.code, caught.value.step) == (code, "settle")
