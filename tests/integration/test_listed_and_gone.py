"""Mails that a server lists and does not have: the others come, and nobody is kept busy.

For an administrator: nothing fails, so that no alert and no metric tells of it; the page of the
connection shows runs that found such a mail and downloaded none.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.fetcher import run_phases
from services.fetcher.run import Run
from shared.clock import new_id
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests
from tests.rig.stack import Stack
from tests.servers.scripted import (
    MAILS,
    Conversation,
    ScriptedServer,
    body_response,
    imap,
    read_set,
)


@pytest.mark.promise("I5")
def test_a_mail_that_is_listed_and_is_not_there_is_asked_for_once_an_interval(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """As Graph and servers with a damaged index list them: no run follows at once, for ever."""

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* SEARCH\r\n" if rest.startswith(b"UID 2") else b"* SEARCH 1 2 3\r\n")
        talk.ok(tag)

    def bodies(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], 3) - {2}):
            talk.send(body_response(uid, MAILS[uid]))
        talk.ok(tag)

    stack = build_stack(redis_url)
    stack.add_handler()
    with (
        ScriptedServer(imap({"UID SEARCH": search, "UID FETCH": bodies})) as server,
        FetcherHere(stack).working() as here,
    ):
        number = stack.add_plain_connection(server.port, name="ghost", mode="imap")
        for _ in range(3):
            stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
            here.fetcher.dispatcher.run_job([number], str(new_id()))
            later = "SELECT due_at > now() + interval '30 minutes', health FROM connection_state"
            assert stack.query(later) == [(True, "working")]
        asked = [line for line in server.heard if b"BODY.PEEK[]" in line]
    assert len(asked) == 3
    assert here.had() == digests([MAILS[1], MAILS[3]])


@pytest.mark.promise("I5", "M4")
def test_mails_behind_as_many_that_are_gone_as_are_listed_at_once_come(
    here: FetcherHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were asked for again and again, and what lay behind them never came."""
    monkeypatch.setattr(run_phases, "_LISTED_AT_ONCE", 2)
    gone = {1, 2}

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked = read_set(rest[4:], 9) - gone if rest.startswith(b"UID ") else {1, 2, 3, 4, 5}
        found = b" ".join(b"%d" % uid for uid in sorted(asked & {1, 2, 3, 4, 5}))
        talk.send(b"* SEARCH " + found + b"\r\n")
        talk.ok(tag)

    def bodies(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], 9) - gone):
            talk.send(body_response(uid, mails[uid]))
        talk.ok(tag)

    mails = {**MAILS, 4: b"Subject: four\r\n\r\n4\r\n", 5: b"Subject: five\r\n\r\n5\r\n"}
    script = imap({"UID SEARCH": search, "UID FETCH": bodies}, mails=mails)
    with ScriptedServer(script) as server:
        number = here.stack.add_plain_connection(server.port, name="ghosts", mode="imap")
        here.stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
        here.fetcher.dispatcher.run_job([number], str(new_id()))
        later = "SELECT due_at > now() + interval '30 minutes', cursor FROM connection_state"
        assert here.stack.query(later) == [(True, None)]
        assert here.had() == digests([mails[uid] for uid in (3, 4, 5)])
        asked = [line for line in server.heard if b"BODY.PEEK[]" in line]
        assert len([line for line in asked if b"FETCH 1" in line or b",1" in line]) == 1
        # A damaged index is mended.
        gone.clear()
        here.run(number)
        assert here.had() == digests(list(mails.values()))


@pytest.mark.promise("I5", "M4")
def test_mails_behind_more_that_are_gone_than_a_run_has_time_for_come(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """The next run goes on behind those that this one asked for, not with them."""
    gone = {1, 2}

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked = read_set(rest[4:], 9) - gone if rest.startswith(b"UID ") else set(mails)
        found = b" ".join(b"%d" % uid for uid in sorted(asked & set(mails)))
        talk.send(b"* SEARCH " + found + b"\r\n")
        talk.ok(tag)

    def bodies(talk: Conversation, tag: bytes, rest: bytes) -> None:
        asked = read_set(rest.split(b" ")[0], 9)
        if asked & gone:
            talk._stopping.wait(1.01)  # as long as a run may last
        for uid in sorted(asked - gone):
            talk.send(body_response(uid, mails[uid]))
        talk.ok(tag)

    mails = dict(MAILS)
    script = imap({"UID SEARCH": search, "UID FETCH": bodies}, mails=mails)
    stack = build_stack(redis_url)
    stack.add_handler()
    here = FetcherHere(stack, slice_seconds="1", batch_mails="1")
    with ScriptedServer(script) as server, here.working():
        number = stack.add_plain_connection(server.port, name="ghosts", mode="imap")
        for had in ([], [], [MAILS[3]]):
            stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
            here.fetcher.dispatcher.run_slow_job([number], str(new_id()))
            assert here.had() == digests(had)
            assert stack.query("SELECT health, cursor FROM connection_state") == [("working", None)]
            soon = "SELECT due_at < now() + interval '30 minutes' FROM connection_state"
            assert had or stack.query(soon) == [(False,)]
        # A damaged index is mended.
        gone.clear()
        here.run_until_idle(number)
        assert here.had() == digests(list(MAILS.values()))


@pytest.mark.promise("I5")
def test_where_time_is_up_among_them_no_run_follows_at_once(
    here: FetcherHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_phases, "_LISTED_AT_ONCE", 2)
    monkeypatch.setattr(Run, "is_over", True)

    def search(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.send(b"* SEARCH\r\n" if rest.startswith(b"UID ") else b"* SEARCH 1 2 3\r\n")
        talk.ok(tag)

    def bodies(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.ok(tag)

    with ScriptedServer(imap({"UID SEARCH": search, "UID FETCH": bodies})) as server:
        number = here.stack.add_plain_connection(server.port, name="ghosts", mode="imap")
        here.stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
        here.fetcher.dispatcher.run_job([number], str(new_id()))
        later = "SELECT due_at > now() + interval '30 minutes', health FROM connection_state"
        assert here.stack.query(later) == [(True, "working")]
        assert [line for line in server.heard if b"BODY.PEEK[]" in line]
