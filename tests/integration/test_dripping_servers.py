"""Servers that keep each single bound and would hold a run for hours all the same.

What a run as a whole may wait (`shared.mailbox.wait_budget`), over each step of a session; what is
told of it and whom it holds up is in test_slow_lane.py.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from shared.connections import AfterDownload, Connection, Mode, Selection, TransportSecurity
from shared.mailbox.base import Login, Mailbox, MailRef
from shared.mailbox.graph.http import GraphHttp, judged
from shared.mailbox.open import open_mailbox
from shared.mailbox.push_loop import PushLoop
from shared.mailbox.wait_budget import ServerTooSlow, WaitBudget, bounded
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.mail_sessions import connection_to
from tests.integration.test_slow_answers import asked, graph_over
from tests.servers.certificates import Authority
from tests.servers.scripted import (
    MAILS,
    Answer,
    Conversation,
    Script,
    ScriptedServer,
    body_response,
    imap,
    pop3,
    stuffed,
)

pytestmark = pytest.mark.promise("I5", "M8")

#: Seconds that a run may wait here; each answer alone would have 50.
BUDGET = 0.4
READ_TIMEOUT = 10.0
PACE = 0.02


def dripping(begun: bytes) -> Answer:
    """An octet now and then, each in time; the answer never ends."""

    def drip(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(begun)
        while not talk._stopping.wait(PACE):
            talk.send(b"x")

    return drip


def opened(connection: Connection) -> Mailbox:
    login = Login(connection.username, "secret")
    return open_mailbox(connection, login, read_timeout_s=READ_TIMEOUT)


def whole_run(connection: Connection) -> None:
    """Every step of a run that finds mails, dates them, and deletes what it had."""
    mailbox = opened(connection)
    try:
        assert mailbox.changed_since("", None) is not None
        mailbox.open("")
        refs = mailbox.list_new(KnownKeys(), Selection.ALL).new
        list(mailbox.headers(refs))
        sink = Collector()
        mailbox.download(refs, sink, limit=1 << 20)
        mailbox.settle([MailRef(key, 0) for key in sink.mails], AfterDownload.DELETE)
    finally:
        mailbox.close()


IMAP_STEPS = {
    "CAPABILITY": ("login", b"* CAPABILITY IMAP4rev1 X"),
    "LOGIN": ("login", b"* OK "),
    "STATUS": ("folder", b"* STATUS INBOX (MESSAGES "),
    "EXAMINE": ("folder", b"* OK "),
    "UID SEARCH": ("list", b"* SEARCH 1"),
    "METADATA": ("list", b"* 1 FETCH (UID "),
    "HEADERS": ("list", b"* 1 FETCH (UID 1 BODY[HEADER] {100000}\r\n"),
    "UID FETCH": ("download", b"* 1 FETCH (UID 1 BODY[] {100000}\r\n"),
    "SELECT": ("settle", b"* OK "),
    "UID STORE": ("settle", b"* OK "),
    "UID EXPUNGE": ("settle", b"* OK "),
}
POP3_STEPS = {
    "CAPA": ("login", b"+OK\r\nUIDL\r\nX"),
    "USER": ("login", b"+O"),
    "PASS": ("login", b"+OK "),
    "STAT": ("folder", b"+OK "),
    "UIDL": ("folder", b"+OK 3 u"),
    "LIST": ("list", b"+OK 3 "),
    "TOP": ("list", b"+OK\r\nSubject: "),
    "RETR": ("download", b"+OK\r\nSubject: "),
    "DELE": ("settle", b"+OK "),
    "QUIT": ("settle", b"+OK "),
}


def check_given_up(connection: Connection, step: str) -> None:
    with pytest.raises(ServerTooSlow) as caught, bounded(WaitBudget(BUDGET)):
        whole_run(connection)
    error = caught.value
    assert (error.code, error.step) == ("too-slow", step)
    assert f"{BUDGET:g} seconds" in str(error)
    assert "What was fetched before is safe" in error.hint
    assert error.transcript or step == "tls"


@pytest.mark.parametrize("command", IMAP_STEPS)
def test_each_step_over_imap(command: str) -> None:
    step, begun = IMAP_STEPS[command]
    with ScriptedServer(imap({command: dripping(begun)})) as server:
        check_given_up(connection_to(server.port), step)


@pytest.mark.parametrize("command", POP3_STEPS)
def test_each_step_over_pop3(command: str) -> None:
    step, begun = POP3_STEPS[command]
    with ScriptedServer(pop3({command: dripping(begun)})) as server:
        check_given_up(connection_to(server.port, Mode.POP3), step)


def drips_from_the_start(begun: bytes) -> Script:
    return lambda talk: dripping(begun)(talk, b"", b"")  # type: ignore[operator]


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_a_greeting_that_drips(mode: Mode) -> None:
    """The connection's own time-out, of a minute, would let it go on."""
    begun = b"* OK " if mode is Mode.IMAP else b"+OK "
    with ScriptedServer(drips_from_the_start(begun)) as server:
        check_given_up(connection_to(server.port, mode, timeout_ms=60_000), "greeting")


def test_a_handshake_that_drips() -> None:
    """A TLS record of 16 KiB begins (RFC 8446 section 5.1), and comes octet by octet."""
    with ScriptedServer(drips_from_the_start(b"\x16\x03\x03\x40\x00")) as server:
        over_tls = connection_to(server.port, security=TransportSecurity.TLS, timeout_ms=60_000)
        check_given_up(over_tls, "tls")


def test_a_network_that_swallows_everything() -> None:
    """No answer to a SYN: a listener whose queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        try:
            check_given_up(connection_to(port, timeout_ms=60_000), "tcp")
        finally:
            for one in held:
                one.close()


def late(answer: bytes) -> Answer:
    """The whole answer at once, a little later than anybody likes."""

    def answered(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk._stopping.wait(0.15)
        talk.send(answer)
        if tag:
            talk.ok(tag)

    return answered


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_answers_that_are_each_in_time(mode: Mode) -> None:
    """None of them is slow by itself: all of them together are."""
    script = imap({"NOOP": late(b"")}) if mode is Mode.IMAP else pop3({"NOOP": late(b"+OK\r\n")})
    with ScriptedServer(script) as server, bounded(WaitBudget(BUDGET)):
        mailbox = opened(connection_to(server.port, mode))
        alive = [mailbox.is_alive() for _ in range(8)]
        mailbox.close()
    assert alive[0] and not alive[-1]


def steadily(talk: Conversation, octets: bytes) -> None:
    """128 KiB a second."""
    for start in range(0, len(octets), 2048):
        talk.send(octets[start : start + 2048])
        talk._stopping.wait(2048 / 131_072)


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_a_line_that_is_slow_and_a_mail_that_is_huge_are_not_cut(mode: Mode) -> None:
    """Twice as fast as has to be, for four times as long as may be waited."""
    huge = b"Subject: huge\r\n\r\n" + b"all of it is wanted\r\n" * 10_000

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        steadily(talk, body_response(1, huge))
        talk.ok(tag)

    def retrieve(talk: Conversation, tag: bytes, rest: bytes) -> None:
        steadily(talk, b"+OK\r\n" + stuffed(huge))

    script = (
        imap({"UID FETCH": fetch}, mails={1: huge})
        if mode is Mode.IMAP
        else pop3({"RETR": retrieve}, mails={1: huge})
    )
    sink = Collector()
    with (
        ScriptedServer(script) as server,
        bounded(WaitBudget(BUDGET, octets_a_second=65_536)) as budget,
    ):
        mailbox = opened(connection_to(server.port, mode))
        mailbox.open("")
        mailbox.download(mailbox.list_new(KnownKeys(), Selection.ALL).new, sink, limit=1 << 20)
        mailbox.close()
    assert list(sink.mails.values()) == [huge]
    assert budget.left > BUDGET, "what it sent earned more than it took"


def test_what_was_whole_before_is_kept() -> None:
    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(body_response(1, MAILS[1]) + body_response(2, MAILS[2]))
        dripping(b"* 3 FETCH (UID 3 BODY[] {100000}\r\n")(talk, tag, rest)  # type: ignore[operator]

    sink = Collector()
    with ScriptedServer(imap({"UID FETCH": fetch})) as server, bounded(WaitBudget(BUDGET)):
        mailbox = opened(connection_to(server.port))
        mailbox.open("")
        with pytest.raises(ServerTooSlow):
            mailbox.download([MailRef(uid, 100) for uid in MAILS], sink, limit=1 << 20)
        mailbox.close()
    assert sink.mails == {uid: MAILS[uid] for uid in (1, 2)}
    assert not sink.abandoned, "no mail is to blame"


def test_a_session_that_listens_is_not_cut() -> None:
    """Nobody waits for a server that has nothing to tell."""
    later, told = threading.Event(), threading.Event()

    def idle(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"+ idling\r\n")
        later.wait(10)
        talk.send(b"* 4 EXISTS\r\n")
        assert talk.line() == b"DONE"
        talk.ok(tag)

    lost: list[Any] = []
    script = imap({"IDLE": idle}, capability=b"IMAP4rev1 IDLE UNSELECT")
    with (
        ScriptedServer(script) as server,
        PushLoop(lambda _: told.set(), lambda *what: lost.append(what)) as push,
        bounded(WaitBudget(BUDGET)),
    ):
        mailbox = opened(connection_to(server.port))
        push.watch("here", mailbox, "", mailbox.open("").cursor)
        threading.Event().wait(3 * BUDGET)
        later.set()
        assert told.wait(10)
        assert push.release("here") is mailbox
        assert mailbox.is_alive()
        mailbox.close()
    assert lost == []


@pytest.mark.parametrize("mode", [Mode.IMAP, Mode.POP3])
def test_a_farewell_is_not_waited_for(mode: Mode) -> None:
    """Two seconds and no more; how many octets may come in them is counted where they are sent."""
    sent = 0
    gone = threading.Event()

    def drip(talk: Conversation, tag: bytes, rest: bytes) -> None:
        nonlocal sent
        try:
            while not talk._stopping.wait(0.1):
                talk.send(b"x")
                sent += 1
        finally:
            gone.set()

    script = imap({"LOGOUT": drip}) if mode is Mode.IMAP else pop3({"QUIT": drip})
    with ScriptedServer(script) as server:
        opened(connection_to(server.port, mode)).close()
        assert gone.wait(10)
    assert sent <= 22


def answering_late(talk: Conversation) -> None:
    while asked(talk):
        talk._stopping.wait(0.15)
        talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.fixture
def graph(authority: Authority) -> Iterator[GraphHttp]:
    with graph_over(answering_late, authority, read_timeout=60.0) as graph:
        yield graph


def test_answers_of_graph_that_are_each_in_time(graph: GraphHttp) -> None:
    answered = 0
    with pytest.raises(ServerTooSlow), bounded(WaitBudget(BUDGET)), judged():
        for _ in range(8):
            graph.get("/me")
            answered += 1
    assert 1 <= answered < 8
