"""Servers that cut long answers, each in its way: every mail is found all the same.

For an administrator: there is nothing to do, so that page, alerts and metrics say that all is well
(test_what_is_told.py). The transcript of a session notes what was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from datetime import UTC, datetime

import pytest

from shared.connections import AfterDownload, Selection
from shared.mailbox.base import MailRef
from shared.mailbox.failures import Unreachable
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import (
    Answer,
    Conversation,
    ScriptedServer,
    flags_response,
    imap,
    read_set,
)

UIDS = [3 * n for n in range(1, 1301)]
MAILS = {uid: b"Subject: %d\r\n\r\n" % uid for uid in UIDS}
READ = frozenset(UIDS[::7])


def matching(rest: bytes, uids: Sequence[int] = UIDS, read: Set[int] = READ) -> list[int]:
    """What a server would find: UID sets, sequence sets, UNSEEN."""
    found = list(uids)
    words = rest.upper().replace(b"RETURN (ALL)", b"").split()
    while words:
        word = words.pop(0)
        if word == b"UID":
            wanted = read_set(words.pop(0), uids[-1])
            found = [uid for uid in found if uid in wanted]
        elif word == b"UNSEEN":
            found = [uid for uid in found if uid not in read]
        elif re.fullmatch(rb"[\d:*,]+", word):
            wanted = {uids[n - 1] for n in read_set(word, len(uids))}
            found = [uid for uid in found if uid in wanted]
    return found


def shortened_line(found: list[int]) -> list[int]:
    kept: list[int] = []
    for uid in found:
        if len(b" ".join(b"%d" % one for one in [*kept, uid])) > 990:
            break
        kept.append(uid)
    return kept


CUTS: dict[str, Callable[[list[int]], list[int]]] = {
    "the first thousand": lambda found: found[:1000],
    "the last thousand": lambda found: found[-1000:],
    "a line of a thousand octets": shortened_line,
    "forty": lambda found: found[:40],
}


def cutting(
    cut: Callable[[list[int]], list[int]],
    code: bytes = b"",
    mails: dict[int, bytes] = MAILS,
    read: Set[int] = READ,
    *,
    status: bytes = b"OK",
    counts_unread: bool = True,
) -> ScriptedServer:
    """`status` is that of an answer that is cut; STATUS gives UNSEEN if the server `counts_unread`
    (it may leave it out, and some give a number of another moment)."""

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        found = matching(rest, list(mails), read)
        told = cut(found)
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in told) + b"\r\n")
        whole = len(told) == len(found)
        talk.send(tag + (b" OK done\r\n" if whole else b" " + status + b" " + code + b" done\r\n"))

    def flags(talk: Conversation, tag: bytes, rest: bytes) -> None:
        uids = list(mails)
        for number in sorted(read_set(rest.split(b" ")[0], len(uids))):
            uid = uids[number - 1]
            talk.send(flags_response(number, uid, seen=uid in read))
        talk.ok(tag)

    answers: dict[str, Answer] = {"UID SEARCH": search, "FETCH": flags}
    unseen = b" UNSEEN %d" % len(mails.keys() - read) if counts_unread else b""
    answers["STATUS"] = b"* STATUS INBOX (MESSAGES %d UIDNEXT %d UIDVALIDITY 7%s)\r\n" % (
        len(mails),
        max(mails) + 1,
        unseen,
    )
    return ScriptedServer(imap(answers, mails=mails))


@pytest.mark.promise("M9")
@pytest.mark.parametrize("cut", CUTS, ids=CUTS)
def test_every_mail_is_listed_where_searches_are_cut(cut: str) -> None:
    with cutting(CUTS[cut]) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.ALL)
        assert [ref.key for ref in listing.new] == UIDS
        assert listing.listed == UIDS, "else what is left out would be forgotten"
        assert mailbox.keys() == UIDS


@pytest.mark.promise("M9")
@pytest.mark.parametrize("cut", CUTS, ids=CUTS)
def test_every_unread_mail_is_listed_where_searches_are_cut(cut: str) -> None:
    with cutting(CUTS[cut]) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD)
        assert [ref.key for ref in listing.new] == [uid for uid in UIDS if uid not in READ]
        since = {"uid_validity": 7, "highest": 29, "messages": 9}
        had = KnownKeys(uid for uid in UIDS if uid < 30)
        later = mailbox.list_new(had, Selection.ALL, cursor=since)
        assert [ref.key for ref in later.new] == [uid for uid in UIDS if uid >= 30]


@pytest.mark.promise("M9", "M17")
@pytest.mark.parametrize("cut", CUTS, ids=CUTS)
def test_no_mail_is_taken_for_an_old_one_where_searches_are_cut(cut: str) -> None:
    with cutting(CUTS[cut]) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        since = datetime(2026, 11, 1, tzinfo=UTC)
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD, since=since)
        assert [ref.key for ref in listing.new] == [uid for uid in UIDS if uid not in READ]


@pytest.mark.promise("M9")
def test_a_limit_that_the_server_tells_of_is_gone_beyond_at_any_number() -> None:
    """MESSAGELIMIT (RFC 9738): the highest UIDs come first."""
    server = cutting(lambda found: found[-30:], b"[MESSAGELIMIT 30 %d]" % UIDS[-30])
    with server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD)
    assert [ref.key for ref in listing.new] == [uid for uid in UIDS if uid not in READ]


@pytest.mark.promise("M9")
@pytest.mark.parametrize("limited", ["a long answer", "told with OK", "told with NO"])
def test_what_no_count_promises_is_found_where_searches_are_cut(limited: str) -> None:
    code, status = b"[MESSAGELIMIT 30 9]", b"NO" if limited == "told with NO" else b"OK"
    server = (
        cutting(lambda found: found[:100], counts_unread=False)
        if limited == "a long answer"
        else cutting(lambda found: found[-30:], code, status=status, counts_unread=False)
    )
    with server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD)
    assert [ref.key for ref in listing.new] == [uid for uid in UIDS if uid not in READ]


@pytest.mark.promise("M9")
def test_what_came_while_others_went_is_found_where_searches_are_cut() -> None:
    """Then the counts promise less than there is."""
    with cutting(lambda found: found[:300]) as server, opened(connection_to(server.port)) as there:
        there.open("")
        since = {"uid_validity": 7, "highest": 3, "messages": len(UIDS) - 200}
        listing = there.list_new(KnownKeys(UIDS[:1]), Selection.ALL, cursor=since)
    assert [ref.key for ref in listing.new] == UIDS[1:]


@pytest.mark.promise("M7")
@pytest.mark.parametrize("few", [1, 3, 40])
def test_no_mail_of_others_is_removed_where_searches_are_cut(few: int) -> None:
    """A server without UIDPLUS removes all that is flagged: ours, and one that a person flagged."""
    ours, flagged = UIDS[:3], {*UIDS[:3], UIDS[50]}

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        chosen = sorted(flagged) if b" DELETED" in b" " + rest else UIDS
        found = matching(rest.replace(b"DELETED", b""), chosen)[:few]
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in found) + b"\r\n")
        talk.ok(tag)

    script = imap({"UID SEARCH": search}, mails=MAILS, capability=b"IMAP4rev1")
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        refs = [MailRef(uid, 10) for uid in ours]
        assert mailbox.settle(refs, AfterDownload.DELETE) == []
        said = [line.partition(b" ")[2] for line in server.heard]
    assert b"EXPUNGE" not in said


@pytest.mark.promise("M7")
def test_what_is_still_there_is_not_taken_for_deleted_where_searches_are_cut() -> None:
    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        found = matching(rest)[:2]
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in found) + b"\r\n")
        talk.ok(tag)

    script = imap({"UID SEARCH": search, "UID EXPUNGE": b""}, mails=MAILS)
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        with pytest.raises(Unreachable) as caught:
            mailbox.settle([MailRef(uid, 10) for uid in UIDS[:10]], AfterDownload.DELETE)
    assert caught.value.code == "not-deleted"


@pytest.mark.promise("M7")
def test_what_a_limited_store_left_out_is_not_taken_for_settled() -> None:
    def store(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.ok(tag, b"[MESSAGELIMIT 1000 %d] done" % UIDS[300])

    script = imap({"UID STORE": store, "UID SEARCH": b"* SEARCH 3 6\r\n"}, mails=MAILS)
    refs = [MailRef(uid, 10) for uid in UIDS[:10]]
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        settled = mailbox.settle(refs, AfterDownload.MARK_READ)
    assert [ref.key for ref in settled] == UIDS[2:10]


def send_headers(talk: Conversation, tag: bytes, asked: list[int]) -> None:
    """Of the first twenty, as if these were all."""
    for uid in asked[:20]:
        block = MAILS[uid]
        talk.send(b"* 1 FETCH (UID %d BODY[HEADER]<0> {%d}\r\n%s)\r\n" % (uid, len(block), block))
    talk.ok(tag)


@pytest.mark.promise("I9")
def test_headers_that_were_left_out_are_asked_for_again() -> None:
    """Else known mails of a folder made anew would come as new ones."""

    def headers(talk: Conversation, tag: bytes, rest: bytes) -> None:
        send_headers(talk, tag, sorted(read_set(rest.split(b" ")[0], UIDS[-1]) & MAILS.keys()))

    refs = [MailRef(uid, 10) for uid in UIDS[:50]]
    script = imap({"HEADERS": headers}, mails=MAILS)
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        found = [ref.key for ref, _ in mailbox.headers(refs)]
    assert sorted(found) == UIDS[:50]


@pytest.mark.promise("I9", "M27")
def test_headers_that_were_left_out_and_are_throttled_then_are_waited_for() -> None:
    """Else known mails of a folder made anew would come as new ones."""

    def headers(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked = sorted(read_set(rest.split(b" ")[0], UIDS[-1]) & MAILS.keys())
        if len(asked) == 1:
            talk.send(tag + b" NO [OVERQUOTA] Account exceeded command or bandwidth limits.\r\n")
            return
        send_headers(talk, tag, asked)

    refs = [MailRef(uid, 10) for uid in UIDS[:50]]
    script = imap({"HEADERS": headers}, mails=MAILS)
    with ScriptedServer(script) as server, opened(connection_to(server.port)) as mailbox:
        mailbox.open("")
        with pytest.raises(Unreachable, match="bandwidth limits"):
            list(mailbox.headers(refs))


def test_a_search_that_tells_of_its_progress_is_waited_for() -> None:
    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for _ in range(12):
            talk._stopping.wait(0.1)
            talk.send(b"* OK still searching\r\n")
        talk.send(b"* SEARCH 3 6\r\n")
        talk.ok(tag)

    script = imap({"UID SEARCH": search}, mails={3: MAILS[3], 6: MAILS[6]})
    with (
        ScriptedServer(script) as server,
        opened(connection_to(server.port), read_timeout_s=0.2) as mailbox,
    ):
        mailbox.open("")
        listing = mailbox.list_new(KnownKeys(), Selection.UNREAD)
    assert [ref.key for ref in listing.new] == [3, 6]
