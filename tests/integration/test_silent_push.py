"""A server that takes IDLE and never tells: the polls find the mails, and that is said."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from shared.storage import scheduling
from shared.storage.pool import DatabaseUnavailable
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.scripted import CAPABILITY, Conversation, ScriptedServer, imap


def taken_and_never_told(talk: Conversation, tag: bytes, _: bytes) -> None:
    talk.send(b"+ idling\r\n")
    talk.line()
    talk.ok(tag)


def away(*_: object) -> bool:
    raise DatabaseUnavailable("Postgres does not answer.")


@pytest.mark.promise("M27")
def test_polls_notice_that_idle_never_tells(
    redis_url: str, build_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {1: mail(1, 300, seed=9)}
    script = imap(
        {"IDLE": taken_and_never_told},
        capability=CAPABILITY + b" IDLE",
        live=there,
        settles=True,
    )
    with ScriptedServer(script) as server:
        stack = build_stack(redis_url)
        stack.add_handler()
        stack.start("scheduler", "decryptor")
        number = stack.add_plain_connection(
            server.port, name="silent", mode="imap", selection="all", push=True
        )
        silent = "SELECT push_silent FROM connection_state"
        with FetcherHere(stack).working() as fetcher:
            minutes = [0.0]
            fetcher.fetcher.dispatcher.ends.push_events._clock = lambda: (
                time.monotonic() + 60 * minutes[0]
            )
            fetcher.run(number)
            for uid in range(2, 8):
                assert stack.query(silent) == [(False,)], uid
                minutes[0] += 1
                there[uid] = mail(uid, 300, seed=9)
                with monkeypatch.context() as patched:
                    if uid == 6:  # where Postgres is away, the next run says it
                        patched.setattr(scheduling, "record_push_silence", away)
                    fetcher.run(number)
                assert stack.count("message") == uid
            assert stack.query(silent) == [(True,)]
        stack.stop()
