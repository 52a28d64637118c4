"""Whatever a mail server says, and however its packets are cut: octets whole, or a named error."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.connections import AfterDownload, Connection, Mode, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import MailRef
from shared.mailbox.failures import SessionLost
from shared.mailbox.imap.download import fetch_bodies
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.imap.session import (
    ImapSession,
)
from shared.mailbox.net.stream import Stream
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.pop3.mailbox import Pop3Mailbox
from shared.mailbox.pop3.session import Pop3Session
from shared.mailbox.pop3.text import read_text
from tests.contract.recorders import Collector, KnownKeys


def wire_of(octets: bytes, cuts: list[int]) -> Stream:
    """A stream that receives `octets` in pieces of these sizes, and then the end."""
    here, there = socket.socketpair()

    def feed() -> None:
        at = 0
        with there:
            for cut in [*cuts, len(octets)]:
                if at < len(octets):
                    there.sendall(octets[at : at + cut])
                at += cut
            there.shutdown(socket.SHUT_WR)
            while there.recv(4096):
                pass

    threading.Thread(target=feed, daemon=True).start()
    return Stream(here, Transcript(), 10)


TEXTS = st.lists(
    st.sampled_from([b".", b"..", b"\r\n", b"\n", b"\r", b"a", b"\r\n.", b".\r\n", b"\0\xff"]),
    max_size=30,
).map(lambda parts: b"".join(parts) + b"\r\n")


CUTS = st.lists(st.integers(1, 9), max_size=25)


@settings(max_examples=80, deadline=None)
@given(TEXTS, CUTS)
def test_dots_are_taken_away_wherever_packets_are_cut(text: bytes, cuts: list[int]) -> None:
    sent = (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    stream = wire_of(sent + b"+OK next\r\n", cuts)
    found = bytearray()
    read_text(stream, found.extend)
    assert bytes(found) == text
    assert stream.line() == b"+OK next"
    stream.close()


ITEMS = {
    "plain": b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)\r\n",
    "behind": b'* %d FETCH (FLAGS (\\Seen "x)") UID %d MODSEQ (1) BODY[] {%d}\r\n%s)\r\n',
    "spaces": b"* %d fetch ( uid %d  body[] {%d}\r\n%s X {3}\r\n)\r\n )\r\n",
}


NOISE = [
    b"",
    b"* 3 EXISTS\r\n",
    b"* 1 EXPUNGE\r\n",
    b"* OK [X] {9}\r\n",
    b"* 9 FETCH (FLAGS ())\r\n",
]


BODIES = st.lists(
    st.tuples(st.binary(max_size=50), st.sampled_from(list(ITEMS)), st.sampled_from(NOISE)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=80, deadline=None)
@given(BODIES, CUTS)
def test_bodies_are_read_wherever_packets_are_cut(
    bodies: list[tuple[bytes, str, bytes]], cuts: list[int]
) -> None:
    sent = b""
    for uid, (body, shape, noise) in enumerate(bodies, start=1):
        sent += ITEMS[shape] % (uid, uid, len(body), body) + noise
    # Those without a body are looked for, and are there.
    listed = b" ".join(b"%d" % uid for uid in range(1, len(bodies) + 1))
    looked = b"P2 OK done\r\n* SEARCH " + listed + b"\r\n"
    sent += b"P1 OK done\r\n" + looked + b"".join(b"P%d OK done\r\n" % n for n in range(3, 8))
    stream = wire_of(sent, cuts)
    sink = Collector()
    refs = [MailRef(uid, len(body)) for uid, (body, _, _) in enumerate(bodies, start=1)]
    fetch_bodies(ImapSession(stream), refs, sink, 1000)
    assert sink.mails == {uid: body for uid, (body, _, _) in enumerate(bodies, start=1)}
    stream.close()


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200), CUTS)
def test_any_octets_end_in_a_named_error(noise: bytes, cuts: list[int]) -> None:
    stream = wire_of(b"* 1 FETCH (UID 1 " + noise, cuts)
    sink = Collector()
    with pytest.raises(PosthouseError) as caught:
        fetch_bodies(ImapSession(stream), [MailRef(1, 5), MailRef(2, 5)], sink, 1000)
    assert isinstance(caught.value, SessionLost)
    assert 2 not in sink.mails
    stream.close()


FRAGMENTS = [
    *(b"P%d OK done\r\n" % n for n in range(1, 7)),
    *(b"P%d NO [X] no\r\n" % n for n in range(1, 4)),
    b"P1 BAD\r\n",
    b"P2 OK [READ-WRITE]\r\n",
    b"+ go on\r\n",
    b"* STATUS INBOX (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 7 UNSEEN 3)\r\n",
    b"* STATUS {5}\r\nINBOX (MESSAGES 3 UIDVALIDITY 7)\r\n",
    b"* STATUS INBOX (MESSAGES x)\r\n",
    b"* STATUS\r\n",
    b"* 3 EXISTS\r\n",
    b"* OK [UIDVALIDITY 7] ok\r\n",
    b"* OK [UIDVALIDITY x] ok\r\n",
    b"* OK [\r\n",
    b"* SEARCH 1 2 3\r\n",
    b"* SEARCH 1 2 (MODSEQ 3)\r\n",
    b"* SEARCH \xff\r\n",
    b'* ESEARCH (TAG "P4") UID ALL 1:3\r\n',
    b"* ESEARCH ALL ,,:\r\n",
    b'* LIST (\\Trash) "/" Trash\r\n',
    b'* LIST (\\Noselect) NIL {3}\r\na"b\r\n',
    b"* LIST ((((\r\n",
    b"* LIST () () ()\r\n",
    b"* LIST 1 2 &&&-\r\n",
    b'* NAMESPACE (("" "/")) NIL NIL\r\n',
    b"* NAMESPACE ((5 5)) (((\r\n",
    b"* 1 FETCH (UID 1 RFC822.SIZE 5 FLAGS ())\r\n",
    b'* 1 FETCH (UID 2 INTERNALDATE "                          " FLAGS (\\Seen))\r\n',
    b"* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\n",
    b"* 1 FETCH (UID 1 BODY[HEADER]<0> {5}\r\nhello)\r\n",
    b"* 1 FETCH (BODY[HEADER] UID)\r\n",
    b"* BYE leaving\r\n",
    b"* CAPABILITY \xff IMAP4rev1 IDLE\r\n",
    b"\r\n",
    b"* \r\n",
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(FRAGMENTS), max_size=14),
    st.sampled_from(["open", "folders", "poll", "list", "headers", "settle", "delete", "download"]),
    st.sampled_from(["", "Main/Sub"]),
    st.sampled_from([frozenset(), frozenset({"ESEARCH", "UIDPLUS", "CONDSTORE", "NAMESPACE"}),
                     frozenset({"X-GM-EXT-1", "MOVE", "UNSELECT"})]),
)  # fmt: skip
def test_whatever_an_imap_server_says_only_named_errors_come_out(
    said: list[bytes], what: str, folder: str, offered: frozenset[str]
) -> None:
    opened = what not in ("open", "folders", "poll") and not folder
    # A decent start, so that the rest meets what comes after it.
    start = (
        FRAGMENTS[11] + b"P1 OK\r\n" + b"* OK [UIDVALIDITY 7] ok\r\nP2 OK\r\n" if opened else b""
    )
    shifted = b"".join(said).replace(b"P1 ", b"P3 ") if opened else b"".join(said)
    stream = wire_of(start + shifted, [])
    session = ImapSession(stream)
    session.capabilities = offered
    mailbox = ImapMailbox(session, Connection(name="x", mode=Mode.IMAP))
    refs = [MailRef(1, 5), MailRef(2, 5)]
    try:
        if what == "folders":
            mailbox.folders()
        elif what == "poll":
            mailbox.changed_since(folder, {"uid_validity": 7})
        else:
            mailbox.open(folder)
            match what:
                case "list":
                    mailbox.list_new(
                        KnownKeys(), Selection.ALL, since=datetime(2026, 1, 1, tzinfo=UTC)
                    )
                case "headers":
                    list(mailbox.headers(refs))
                case "settle":
                    mailbox.settle(refs, AfterDownload.MARK_READ)
                case "delete":
                    mailbox.settle(refs, AfterDownload.DELETE)
                case "download":
                    mailbox.download(refs, Collector(), limit=1000)
    except PosthouseError as error:
        assert str(error)
        assert getattr(error, "step", "")
    finally:
        stream.close()


POP3_FRAGMENTS = [
    b"+OK\r\n", b"+OK 3 300\r\n", b"+OK 1 uidl-1\r\n", b"+OK 2\r\n", b"-ERR no\r\n", b"-ERR\r\n",
    b"+OK x y\r\n", b"1 uidl-1\r\n2 uidl-2\r\n3 uidl-3\r\n.\r\n", b"1\r\nx y\r\n\xff \xff\r\n.\r\n",
    b"Subject: x\r\nDate: nonsense\r\n\r\n.\r\n", b".\r\n", b"\r\n",
    b"+OK 99999999999999999999 1\r\n",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(POP3_FRAGMENTS), max_size=14),
    st.sampled_from(["poll", "list", "since", "headers", "delete", "download", "keys"]),
    st.booleans(),
    st.booleans(),
)
def test_whatever_a_pop3_server_says_only_named_errors_come_out(
    said: list[bytes], what: str, pipelining: bool, uidl: bool
) -> None:
    stream = wire_of(b"+OK 3 300\r\n" + b"".join(said), [])
    session = Pop3Session(stream)
    session.capabilities = dict.fromkeys(["PIPELINING"] * pipelining + ["UIDL"] * uidl, "")

    def nobody() -> Pop3Session:
        raise SessionLost("no more", step="tcp")

    mailbox = Pop3Mailbox(session, nobody)
    refs = [MailRef("uidl-1", 5), MailRef("uidl-2", 5)]
    try:
        mailbox.changed_since("", {"count": 3, "octets": 300, "last": "uidl-3"})
        match what:
            case "list":
                mailbox.list_new(KnownKeys(["uidl-1", "uidl-2"]), Selection.ALL)
            case "since":
                since = datetime(2026, 1, 1, tzinfo=UTC)
                mailbox.list_new(KnownKeys(), Selection.ALL, since=since)
            case "headers":
                list(mailbox.headers(refs))
            case "delete":
                mailbox.settle(refs, AfterDownload.DELETE)
            case "download":
                mailbox.download(refs, Collector(), limit=1000)
            case "keys":
                mailbox.keys()
    except PosthouseError as error:
        assert str(error)
        assert getattr(error, "step", "")
    finally:
        mailbox.close()
        stream.close()
