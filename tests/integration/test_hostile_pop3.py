"""POP3 servers that are poor, break off, lie, or speak nonsense."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping

import pytest

from shared.connections import AfterDownload, Mode, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import MailRef
from shared.mailbox.failures import SessionLost, Unreachable
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.servers.scripted import (
    MAILS,
    Answer,
    Conversation,
    Script,
    ScriptedServer,
    pop3,
    stuffed,
)

ALL = Selection.ALL
REFS = [MailRef(f"uidl-{number}", len(raw)) for number, raw in MAILS.items()]
WHOLE = {f"uidl-{number}": raw for number, raw in MAILS.items()}


def downloaded(
    script: Script, refs: list[MailRef] = REFS, *, limit: int = 1 << 20, timeout_s: float = 5
) -> tuple[Collector, PosthouseError | None]:
    sink = Collector()
    with ScriptedServer(script) as server:
        connection = connection_to(server.port, Mode.POP3)
        with opened(connection, read_timeout_s=timeout_s) as mailbox:
            mailbox.open("")
            try:
                mailbox.download(refs, sink, limit=limit)
            except PosthouseError as error:
                return sink, error
    return sink, None


@pytest.mark.parametrize("capabilities", [b"UIDL\r\nPIPELINING\r\n", b"UIDL\r\n", b""])
def test_with_and_without_pipelining_or_capabilities(capabilities: bytes) -> None:
    sink, error = downloaded(pop3(capabilities=capabilities))
    assert error is None
    assert sink.mails == WHOLE


DOTS: Mapping[str, bytes] = {
    "nothing": b"",
    "one dot": b".\r\n",
    "only dots": b".\r\n..\r\n...\r\n",
    "an end inside": b"x\r\n.\r\ny\r\n",
    "bare line ends": b"a\n.\nb\r.\r\r\nc\r\n",
    "a carriage return before the end": b"x\r\r\n",
    "empty lines": b"\r\n\r\n\r\n",
    "long": b"0123456789\r\n.\r\n..x\r\n" * 30_000,
}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000, 70_000])
def test_dots_wherever_the_packets_are_cut(size: int) -> None:
    mails = dict(enumerate(DOTS.values(), start=1))
    if size < 1000:
        mails.pop(len(DOTS))

    def in_pieces(talk: Conversation, tag: bytes, rest: bytes) -> None:
        answer = b"+OK here it comes\r\n" + stuffed(mails[int(rest)])
        for start in range(0, len(answer), size):
            talk.send(answer[start : start + size])

    refs = [MailRef(f"uidl-{number}", len(raw)) for number, raw in mails.items()]
    sink, error = downloaded(pop3({"RETR": in_pieces}, mails=mails), refs)
    assert error is None
    assert sink.mails == {f"uidl-{number}": raw for number, raw in mails.items()}


# ---- which mails are new


def new_mails(
    mails: Mapping[int, bytes],
    known: KnownKeys,
    answers: Mapping[str, Answer] | None = None,
    uidls: Mapping[int, bytes] | None = None,
) -> list[bytes]:
    """One fetch: what came, in order; `known` knows it afterwards."""
    with (
        ScriptedServer(pop3(answers, mails=mails, uidls=uidls)) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        listing = mailbox.list_new(known, ALL)
        sink = Collector()
        mailbox.download(listing.new, sink, limit=1 << 20)
        known.add(listing.new)
        return [sink.mails[ref.key] for ref in listing.new]


def many(count: int) -> dict[int, bytes]:
    return {n: b"Subject: %d\r\n\r\ntext\r\n" % n for n in range(1, count + 1)}


@pytest.mark.promise("H4", "I1")
@pytest.mark.parametrize("extra", [b"+OK still here\r\n", b"+OK\r\n"])
@pytest.mark.parametrize("pieces", [1, 1000])
def test_an_answer_too_many_becomes_no_line_of_a_mail(extra: bytes, pieces: int) -> None:
    """As of a proxy that keeps the connection alive: the next mail's own answer is read as mail."""

    def retrieve(talk: Conversation, tag: bytes, rest: bytes) -> None:
        answer = b"+OK\r\n" + stuffed(MAILS[int(rest)]) + extra * (rest == b"1")
        for at in range(0, len(answer), pieces):
            talk.send(answer[at : at + pieces])

    sink, error = downloaded(pop3({"RETR": retrieve}))
    assert isinstance(error, SessionLost)
    assert (error.code, str(error).rpartition(": ")[2]) == (
        "protocol-error",
        "it sent an answer where a mail begins.",
    )
    assert sink.mails == {"uidl-1": MAILS[1]}
    assert not sink.abandoned


@pytest.mark.promise("M9", "I9")
def test_mails_under_uidls_longer_than_any_index_takes_are_told_apart() -> None:
    mails = many(3)
    chance = random.Random(5)
    long = "".join(chance.choices(string.ascii_letters + string.digits, k=3000)).encode()
    uidls = {number: long + b"%d" % number for number in mails}
    known = KnownKeys()
    assert new_mails(mails, known, uidls=uidls) == list(mails.values())
    assert len(known.keys) == 3
    assert max(len(str(key)) for key in known.keys) < 600
    assert new_mails(mails, known, uidls=uidls) == []


@pytest.mark.promise("M9")
def test_an_unchanged_mailbox_costs_a_few_octets_however_large() -> None:
    mails = many(3000)
    with ScriptedServer(pop3(mails=mails)) as server:
        connection = connection_to(server.port, Mode.POP3)
        with opened(connection) as mailbox:
            mailbox.open("")
            cursor = mailbox.list_new(KnownKeys(), ALL, limit=0).cursor
        before = len(server.heard)
        with opened(connection) as mailbox:
            assert mailbox.changed_since("", cursor) is None
        said = [line.split(b" ")[0] for line in server.heard[before:] if line]
    assert said == [b"CAPA", b"USER", b"PASS", b"STAT", b"UIDL", b"QUIT"]


@pytest.mark.promise("M9")
def test_new_mails_are_found_from_the_top_of_the_list() -> None:
    mails = many(3000)
    known = KnownKeys(f"uidl-{n}" for n in range(1, 2991))
    handled = {
        "count": 2990,
        "octets": sum(len(mails[n]) for n in range(1, 2991)),
        "last": "uidl-2990",
    }
    with ScriptedServer(pop3(mails=mails)) as server:
        with opened(connection_to(server.port, Mode.POP3)) as mailbox:
            mailbox.open("")
            listing = mailbox.list_new(known, ALL, cursor=handled)
        said = [line for line in server.heard if line]
    assert [ref.key for ref in listing.new] == [f"uidl-{n}" for n in range(2991, 3001)]
    assert (listing.known, listing.total, listing.listed) == (2990, 3000, None)
    assert b"UIDL" not in said  # never the whole list
    assert len(said) < 40


@pytest.mark.promise("M9")
@pytest.mark.parametrize("vanished", [(1,), (100, 101), (150,)])
def test_when_the_counts_do_not_add_up_the_whole_list_is_asked_for(
    vanished: tuple[int, ...],
) -> None:
    """As many mails came as went: the count alone would tell of nothing new."""
    mails = many(150 + len(vanished))
    known = KnownKeys(f"uidl-{n}" for n in range(1, 151))
    for number in vanished:
        del mails[number]
    numbered = dict(enumerate(mails.values(), start=1))
    uidls = {i: b"uidl-%d" % n for i, n in enumerate(mails, start=1)}
    with (
        ScriptedServer(pop3(mails=numbered, uidls=uidls)) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        listing = mailbox.list_new(known, ALL)
        sink = Collector()
        mailbox.download(listing.new, sink, limit=1000)
    expected = [f"uidl-{150 + n}" for n in range(1, len(vanished) + 1)]
    assert [ref.key for ref in listing.new] == expected
    assert [sink.mails[key] for key in expected] == [
        mails[150 + n] for n in range(1, len(vanished) + 1)
    ]
    assert listing.listed is not None
    assert known.keys - set(listing.listed) == {f"uidl-{n}" for n in vanished}


@pytest.mark.promise("M9")
def test_a_server_without_uidl() -> None:
    refusal: dict[str, Answer] = {
        "UIDL": b"-ERR unknown command\r\n",
        "CAPA": b"-ERR unknown command\r\n",
    }
    mails = many(5)
    mails[6] = mails[2]  # octet for octet the same: still a mail of its own
    known = KnownKeys()
    assert new_mails(mails, known, refusal) == list(mails.values())
    assert new_mails(mails, known, refusal) == []
    mails[7] = b"Subject: new\r\n\r\ntext\r\n"
    assert new_mails(mails, known, refusal) == [mails[7]]
    with ScriptedServer(pop3(refusal, mails=mails)) as server:
        with opened(connection_to(server.port, Mode.POP3)) as mailbox:
            mailbox.open("")
            listing = mailbox.list_new(KnownKeys(), ALL)
            assert not mailbox.capabilities.stable_keys
            assert mailbox.settle(listing.new[2:3], AfterDownload.DELETE) == [listing.new[2]]
        assert [line for line in server.heard if b"DELE" in line] == [b"DELE 3"]


@pytest.mark.promise("M9")
def test_mails_with_equal_headers_are_told_apart_by_their_sizes() -> None:
    """The first one went as the second came: without UIDL nothing else shows it."""
    no = b"-ERR unknown command\r\n"
    refusal: dict[str, Answer] = {"UIDL": no, "CAPA": no}
    first, second = (b"Subject: same\r\n\r\n" + text for text in (b"text\r\n", b"more text\r\n"))
    known = KnownKeys()
    assert new_mails({1: first}, known, refusal) == [first]
    assert new_mails({1: second}, known, refusal) == [second]


def test_a_server_with_neither_uidl_nor_top_needs_a_person() -> None:
    no = b"-ERR unknown command\r\n"
    with (
        ScriptedServer(pop3({"UIDL": no, "TOP": no, "CAPA": no})) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
        pytest.raises(PosthouseError) as caught,
    ):
        mailbox.open("")
    assert caught.value.code == "no-identity"


@pytest.mark.promise("M9")
def test_mails_that_share_a_uidl_are_both_had() -> None:
    uidls = {1: b"same", 2: b"other", 3: b"same"}
    known = KnownKeys()
    assert new_mails(MAILS, known, uidls=uidls) == list(MAILS.values())
    assert new_mails(MAILS, known, uidls=uidls) == []


@pytest.mark.promise("M9", "H4")
@pytest.mark.parametrize("numbers", [(1, 1, 2, 2, 3, 3), (1, 2, 3, 1, 2, 3), (1, 2, 1, 2)])
def test_a_mail_that_is_listed_twice_comes_once(numbers: tuple[int, ...]) -> None:
    """The last list lacks a mail, though it has more lines than there are mails."""

    def listed(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if rest:
            talk.send(b"+OK %s uidl-%s\r\n" % (rest, rest))
        else:
            lines = b"".join(b"%d uidl-%d\r\n" % (number, number) for number in numbers)
            talk.send(b"+OK\r\n" + lines + b".\r\n")

    known = KnownKeys()
    assert new_mails(MAILS, known, {"UIDL": listed}) == list(MAILS.values())
    assert new_mails(MAILS, known, {"UIDL": listed}) == []


# ---- settling


@pytest.mark.promise("M7")
def test_deleting_counts_only_when_quit_was_answered() -> None:
    def hang_up(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.hang_up()

    for quit_answer, words in (
        (hang_up, "closed the connection"),
        (b"-ERR some deleted messages not removed\r\n", "some deleted messages not removed"),
    ):
        with (
            ScriptedServer(pop3({"QUIT": quit_answer})) as server,
            opened(connection_to(server.port, Mode.POP3)) as mailbox,
        ):
            mailbox.open("")
            with pytest.raises(Unreachable, match=words):
                mailbox.settle(REFS, AfterDownload.DELETE)


@pytest.mark.promise("M7")
def test_a_settling_that_broke_off_is_not_carried_out_by_a_polite_end() -> None:
    """QUIT would delete what was marked so far, though nobody will have recorded it."""

    def broken(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"+OK\r\n" if rest == b"1" else b"nonsense\r\n")

    with ScriptedServer(pop3({"DELE": broken})) as server:
        with opened(connection_to(server.port, Mode.POP3)) as mailbox:
            mailbox.open("")
            with pytest.raises(SessionLost):
                mailbox.settle(REFS, AfterDownload.DELETE)
        assert b"QUIT" not in server.heard


@pytest.mark.promise("M7")
def test_marking_read_has_nothing_to_do() -> None:
    with ScriptedServer(pop3()) as server:
        with opened(connection_to(server.port, Mode.POP3)) as mailbox:
            mailbox.open("")
            assert mailbox.settle(REFS, AfterDownload.MARK_READ) == REFS
        assert not any(b"DELE" in line for line in server.heard)


@pytest.mark.promise("M7")
def test_numbers_of_an_old_session_are_never_used_in_a_new_one() -> None:
    with ScriptedServer(pop3(mails=many(9))) as server:
        connection = connection_to(server.port, Mode.POP3)
        with opened(connection) as mailbox:
            mailbox.open("")
            last = mailbox.list_new(KnownKeys(), ALL).new[-1]
    left = {1: many(9)[9]}  # the others are gone: what was number 9 is number 1 now
    with ScriptedServer(pop3(mails=left, uidls={1: b"uidl-9"})) as server:
        with opened(connection_to(server.port, Mode.POP3)) as mailbox:
            assert mailbox.settle([last], AfterDownload.DELETE) == [last]
        assert b"DELE 1" in server.heard


@pytest.mark.promise("I1")
@pytest.mark.parametrize(
    ("before", "after", "days"),
    [
        (b"EXPIRE NEVER", b"EXPIRE NEVER", None),
        (b"EXPIRE 31", b"EXPIRE 31", 31),
        (b"EXPIRE 0 USER", b"EXPIRE NEVER", None),
        (b"EXPIRE 30 USER", b"EXPIRE 0", 0),
        (b"expire  0", b"expire  0", 0),
        (b"EXPIRE\t0", b"EXPIRE\t0", 0),
        (b" EXPIRE=0", b" EXPIRE=0", 0),
        (b"EXPIRE0", b"EXPIRE0", 0),
        (b"EXPIRE 0 days", b"EXPIRE 0 days", 0),
        # Told to those who are logged in alone (RFC 2449 section 5).
        (b"", b"EXPIRE 0", 0),
        (b"", b"", None),
    ],
    ids=str,
)
def test_how_long_retrieved_mails_stay_however_and_whenever_it_is_told(
    before: bytes, after: bytes, days: int | None
) -> None:
    logged_in = []

    def log_in(talk: Conversation, _: bytes, __: bytes) -> None:
        logged_in.append(talk)
        talk.send(b"+OK\r\n")

    def tell(talk: Conversation, _: bytes, __: bytes) -> None:
        told = after if logged_in else before
        talk.send(b"+OK\r\nUIDL\r\nTOP\r\n" + (told + b"\r\n" if told else b"") + b".\r\n")

    with (
        ScriptedServer(pop3({"CAPA": tell, "PASS": log_in})) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        assert mailbox.capabilities.expires_days == days
