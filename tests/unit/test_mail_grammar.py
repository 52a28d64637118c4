"""The grammar of IMAP and POP3 in small: names, sets, dates, dots, and what a log may show."""

from __future__ import annotations

import base64
import socket
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.connections import AfterDownload, Connection, Mode, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import Folder, MailRef
from shared.mailbox.failures import SessionLost
from shared.mailbox.imap.fetch import fetch_bodies
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.imap.metadata import parse_date, search_date
from shared.mailbox.imap.names import (
    ListedFolder,
    Naming,
    find_folder,
    listed_folders,
    near_matches,
)
from shared.mailbox.imap.session import (
    ImapSession,
    Literal,
    Untagged,
    read_set,
    string,
    uid_sets,
)
from shared.mailbox.net.stream import Stream
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.pop3.mailbox import Pop3Mailbox
from shared.mailbox.pop3.session import Pop3Session
from shared.mailbox.pop3.text import read_text
from tests.contract.recorders import Collector, KnownKeys

SLASH, COURIER, FLAT = Naming("/", ""), Naming(".", "INBOX."), Naming("", "")


@pytest.mark.promise("M5")
@pytest.mark.parametrize(
    ("folder", "slash", "courier"),
    [
        ("INBOX", b"INBOX", b"INBOX"),
        ("INBOX", b"Inbox", b"inbox"),
        ("Main/Sub", b"Main/Sub", b"INBOX.Main.Sub"),
        ("Entwürfe", b"Entw&APw-rfe", b"INBOX.Entw&APw-rfe"),
        ("日本/R&D", b"&ZeVnLA-/R&-D", b"INBOX.&ZeVnLA-.R&-D"),
        (" both ends ", b" both ends ", b"INBOX. both ends "),
        ("Entwürfe", "Entwürfe".encode(), "INBOX.Entwürfe".encode()),  # UTF-8 on the stream
        ("R&D", b"R&D", b"INBOX.R&D"),  # neither of both encodings
    ],
)
def test_folder_names_are_shown_without_the_servers_ways(
    folder: str, slash: bytes, courier: bytes
) -> None:
    assert SLASH.shown(slash) == folder
    assert COURIER.shown(courier) == folder


@pytest.mark.promise("M5")
@pytest.mark.parametrize(
    ("raw", "folder"),
    [
        (b"INBOX", "INBOX"),
        (b"INBOX.Inbox", "INBOX/Inbox"),  # not the inbox
        (b"INBOX.Support", "Support"),
        (b"Support", "/Support"),  # of a shared namespace, and another folder
        (b"user.bob.Team", "/user/bob/Team"),
        (b"INBOX.and/or", "/INBOX.and/or"),
        (b"INBOX.and.or", "and/or"),
    ],
)
def test_no_two_folders_are_shown_alike(raw: bytes, folder: str) -> None:
    assert COURIER.shown(raw) == folder


def test_names_that_no_folder_of_a_server_can_have() -> None:
    assert COURIER.likely("Version 1.0") is None  # the dot separates levels there
    assert FLAT.likely("Main/Sub") is None
    assert FLAT.likely("Main") == b"Main"


@given(st.lists(st.text(st.characters(exclude_characters="/.", exclude_categories=["C"]),
                        min_size=1, max_size=8), min_size=1, max_size=4))  # fmt: skip
def test_what_is_asked_for_is_what_would_be_shown(levels: list[str]) -> None:
    folder = "/".join(levels)
    for names in (SLASH, COURIER):
        for name in (folder, "/" + folder):
            raw = names.likely(name)
            assert raw is not None
            shown = names.shown(raw)
            assert names.likely(shown) == raw or shown == "INBOX"


@given(st.lists(st.binary(max_size=12), max_size=20))
def test_listed_folders_all_have_names_of_their_own(names: list[bytes]) -> None:
    """Whatever bytes a server sends: each can be chosen, and what is chosen is found."""
    lines = [Untagged(None, b"LIST", ((b'() "." {%d}' % len(name), name), b"")) for name in names]
    for naming_ in (SLASH, COURIER, FLAT):
        listed = listed_folders(lines, naming_)
        assert len({item.folder.name for item in listed}) == len(listed)
        for item in listed:
            assert find_folder(item.folder.name, listed) == item


def test_characters_may_come_composed_and_decomposed() -> None:
    composed, decomposed = "Entw\u00fcrfe", "Entwu\u0308rfe"
    raw = {text: SLASH.likely(text) or b"" for text in (composed, decomposed)}
    assert raw[composed] != raw[decomposed]

    def listed(*names: bytes) -> list[ListedFolder]:
        lines = [Untagged(None, b"LIST", (b'() "/" "' + name + b'"',)) for name in names]
        return listed_folders(lines, SLASH)

    for asked in raw:
        for there in raw.values():  # the only one is meant, however it is typed
            found = find_folder(asked, listed(there))
            assert found is not None and found.name == there
        both = find_folder(asked, listed(*raw.values()))
        assert both is not None and both.name == raw[asked]


@pytest.mark.promise("M5")
def test_near_matches() -> None:
    folders = [Folder(name) for name in ("INBOX", "Support", "Main/Tickets", "Archive/2024")]
    assert near_matches("suport", folders) == ["Support"]
    assert near_matches("Tickets", folders)[0] == "Main/Tickets"
    assert near_matches("Main.Tickets", folders)[0] == "Main/Tickets"
    assert near_matches("zzz", folders) == []


@given(st.sets(st.integers(1, 0xFFFFFFFF), max_size=300), st.integers(30, 500))
def test_sets_hold_exactly_the_uids_and_keep_to_their_length(uids: set[int], longest: int) -> None:
    found: list[int] = []
    for octets, members in uid_sets(sorted(uids), longest):
        assert len(octets) <= longest
        assert read_set(octets) == members
        found += members
    assert found == sorted(uids)


@pytest.mark.parametrize("text", [b"0", b"x", b"1:*", b"1,,2", b"5:4294967296", b"1:9999999"])
def test_sets_that_are_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_set(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (b"17-Jul-1996 02:44:25 -0700", datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)),
        (b" 1-feb-2026 00:30:00 +0130", datetime(2026, 1, 31, 23, 0, tzinfo=UTC)),
        (b"1-Feb-2026 00:30:00 +0000", datetime(2026, 2, 1, 0, 30, tzinfo=UTC)),
        (b"31-Dec-2016 23:59:60 +0000", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"99-Foo-2026 00:30:00 +0000", None),
        (b"", None),
    ],
)
def test_arrival_dates(text: bytes, moment: datetime | None) -> None:
    assert parse_date(text) == moment


def test_search_dates() -> None:
    assert search_date(datetime(1994, 2, 1, tzinfo=UTC)) == b"1-Feb-1994"


@given(st.binary(max_size=60))
def test_strings_are_quoted_only_where_the_grammar_allows_it(octets: bytes) -> None:
    made = string(octets)
    if isinstance(made, Literal):
        assert made.octets == octets
        assert any(byte < 32 or byte > 126 for byte in octets)
    else:
        inside = made[1:-1]
        assert inside.replace(b"\\\\", b"\0").replace(b'\\"', b'"').replace(b"\0", b"\\") == octets


@pytest.mark.promise("M19")
def test_a_log_shows_no_secret_however_it_is_written() -> None:
    log = Transcript()
    secret = 'pass"wörd\\' + "x" * 600
    log.hide(secret)
    quoted = secret.replace("\\", "\\\\").replace('"', '\\"')
    for form in (secret, quoted, base64.b64encode(secret.encode()).decode()):
        log.sent(f"LOGIN alice {form}".encode())
        log.received(f"NO not {form}\r\n".encode())
        log.received(b"y" * 390 + form.encode())  # cut in the middle of it
        assert form[:20] not in log.clean(b"y" * 390 + form.encode())
    text = "\n".join(log.lines)
    assert "xxxx" not in text
    assert base64.b64encode(secret.encode()).decode()[:12] not in text
    assert "alice" in text
    for number in range(500):
        log.sent(b"NOOP %d" % number)
    assert len(log.lines) == 100
    log.received(b"bell \x07 and escape \x1b[31m")
    assert log.lines[-1].isprintable()


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
    stream = wire_of(sent + b"P1 OK done\r\n", cuts)
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
