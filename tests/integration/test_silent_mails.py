"""A server that says nothing more at a mail keeps the others from nobody.

Each such mail costs a read time-out, which is longer than a slice: the run goes on all the same.

For an administrator: as in test_several_breaking_mails.py; the reason says that nothing was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from services.fetcher import run
from services.fetcher.run import MOST_SILENCES
from tests.integration.test_what_is_told import check_quarantined, quarantined
from tests.rig.administrator_view import Telling
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.pop3_rules import RuledPop3, gmail_rules
from tests.servers.scripted import Conversation, ScriptedServer, body_response, imap, read_set

pytestmark = pytest.mark.promise("M27", "H4", "I5")

#: A slice of a second, of which the common lane waits half; five time-outs in the slow lane.
SETTINGS = {"slice_seconds": "1", "read_timeout_seconds": "1"}
COUNT = 12
MAILS = [mail(number, 600, seed=13) for number in range(COUNT)]
BY_NUMBER = dict(enumerate(MAILS, 1))


def silent_imap(bad: list[bytes]) -> ScriptedServer:
    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], COUNT)):
            if BY_NUMBER[uid] in bad:
                talk.say_nothing()
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.ok(tag)

    return ScriptedServer(imap({"UID FETCH": fetch}, mails=BY_NUMBER, settles=True))


def silent_pop3(bad: list[bytes], server: RuledPop3) -> RuledPop3:
    server.is_silent = lambda stored: stored.raw in bad
    server.deliver("alice", MAILS)
    return server


SERVERS: dict[str, Callable[[list[bytes]], AbstractContextManager[Any]]] = {
    "imap": silent_imap,
    "pop3": lambda bad: silent_pop3(bad, RuledPop3(pipelining=True)),
    "gmail": lambda bad: silent_pop3(bad, gmail_rules()),
}


def watch(stack: Stack, server: Any, after_download: str) -> int:
    is_pop3 = isinstance(server, RuledPop3)
    return stack.add_connection(
        name="silent",
        mode="pop3" if is_pop3 else "imap",
        host="127.0.0.1",
        port=server.pop3_port if is_pop3 else server.port,
        security="none",
        username="alice",
        after_download=after_download,
    )


@pytest.mark.parametrize(
    ("server", "after_download", "bad"),
    [("imap", "mark-read", {2, 6, 10}), ("pop3", "delete", {1, 2}), ("gmail", "delete", {5, 12})],
)
def test_several_silent_mails_cost_the_others_no_interval_each(
    server: str,
    after_download: str,
    bad: set[int],
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    others = [raw for number, raw in BY_NUMBER.items() if number not in bad]
    stack = build_stack(redis_url, **SETTINGS)
    stack.add_handler()
    with SERVERS[server]([BY_NUMBER[number] for number in bad]) as there:
        stack.start("scheduler", "fetcher", "decryptor")
        watch(stack, there, after_download)
        stack.wait(lambda: stack.count("delivery") == len(others), "every other mail is delivered")
        # At once in the common lane, then in the slow one: none waited for another interval.
        ((failures,),) = stack.query("SELECT failures FROM connection_state")
        assert failures <= 1
        stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(others)


def test_a_silent_mail_is_quarantined(redis_url: str, build_stack: Callable[..., Stack]) -> None:
    stack = build_stack(redis_url, **SETTINGS)
    stack.add_handler()
    with SERVERS["pop3"]([MAILS[4]]) as there, Telling(stack) as telling:
        watch(stack, there, "delete")
        words = "the session ended each time"
        check_quarantined(stack, telling, words, quarantined("breaks-session"))
        ((reason,),) = stack.query("SELECT reason FROM quarantine")
        assert "sent nothing for 1 seconds" in reason
        stack.wait_settled(COUNT - 1)
        assert there.left("alice") == [MAILS[4]]
        stack.stop()


class Silent:
    """A server at whose `bad` mails nothing comes, and at `late` ones only after a while."""

    def __init__(self, bad: set[int], late: int) -> None:
        self.bad, self.late = bad, late
        self.asked: list[int] = []

    def fetch(self, talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], COUNT)):
            if uid in self.bad:
                self.asked.append(uid)
                talk.say_nothing()
            if uid == self.late:
                talk._stopping.wait(0.6)
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.ok(tag)


def test_silent_mails_cost_a_run_little_and_are_quarantined_after_a_whole_wait(
    redis_url: str, build_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others come within two runs. One that only takes its time is never quarantined."""
    monkeypatch.setattr(run, "_LEAST_WAIT_S", 0.2)
    there = Silent({2, 6, 10}, late=8)
    script = imap({"UID FETCH": there.fetch}, mails=BY_NUMBER, settles=True)
    stack = build_stack(redis_url, slice_seconds="60", read_timeout_seconds="1")
    stack.add_handler()
    others = [raw for number, raw in BY_NUMBER.items() if number not in {2, 6, 8, 10}]
    with ScriptedServer(script) as server, FetcherHere(stack).working() as here:
        connection = stack.add_plain_connection(server.port, name="silent", mode="imap")
        for number in range(1, 13):
            there.asked.clear()
            here.run(connection)
            assert len(there.asked) <= MOST_SILENCES
            if number == 2:
                assert set(here.had()) >= set(digests(others))
            if stack.count("quarantine") == 3:
                break
        here.run_until_idle(connection)
        assert here.had() == sorted([*digests(others), *digests([BY_NUMBER[8]])])
    reasons = dict(stack.query("SELECT native_key, reason FROM quarantine"))
    assert reasons.keys() == {"2", "6", "10"}
    assert all("sent nothing for 1 seconds" in reason for reason in reasons.values())
    assert stack.query("SELECT health FROM connection_state") == [("working",)]
    waits = {text for (text,) in stack.query("SELECT error ->> 'message' FROM fetch_run") if text}
    assert "The mail server sent nothing for 0.2 seconds." in waits, "each cost a whole wait"
