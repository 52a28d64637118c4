"""How long a run lasts: a backlog lets others in, and each run brings mails.

For an administrator: there is nothing to do, so that page, alerts and metrics say that all is well;
how far a backlog is shows on the page of its connection (test_what_is_told.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from shared.clock import new_id
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.scripted import Conversation, ScriptedServer, imap

pytestmark = pytest.mark.promise("I5", "M27")

MAILS = [mail(number, 600, seed=51) for number in range(8)]
BY_NUMBER = dict(enumerate(MAILS, 1))
#: A batch a mail; a slice of a second.
SETTINGS = {"batch_mails": "1", "slice_seconds": "1", "read_timeout_seconds": "20"}


@pytest.fixture
def here(redis_url: str, build_stack: Callable[..., Stack]) -> Iterator[FetcherHere]:
    stack = build_stack(redis_url, **SETTINGS)
    stack.add_handler()
    with FetcherHere(stack).working() as fetcher:
        yield fetcher


def watch(here: FetcherHere, server: ScriptedServer) -> int:
    return here.stack.add_plain_connection(server.port, name="slow", mode="imap")


def run_slowly(here: FetcherHere, connection: int) -> None:
    """One run in the slow lane."""
    here.stack.hasten()
    here.fetcher.dispatcher.run_slow_job([connection], str(new_id()))


def lane(here: FetcherHere) -> list[tuple[object, ...]]:
    return here.stack.query("SELECT lane, health, failures FROM connection_state")


def test_a_backlog_lets_others_in(here: FetcherHere) -> None:
    def reached(step: str) -> None:
        if step == "downloaded":
            time.sleep(0.6)  # a server that gives two mails in a slice

    with ScriptedServer(imap(mails=BY_NUMBER, settles=True)) as server:
        connection = watch(here, server)
        here.reached = reached
        run_slowly(here, connection)
        assert 0 < len(here.had()) < len(MAILS) - 2
        assert lane(here) == [("fetch-slow", "working", 0)]
        here.stop_failing()
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)


def test_a_server_that_lists_for_longer_than_a_slice_gives_mails_in_each_run(
    here: FetcherHere,
) -> None:
    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        time.sleep(1.1)
        talk.send(b"* SEARCH" + b"".join(b" %d" % uid for uid in BY_NUMBER) + b"\r\n")
        talk.ok(tag)

    with ScriptedServer(imap({"UID SEARCH": search}, mails=BY_NUMBER)) as server:
        connection = watch(here, server)
        for run in (1, 2):
            run_slowly(here, connection)
            assert len(here.had()) >= run
