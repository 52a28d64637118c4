"""Servers that drip, and whom they hold up: they go on in the slow lane, and fail there in the end.

A run waits half a slice in the common lane and five read time-outs in the slow one, which are half
a second and five seconds here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.breaking import BY_NUMBER, COUNT, MAILS
from tests.integration.test_what_is_told import check_failing, runs
from tests.rig.administrator_view import Telling
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.scripted import (
    Conversation,
    ScriptedServer,
    imap,
    pop3,
    stuffed,
)

pytestmark = pytest.mark.promise("I5", "M8", "M19")

SETTINGS = {"slice_seconds": "1", "read_timeout_seconds": "1"}
WORDS = "The server is too slow: 5 seconds were waited for it"
DRIPPING = 16


def drip(talk: Conversation) -> None:
    """An octet every 0.3 seconds, each in time."""
    while not talk._stopping.wait(0.3):
        talk.send(b"x")


def watch(stack: Stack, port: int, name: str, **fields: Any) -> int:
    values: dict[str, Any] = {"mode": "imap", "security": "none", "username": name, **fields}
    return stack.add_connection(name=name, host="127.0.0.1", port=port, **values)


def just_in_time(talk: Conversation, tag: bytes, rest: bytes) -> None:
    """An answer that takes three fifths of what a single one may: no single one is too slow."""
    for _ in range(10):
        talk.send(b"* OK still at work\r\n")
        talk._stopping.wait(0.3)
    talk.send(b"* STATUS INBOX (MESSAGES 3 UIDNEXT 4 UIDVALIDITY 7 UNSEEN 3)\r\n")
    talk.ok(tag)


def test_it_is_told(redis_url: str, build_stack: Callable[..., Stack]) -> None:
    """First in the common lane, where nothing is said of it, then in the slow one."""
    stack = build_stack(redis_url, **SETTINGS)
    stack.add_handler()
    drips = imap({"LOGIN": just_in_time, "STATUS": just_in_time})
    with ScriptedServer(drips) as server, Telling(stack) as telling:
        connection = watch(stack, server.port, "drips")
        check_failing(stack, telling, connection, WORDS, runs("imap", "try-again"))
        assert telling.metric("fetcher", runs("imap", "slow-lane")) == 1
        asked = "SELECT error ->> 'code', error ->> 'step', lane, failures, due_at > now()"
        told = stack.query(f"{asked} FROM connection_state")
        assert told == [("too-slow", "folder", "fetch-slow", 1, True)]
        stack.stop()
    assert server.connections == 2, "one session in each lane, and none more before its time"


@pytest.mark.promise("I1", "I3")
def test_progress_is_kept(redis_url: str, build_stack: Callable[..., Stack]) -> None:
    """Some mails come, then it drips; each session goes further, and no mail comes twice."""
    given: dict[int, int] = {}

    def retrieve(talk: Conversation, tag: bytes, rest: bytes) -> None:
        given[id(talk)] = given.get(id(talk), 0) + 1
        if given[id(talk)] > 8:
            drip(talk)
        talk.send(b"+OK\r\n" + stuffed(BY_NUMBER[int(rest)]))

    stack = build_stack(redis_url, **SETTINGS)
    stack.add_handler()
    with ScriptedServer(pop3({"RETR": retrieve}, mails=BY_NUMBER)) as server:
        stack.start("scheduler", "fetcher", "decryptor")
        connection = watch(stack, server.port, "drips", mode="pop3")
        stack.wait(lambda: stack.count("message") >= 16, "what came in both lanes is safe")
        for _ in range(4):
            if stack.count("message") < COUNT:
                stack.run_once(connection)
        stack.wait_settled(COUNT)
        health = "SELECT health FROM connection_state"
        stack.wait(lambda: stack.query(health) == [("working",)], "it is well again")
        stack.stop()
    assert stack.count("quarantine") == 0
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(MAILS)


def test_many_that_drip_delay_no_other_beyond_its_interval(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """At two threads a lane, over and over again: their back-off does not count here."""
    few = {"fetch_threads": "2", "fetch_slow_threads": "2", "polls_per_job": "1"}
    stack = build_stack(redis_url, **few, **SETTINGS)
    stack.add_handler()
    mails = [mail(number, 2000, seed=71) for number in range(3)]
    slow = dict.fromkeys(("LOGIN", "STATUS", "EXAMINE"), just_in_time)
    with ScriptedServer(imap(slow)) as server:
        for number in range(DRIPPING):
            watch(stack, server.port, f"drips{number}")
        connection = stack.watch(dovecot, mail_user)
        stack.start("scheduler", "fetcher", "decryptor")
        for count, content in enumerate(mails, 1):
            dovecot.deliver(mail_user, [content])
            stack.hurry()
            stack.wait(lambda: stack.count("delivery") == count, "within its interval", 60)  # noqa: B023
        ((interval,),) = stack.query(
            "SELECT interval_minutes FROM connection WHERE id = %s", connection
        )
        assert interval == 1
        stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
