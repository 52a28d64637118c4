"""A server that stops giving mails in the middle: its state, and no mail's fault.

For an administrator: the connection is failing with the server's words and what to do (pages,
`connection-failing` alert, `posthouse_fetch_runs_total{outcome="try-again"}`), the quarantine stays
empty, and everything comes once the server serves again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.integration.graph.application import application_credential
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer
from tests.servers.scripted import (
    Conversation,
    ScriptedServer,
    body_response,
    imap,
    pop3,
    read_set,
    stuffed,
)

COUNT = 40
MAILS = [mail(number, 600, seed=40) for number in range(COUNT)]
BY_NUMBER = dict(enumerate(MAILS, 1))
ALICE = "alice@example.org"


@dataclass
class Budget:
    """So many mails are given, then none until it is `free`."""

    left: int = 2
    free: threading.Event = field(default_factory=threading.Event)

    def gives(self) -> bool:
        self.left -= 1
        return self.free.is_set() or self.left >= 0


def throttled_imap(budget: Budget, words: bytes) -> Callable[[Conversation, bytes, bytes], None]:
    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], COUNT)):
            if not budget.gives():
                talk.send(tag + b" NO " + words + b"\r\n")
                return
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.ok(tag)

    return fetch


def throttled_pop3(budget: Budget, words: bytes) -> Callable[[Conversation, bytes, bytes], None]:
    def retrieve(talk: Conversation, _: bytes, rest: bytes) -> None:
        given = budget.gives()
        talk.send(
            b"+OK\r\n" + stuffed(BY_NUMBER[int(rest)]) if given else b"-ERR " + words + b"\r\n"
        )

    return retrieve


WORDS = {
    "gmail": ("imap", b"[OVERQUOTA] Account exceeded command or bandwidth limits."),
    "exchange": (
        "imap",
        b"Request is throttled. Suggested Backoff Time: 299910 milliseconds",
    ),
    "any server": ("imap", b"[UNAVAILABLE] the store is away"),
    "a server without a code": ("imap", b"FETCH error while reading"),
    "exchange pop": ("pop3", b"Server Unavailable. 21"),
    "any pop server": ("pop3", b"[SYS/TEMP] try later"),
}
DELAYS = {"gmail": 3600, "exchange": 299.91}


def scripted(mode: str, words: bytes, budget: Budget) -> ScriptedServer:
    if mode == "imap":
        return ScriptedServer(
            imap({"UID FETCH": throttled_imap(budget, words)}, mails=BY_NUMBER, settles=True)
        )
    return ScriptedServer(pop3({"RETR": throttled_pop3(budget, words)}, mails=BY_NUMBER))


def failing(stack: Stack, connection: int) -> dict[str, str]:
    """Waits until the connection is shown as failing; the error as pages show it."""
    asked = "SELECT health, error FROM connection_state WHERE connection_id = %s"
    stack.wait(lambda: stack.query(asked, connection)[0][0] == "failing", "it is failing")
    error: dict[str, str] = stack.query(asked, connection)[0][1]
    return error


def check_the_end(stack: Stack, redis_url: str, connection: int) -> None:
    stack.fetch_now(connection)
    stack.wait_settled(COUNT)
    asked = "SELECT health, error FROM connection_state WHERE connection_id = %s"
    stack.wait(lambda: stack.query(asked, connection) == [("working", None)], "it is well again")
    stack.stop()
    assert stack.count("quarantine") == 0
    assert stack.count("download_failure") == 0
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(MAILS)


@pytest.mark.promise("M27", "I1")
@pytest.mark.parametrize("server", WORDS, ids=WORDS)
def test_forty_mails_throttled_after_two_and_freed_later(
    server: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    mode, words = WORDS[server]
    budget = Budget()
    stack = build_stack(redis_url)
    stack.add_handler()
    with scripted(mode, words, budget) as there:
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.add_plain_connection(there.port, name="busy", mode=mode)
        error = failing(stack, connection)
        assert words.decode().rpartition("] ")[2].rstrip(".") in error["message"]
        assert "tried again by itself" in error["hint"]
        assert error["code"] == ("throttled" if server in DELAYS else "server-refused")
        if server in DELAYS:
            waits = "SELECT extract(epoch FROM due_at - now()) FROM connection_state"
            assert 0.9 * DELAYS[server] < stack.query(waits)[0][0] <= DELAYS[server]
        # What came before is safe, handed over and settled, and nobody was told of a bad mail.
        stack.wait(lambda: stack.count("delivery") == 2, "the first two are delivered")
        assert stack.count("settlement") == 0
        assert stack.count("quarantine") == 0
        told = "SELECT kind, data ->> 'message' FROM alert"
        assert stack.query(told) == [("connection-failing", error["message"])]
        budget.free.set()
        check_the_end(stack, redis_url, connection)


@pytest.mark.promise("M27", "M4")
def test_runs_that_make_progress_are_not_backed_off(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Two mails a session, then a refusal without a delay: failing each time, and soon again."""
    given: dict[int, int] = {}

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], COUNT)):
            given[id(talk)] = given.get(id(talk), 0) + 1
            if given[id(talk)] > 2:
                talk.send(tag + b" NO [UNAVAILABLE] the store is away\r\n")
                return
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.ok(tag)

    stack = build_stack(redis_url)
    stack.add_handler()
    script = imap({"UID FETCH": fetch}, mails=BY_NUMBER, settles=True)
    with ScriptedServer(script) as there, FetcherHere(stack).working() as here:
        connection = stack.add_plain_connection(there.port, name="slow", mode="imap")
        asked = "SELECT health, failures, due_at - now() <= interval '1 minute'"
        for number in range(1, 6):
            here.run(connection)
            assert stack.query(f"{asked} FROM connection_state") == [("failing", number, True)]
            assert stack.count("message") == 2 * number


@pytest.mark.promise("M27", "M4")
@pytest.mark.parametrize("after", [0, 2])
def test_a_session_that_ends_with_a_delay_is_not_opened_again_before(
    after: int, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """In words that are about nothing else: neither a throttle nor an outage."""

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in range(1, after + 1):
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.send(b"* BYE Please wait 300 seconds\r\n")
        talk.hang_up()

    stack = build_stack(redis_url)
    stack.add_handler()
    script = imap({"UID FETCH": fetch}, mails=BY_NUMBER)
    with ScriptedServer(script) as there, FetcherHere(stack).working() as here:
        connection = stack.add_plain_connection(there.port, name="waits", mode="imap")
        here.run(connection)
        assert there.connections == 1
        waits = "SELECT health, extract(epoch FROM due_at - now()) FROM connection_state"
        ((health, seconds),) = stack.query(waits)
    assert health == "failing"
    assert 250 < seconds <= 300


@contextmanager
def graph_stack(
    graph: GraphServer, oidc: OidcServer, build: Callable[..., Stack], url: str
) -> Iterator[tuple[Stack, int]]:
    graph.trust(oidc.public_key)
    stack = build(url)
    stack.add_handler()
    connection = stack.add_connection(
        password="",
        name="graph",
        mode="microsoft-graph",
        username=ALICE,
        credential_id=application_credential(stack, graph, oidc),
    )
    yield stack, connection


@pytest.mark.promise("M27", "I1")
@pytest.mark.parametrize(("status", "code"), [(429, "throttled"), (503, "graph-unavailable")])
def test_forty_mails_of_graph_throttled_after_two_and_freed_later(
    status: int,
    code: str,
    graph_server: GraphServer,
    oidc: OidcServer,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    box = graph_server.mailbox(ALICE)
    box.deliver(MAILS)
    for item in box.in_folder(box.inbox)[2:]:
        graph_server.fail(f"{item.id}/$value", status=status, times=99, retry_after=600)
    with graph_stack(graph_server, oidc, build_stack, redis_url) as (stack, connection):
        stack.start("scheduler", "fetcher", "decryptor")
        error = failing(stack, connection)
        assert error["code"] == code
        first = stack.count("message")
        assert 1 <= first <= 2  # three are asked for at a time: the second may come too late
        stack.wait(lambda: stack.count("delivery") == first, "the first ones are delivered")
        # Paused by Retry-After, the mailbox takes no change either: that follows.
        assert stack.count("settlement") == (first if status == 429 else 0)
        assert stack.count("quarantine") == 0
        told = "SELECT kind, data ->> 'message' FROM alert"
        assert stack.query(told) == [("connection-failing", error["message"])]
        graph_server.faults.clear()
        stack.query("DELETE FROM request_pause RETURNING 1")
        check_the_end(stack, redis_url, connection)
    assert [item for item in box.in_folder(box.inbox) if not item.read] == []
