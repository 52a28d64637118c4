"""IMAP servers that are poorer or odder than most: listing, polls and settling all the same.

For an administrator: what is not settled here counts in a whole stack in
`posthouse_settlements_pending` (PosthouseSettlementsPending); a folder that cannot be searched or
written is a failure of its connection (its page, `connection-failing` alert,
`posthouse_fetch_runs_total`).
"""

from __future__ import annotations

import pytest

from shared.connections import AfterDownload, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import AskingAhead, Listing, MailRef
from shared.mailbox.failures import Refused, SessionLost, StepFailed, Unreachable
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import (
    CAPABILITY,
    MAILS,
    Conversation,
    Script,
    ScriptedServer,
    imap,
)

REFS = [MailRef(uid, len(raw)) for uid, raw in MAILS.items()]
ENTERPRISE = b"IMAP4rev1 UIDPLUS UNSELECT ESEARCH CONDSTORE"


def listed(script: Script, selection: Selection = Selection.UNREAD) -> Listing:
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        return mailbox.list_new(KnownKeys(), selection)


# ---- listing


def test_message_attributes_in_any_shape() -> None:
    answer = (
        b"* 1 FETCH (RFC822.SIZE 11 FLAGS (\\Recent) UID 1)\r\n"
        b'* 2 FETCH (UID 2 FLAGS (\\Answered \\SEEN) INTERNALDATE " 1-jan-2026 00:30:00 +0100" '
        b"RFC822.SIZE 22)\r\n"
        b"* 2 FETCH (FLAGS (\\Seen))\r\n"
        b'* 3 FETCH (UID 3 RFC822.SIZE 33 INTERNALDATE "not a date at all, no" FLAGS ())\r\n'
        b"* 9 FETCH (UID 99 RFC822.SIZE 1 FLAGS ())\r\n"
    )
    many = {**MAILS, 4: b"described in no way at all", 5: b"size as a literal"}
    answer += b"* 5 FETCH (UID 5 RFC822.SIZE {2}\r\n55 FLAGS ())\r\n"
    listing = listed(imap({"METADATA": answer}, mails=many), Selection.ALL)
    assert [(ref.key, ref.size, ref.seen) for ref in listing.new] == [
        (1, 11, False),
        (2, 22, True),
        (3, 33, False),
        (4, 0, None),
        (5, 0, False),
    ]
    assert listing.new[0].arrived is None
    assert str(listing.new[1].arrived) == "2025-12-31 23:30:00+00:00"
    assert listing.new[2].arrived is None


@pytest.mark.promise("M9")
def test_what_labels_say_is_not_said_of_their_mail() -> None:
    """A user may call a label like an item: its mail was taken for another one, or for a read one,
    and never came."""
    labels = [b"a UID 3 b", b"a RFC822.SIZE 99 b", b"a FLAGS (\\\\Seen) b"]
    answer = b"".join(
        b'* %d FETCH (X-GM-MSGID 7%d X-GM-LABELS ("%s" \\Important) '
        b"UID %d RFC822.SIZE %d FLAGS ())\r\n" % (uid, uid, label, uid, 10 * uid)
        for uid, label in enumerate(labels, 1)
    )
    listing = listed(imap({"METADATA": answer}, capability=CAPABILITY + b" X-GM-EXT-1"))
    assert [(ref.key, ref.size, ref.seen) for ref in listing.new] == [
        (1, 10, False),
        (2, 20, False),
        (3, 30, False),
    ]


def test_a_search_result_of_any_length() -> None:
    uids = range(1, 200_001)
    line = b"* SEARCH " + b" ".join(b"%d" % uid for uid in uids) + b"\r\n"
    with (
        ScriptedServer(imap({"UID SEARCH": line})) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD, limit=0)
    assert listing.new_count == 200_000


def test_no_mail_has_the_uid_0() -> None:
    """Found by a search, it came into quarantine, and mails stayed to be deleted beside it."""
    answer = b"* SEARCH 0 %b\r\n" % b" ".join(b"%d" % uid for uid in MAILS)
    listing = listed(imap({"UID SEARCH": answer}, capability=b"IMAP4rev1"))
    assert [ref.key for ref in listing.new] == [*MAILS]


@pytest.mark.parametrize(
    ("capability", "line"),
    [
        (ENTERPRISE, b'* ESEARCH (TAG "?") UID ALL 1:4294967295\r\n'),
        (ENTERPRISE, b'* ESEARCH (TAG "?") UID ALL 0:5\r\n'),
        (b"IMAP4rev1", b"* SEARCH one two\r\n"),
    ],
)
def test_a_search_result_that_is_none(capability: bytes, line: bytes) -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(line.replace(b"?", tag))
        talk.ok(tag)

    with pytest.raises(SessionLost) as caught:
        listed(imap({"UID SEARCH": answer}, capability=capability))
    assert (caught.value.code, caught.value.step) == ("protocol-error", "list")


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (b"BAD User is authenticated but not connected.", "authenticated-not-connected", Refused),
        (b"NO [UNAVAILABLE] the index is being rebuilt", "server-refused", Unreachable),
        (b"NO [NOPERM] no", "no-right", Refused),
        (b"NO Permission denied", "no-right", Refused),
    ],
)
def test_a_server_that_refuses_to_search(words: bytes, code: str, kind: type[StepFailed]) -> None:
    def answer(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" " + words + b"\r\n")

    with pytest.raises(kind) as caught:
        listed(imap({"UID SEARCH": answer}))
    assert caught.value.code == code


# ---- polls


def test_an_idle_poll_asks_for_nothing_but_the_status() -> None:
    with ScriptedServer(imap()) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        cursor = mailbox.list_new(KnownKeys(), Selection.UNREAD).cursor
        before = len(server.heard)
        for _ in range(3):
            assert mailbox.changed_since("", cursor) is None
        said = [line.split(b" ")[1] for line in server.heard[before:]]
    assert said == [b"UNSELECT", b"STATUS", b"STATUS", b"STATUS"]


def test_equal_counts_are_not_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CONDSTORE one mail may have been read and another set unread."""
    import time

    for capability, hidden in ((b"IMAP4rev1", True), (b"IMAP4rev1 CONDSTORE", False)):
        status = b"* STATUS INBOX (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 7 UNSEEN 3 %s)\r\n"
        modseq = b"HIGHESTMODSEQ 12" if not hidden else b""
        script = imap({"STATUS": status % modseq}, capability=capability)
        with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            cursor = mailbox.list_new(KnownKeys(), Selection.UNREAD).cursor
            assert mailbox.changed_since("", cursor) is None
            now = time.time()
            monkeypatch.setattr(time, "time", lambda now=now: now + 601)
            assert (mailbox.changed_since("", cursor) is not None) == hidden
            monkeypatch.undo()


def test_without_unselect_a_folder_is_left_without_expunging() -> None:
    with ScriptedServer(imap(capability=b"IMAP4rev1 UIDPLUS")) as server:
        with opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            refs = mailbox.list_new(KnownKeys(), Selection.UNREAD).new
            mailbox.settle(refs, AfterDownload.MARK_READ)
            mailbox.changed_since("", None)
        said = [line.split(b" ")[1] for line in server.heard if line]
    assert said[said.index(b"CLOSE") - 1] == b"EXAMINE"  # read-only: CLOSE expunges nothing then
    assert b"EXPUNGE" not in said


@pytest.mark.parametrize("asked", ["as it settles", "before", "before, and more"])
def test_a_folder_that_is_re_created_in_between_is_not_touched(asked: str) -> None:
    def reborn(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* 3 EXISTS\r\n* OK [UIDVALIDITY 8] new\r\n* OK [READ-WRITE] ok\r\n")
        talk.ok(tag)

    with ScriptedServer(imap({"SELECT": reborn})) as server:
        with opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            assert isinstance(mailbox, AskingAhead)
            with pytest.raises(Unreachable) as caught:
                if asked != "as it settles":
                    mailbox.settling_is_next()
                if asked == "before, and more":
                    mailbox.keys()
                mailbox.settle(REFS, AfterDownload.DELETE)
        assert caught.value.code == "uid-validity-changed"
        assert not any(b"STORE" in line or b"EXPUNGE" in line for line in server.heard)


# ---- settling


@pytest.mark.promise("M7")
@pytest.mark.parametrize(("flagged", "expunged"), [(b"1 2 3", True), (b"1 2 3 9", False)])
def test_without_uidplus_nothing_is_expunged_while_others_flag_mails(
    flagged: bytes, expunged: bool
) -> None:
    """Then ours are flagged and count as not settled."""
    there = [flagged]

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* SEARCH " + there[0] + b"\r\n")
        talk.ok(tag)

    def expunge(talk: Conversation, tag: bytes, rest: bytes) -> None:
        there[0] = b""
        talk.ok(tag)

    script = imap({"UID SEARCH": search, "EXPUNGE": expunge}, capability=b"IMAP4rev1")
    with ScriptedServer(script) as server:
        with opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            assert mailbox.settle(REFS, AfterDownload.DELETE) == (REFS if expunged else [])
            assert not mailbox.capabilities.exact_delete
        said = [line.split(b" ", 1)[1] for line in server.heard if line]
    assert b"UID STORE 1:3 +FLAGS.SILENT (\\Deleted)" in said
    assert (b"EXPUNGE" in said) == expunged


@pytest.mark.promise("M7")
def test_what_the_server_did_not_mark_is_not_taken_for_settled() -> None:
    def store(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(tag + b" NO some of the messages no longer exist\r\n")

    script = imap({"UID STORE": store, "UID SEARCH": b"* SEARCH 2\r\n"})
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        settled = mailbox.settle(REFS, AfterDownload.MARK_READ)
    assert [ref.key for ref in settled] == [1, 3]


@pytest.mark.promise("M7")
def test_what_the_server_only_says_it_deleted_is_not_taken_for_settled() -> None:
    script = imap({"UID SEARCH": b"* SEARCH 2\r\n"}, capability=b"IMAP4rev1 UIDPLUS")
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        settled = mailbox.settle(REFS, AfterDownload.DELETE)
        assert [ref.key for ref in settled] == [1, 3]
        with pytest.raises(Unreachable) as caught:
            mailbox.settle(REFS[1:2], AfterDownload.DELETE)
    assert caught.value.code == "not-deleted"


@pytest.mark.promise("M7")
def test_a_read_only_folder_needs_a_person() -> None:
    select = b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [READ-ONLY] no rights\r\n"
    with (
        ScriptedServer(imap({"SELECT": select})) as server,
        opened(connection_to(server.port)) as mailbox,
    ):
        mailbox.open("")
        with pytest.raises(PosthouseError) as caught:
            mailbox.settle(REFS, AfterDownload.MARK_READ)
    assert (caught.value.code, caught.value.step) == ("read-only", "settle")  # type: ignore[attr-defined]


@pytest.mark.promise("M7")
def test_on_gmail_deleted_mails_move_to_the_trash() -> None:
    listing = (
        b'* LIST (\\HasNoChildren) "/" INBOX\r\n'
        b'* LIST (\\HasNoChildren \\Trash) "/" "[Google Mail]/Papierkorb"\r\n'
    )
    script = imap({"LIST": listing}, capability=b"IMAP4rev1 UIDPLUS MOVE X-GM-EXT-1 UNSELECT")
    with ScriptedServer(script) as server:
        with opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            assert mailbox.settle(REFS, AfterDownload.DELETE) == REFS
        said = [line.split(b" ", 1)[1] for line in server.heard if line]
    assert b'UID MOVE 1:3 "[Google Mail]/Papierkorb"' in said
    assert not any(b"STORE" in line or b"EXPUNGE" in line for line in said)


def test_commands_stay_short_enough_for_exchange() -> None:
    """Exchange refuses commands of more than 10,240 octets."""
    uids = range(1, 20_001, 2)  # no ranges possible
    mails = dict.fromkeys(uids, b"x")
    with ScriptedServer(imap(mails=mails)) as server:
        with opened(connection_to(server.port)) as mailbox:
            mailbox.open("")
            listing = mailbox.list_new(KnownKeys(), Selection.UNREAD)
            mailbox.download(listing.new, Collector(), limit=1000)
            assert len(mailbox.settle(listing.new, AfterDownload.DELETE)) == 10_000
        assert max(map(len, server.heard)) < 8_000
