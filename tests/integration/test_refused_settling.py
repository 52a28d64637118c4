"""One mail that a server does not delete, or mark, does not block its mailbox: new mails come.

For an administrator: the connection is failing with the server's words (its page, the alert
`connection-failing`, `posthouse_fetch_runs_total`), and `posthouse_settlements_pending` counts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shared.clock import new_id
from tests.integration.graph.application import application_credential
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.graph import GraphServer
from tests.servers.oidc import OidcServer
from tests.servers.pop3_rules import RuledPop3
from tests.servers.processes import free_port
from tests.servers.scripted import Conversation, ScriptedServer, imap, read_set

SENT = [mail(number, 600, seed=51) for number in range(6)]
STUCK = 2
ALICE = "alice@example.org"


def check(
    stack: Stack, connection: int, deliver: Callable[[list[bytes]], object], url: str
) -> None:
    """Mails come run after run, beside the one that cannot be settled; the connection says so."""
    port = free_port()
    stack.start("fetcher", "decryptor")
    stack.start("scheduler", settings={"health_port": str(port)})
    stack.wait(lambda: stack.count("delivery") == 2, "the first mails")
    ended = "SELECT last_run_at IS NOT NULL FROM connection_state"
    stack.wait(lambda: stack.query(ended) == [(True,)], "the first run is over")
    for have in (4, 6):
        deliver(SENT[have - 2 : have])
        stack.run_once(connection)
        stack.wait(lambda have=have: stack.count("delivery") == have, "new ones come")  # type: ignore[misc]
    stack.run_once(connection)
    ((health, step, words),) = stack.query(
        "SELECT health, error ->> 'step', error ->> 'message' FROM connection_state"
    )
    assert (health, step) == ("failing", "settle")
    told = "SELECT data ->> 'message' FROM alert WHERE kind = 'connection-failing'"
    stack.wait(lambda: (words,) in stack.query(told), "the alert")
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert "posthouse_settlements_pending 1.0" in metrics
    # The age of the oldest is what the rule PosthouseSettlementsPending looks at.
    assert 0 < value_of("posthouse_settlements_oldest_seconds", metrics) < 300
    assert stack.count("settlement") == 1
    # It is no reason to ask less often: everything else is well.
    soon = "SELECT due_at - now() < interval '61 seconds' FROM connection_state"
    assert stack.query(soon) == [(True,)]
    stack.stop()
    events = open_queue(url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(SENT)
    assert stack.count("quarantine") == 0


def value_of(name: str, metrics: str) -> float:
    (line,) = [line for line in metrics.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


@pytest.mark.promise("M7", "M27")
@pytest.mark.parametrize("after_download", ["delete", "mark-read"])
def test_over_imap(after_download: str, redis_url: str, build_stack: Callable[..., Stack]) -> None:
    box = dict(enumerate(SENT[:2], 1))
    read: set[int] = set()

    def refuse(talk: Conversation, tag: bytes, rest: bytes) -> None:
        named = read_set(rest.split(b" ")[0], max(box))
        if b"\\Seen" in rest or not rest.endswith(b")"):
            read.update(named - {STUCK})
            for uid in named - {STUCK} if not rest.endswith(b")") else ():
                box.pop(uid, None)
        words = b" NO [CANNOT] mail is on hold\r\n" if STUCK in named else b" OK done\r\n"
        talk.send(tag + words)

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        found = [uid for uid in sorted(box) if b"UNSEEN" not in rest or uid not in read]
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in found) + b"\r\n")
        talk.ok(tag)

    answers: dict[str, Any] = {"UID SEARCH": search}
    answers["UID EXPUNGE" if after_download == "delete" else "UID STORE"] = refuse
    stack = build_stack(redis_url)
    stack.add_handler()
    with ScriptedServer(imap(answers, live=box)) as server:
        connection = stack.add_plain_connection(
            server.port, name="hold", mode="imap", after_download=after_download
        )

        def deliver(mails: list[bytes]) -> None:
            for raw in mails:
                box[SENT.index(raw) + 1] = raw

        check(stack, connection, deliver, redis_url)


@pytest.mark.promise("M7", "M27")
@pytest.mark.parametrize(
    ("method", "after_download"), [("DELETE", "delete"), ("PATCH", "mark-read")]
)
def test_over_graph(
    method: str,
    after_download: str,
    graph_server: GraphServer,
    oidc: OidcServer,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    graph_server.trust(oidc.public_key)
    box = graph_server.mailbox(ALICE)
    box.deliver(SENT[:2])
    (_, held) = box.in_folder(box.inbox)
    graph_server.fail(held.id, method=method, status=400, code="ErrorCannotDeleteObject", times=99)
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = stack.add_connection(
        password="",
        name="graph",
        mode="microsoft-graph",
        username=ALICE,
        credential_id=application_credential(stack, graph_server, oidc),
        after_download=after_download,
    )
    check(stack, connection, box.deliver, redis_url)


@pytest.mark.promise("M7", "M27")
def test_over_pop3(redis_url: str, build_stack: Callable[..., Stack]) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    with RuledPop3(refuse_deletion=lambda mail: mail.raw == SENT[1]) as server:
        server.deliver("alice", SENT[:2])
        connection = stack.add_plain_connection(
            server.pop3_port, name="hold", mode="pop3", after_download="delete"
        )
        check(stack, connection, lambda mails: server.deliver("alice", mails), redis_url)


SELECTED = b"* 6 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [PERMANENTFLAGS (%s)] ok\r\n%s"
READ_ONLY, READ_WRITE = b"* OK [READ-ONLY] ok\r\n", b"* OK [READ-WRITE] ok\r\n"


@pytest.mark.promise("M7", "M27")
@pytest.mark.parametrize(
    ("selected", "told"),
    [
        (SELECTED % (rb"\Seen", READ_ONLY), "The folder is read-only for this account"),
        (b"NO", "does not let us change this folder: SELECT is not for you"),
        # As Dovecot does where its ACL lacks the right `s`: it takes the flag, and sets nothing.
        (SELECTED % (rb"\Flagged \*", READ_WRITE), "does not set it: mails stay unread"),
    ],
    ids=["read-only", "no SELECT", "flag not kept"],
)
def test_a_folder_that_cannot_be_changed_gives_its_mails_all_the_same(
    selected: bytes, told: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """All of a backlog in one run, each mail once, new ones with the next poll; and it is said."""
    stack = build_stack(redis_url, batch_mails="2")
    stack.add_handler()
    box = dict(enumerate(SENT[:5], 1))
    is_open = [False]

    def select(talk: Conversation, tag: bytes, _: bytes) -> None:
        is_open[0] = selected != b"NO"
        talk.send(selected if is_open[0] else tag + b" NO [NOPERM] SELECT is not for you\r\n")
        if is_open[0]:
            talk.ok(tag)

    def examine(talk: Conversation, tag: bytes, _: bytes) -> None:
        is_open[0] = True
        talk.send(b"* %d EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n" % len(box))
        talk.ok(tag)

    def search(talk: Conversation, tag: bytes, _: bytes) -> None:
        found = b"".join(b" %d" % uid for uid in box)
        closed = tag + b" BAD no folder is open\r\n"
        talk.send(b"* SEARCH" + found + b"\r\n" + tag + b" OK done\r\n" if is_open[0] else closed)

    script = imap({"SELECT": select, "EXAMINE": examine, "UID SEARCH": search}, live=box)
    with ScriptedServer(script) as server, FetcherHere(stack).working() as here:
        connection = stack.add_plain_connection(server.port, name="shared", mode="imap")
        for have in (5, 6):
            box[have] = SENT[have - 1]
            stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
            here.fetcher.dispatcher.run_job([connection], str(new_id()))
            assert here.had() == digests(SENT[:have])
            ((health, code, words, soon),) = stack.query(
                "SELECT health, error ->> 'code', error ->> 'message',"
                " due_at < now() + interval '61 seconds' FROM connection_state"
            )
            assert (health, code, soon) == ("failing", "read-only", True)
            assert told in words
    assert stack.count("settlement") == 6


@pytest.mark.promise("M7", "M27")
def test_new_mails_wait_no_longer_the_more_often_one_was_refused(here: FetcherHere) -> None:
    with RuledPop3(refuse_deletion=lambda mail: True) as server:
        server.deliver("alice", SENT[:1])
        connection = here.stack.add_plain_connection(
            server.pop3_port, name="hold", mode="pop3", after_download="delete"
        )
        for _ in range(4):
            here.run(connection)
    asked = "SELECT failures, due_at - last_run_at, interval_minutes * interval '1 minute' "
    ((failures, delay, interval),) = here.stack.query(
        asked + "FROM connection_state JOIN connection ON id = connection_id"
    )
    assert failures == 4
    assert delay <= interval * 1.1
