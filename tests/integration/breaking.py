"""Mail servers that break at one mail, and what a run makes of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.scripted import (
    Answer,
    Conversation,
    body_response,
    read_set,
    stuffed,
)

COUNT = 20


BAD = 7


MAILS = [mail(number, 600, seed=41) for number in range(COUNT)]


BY_NUMBER = dict(enumerate(MAILS, 1))


OTHERS = [raw for number, raw in BY_NUMBER.items() if number != BAD]


ALICE = "alice@example.org"


def hangs_up(talk: Conversation, tag: bytes) -> None:
    talk.hang_up()


def hangs_up_in_the_middle(talk: Conversation, tag: bytes) -> None:
    talk.send(body_response(BAD, BY_NUMBER[BAD])[:200])
    talk.hang_up()


def says_goodbye(talk: Conversation, tag: bytes) -> None:
    talk.send(b"* BYE Cached message size larger than expected\r\n")
    talk.hang_up()


def talks_nonsense(talk: Conversation, tag: bytes) -> None:
    talk.send(b"\0\0\0 core dumped\r\n")
    talk.say_nothing()


def refuses(talk: Conversation, tag: bytes) -> None:
    talk.send(tag + b" NO [SERVERBUG] Internal error occurred\r\n")


def breaking_imap(breaks: Callable[[Conversation, bytes], None]) -> Answer:
    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], COUNT)):
            if uid == BAD:
                breaks(talk, tag)
                return
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.ok(tag)

    return fetch


def breaking_pop3(breaks: Callable[[Conversation, bytes], None]) -> Answer:
    def retrieve(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if int(rest) == BAD:
            breaks(talk, tag)
        talk.send(b"+OK\r\n" + stuffed(BY_NUMBER[int(rest)]))

    return retrieve


def run(stack: Stack, connection: int) -> None:
    """One interval: what is due by then."""
    stack.run_once(connection)


def check_two_intervals(stack: Stack, connection: int, redis_url: str, others: list[bytes]) -> None:
    """The first run began by itself; one more and every other mail is there."""
    ended = "SELECT last_run_at IS NOT NULL FROM connection_state"
    stack.wait(lambda: stack.query(ended) == [(True,)], "the first run")
    if stack.count("message") < len(others):
        asked = "SELECT health, error ->> 'message' FROM connection_state"
        ((health, message),) = stack.query(asked)
        assert health == "failing"
        assert message
        told = "SELECT data ->> 'message' FROM alert WHERE kind = 'connection-failing'"
        assert stack.query(told) == [(message,)]
        run(stack, connection)
    stack.wait(lambda: stack.count("delivery") == len(others), "every other mail is delivered", 20)
    assert sorted(
        event["data"]["sha256"] for event in open_queue(redis_url, "archive").events()
    ) == digests(others)


def check_quarantined(stack: Stack, connection: int, code: str) -> None:
    """After some more intervals the mail is quarantined, told of, and the connection is well."""
    for _ in range(3):
        if stack.count("quarantine"):
            break
        run(stack, connection)
    ((found, reason),) = stack.query("SELECT code, reason FROM quarantine")
    assert found == code, reason
    told = "SELECT data ->> 'code' FROM alert WHERE kind = 'mail-quarantined'"
    stack.wait(lambda: stack.query(told) == [(code,)], "the alert")
    asked = "SELECT health FROM connection_state"
    stack.wait(lambda: stack.query(asked) == [("working",)], "the connection is well")
    run(stack, connection)
    assert stack.query(asked) == [("working",)]
    assert stack.count("quarantine") == 1
    assert stack.count("download_failure") == 0
