"""Breaks that are not the mail's fault, or look like it: links that are cut, farewells, our own.

For an administrator: page, alert and metric as in test_breaking_mails.py where a mail is the cause,
and as in test_throttled_downloads.py where the server is.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.breaking import (
    BAD,
    BY_NUMBER,
    COUNT,
    MAILS,
    OTHERS,
    breaking_imap,
    check_quarantined,
    check_two_intervals,
    hangs_up,
    run,
)
from tests.rig.mails import digests
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.scripted import (
    Conversation,
    ScriptedServer,
    body_response,
    imap,
    pop3,
    read_set,
    stuffed,
)

#: How many octets of the bad mail come in one session after the other; then the link is well.
LINKS = {
    "at different octets": (100, 300, 20, 250),
    "twice before the first octet": (300, 0, 0),
    "twice at the same octet": (300, 64, 64),
}


@pytest.mark.promise("M27", "I1", "H4")
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_a_link_that_is_cut_again_and_again_at_one_mail_is_not_the_mails_fault(
    mode: str, link: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Others come all the time. To be seen is a connection that fails, and recovers (page, alerts
    `connection-failing` and `connection-recovered`), and nothing in quarantine."""
    cuts = iter(LINKS[link])
    answers: list[int] = []

    def answer(talk: Conversation, whole: bytes, prefix: int) -> None:
        come = next(cuts, None)
        if come is None:
            talk.send(whole)
            return
        answers.append(come)
        talk.send(whole[: prefix + come if come else 0])
        talk.hang_up()

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], COUNT)):
            whole = body_response(uid, BY_NUMBER[uid])
            if uid == BAD:
                answer(talk, whole, whole.index(b"}\r\n") + 3)
            else:
                talk.send(whole)
        talk.ok(tag)

    def retrieve(talk: Conversation, tag: bytes, rest: bytes) -> None:
        whole = b"+OK\r\n" + stuffed(BY_NUMBER[int(rest)])
        if int(rest) == BAD:
            answer(talk, whole, len(b"+OK\r\n"))
        else:
            talk.send(whole)

    stack = build_stack(redis_url)
    stack.add_handler()
    script = (
        imap({"UID FETCH": fetch}, mails=BY_NUMBER, settles=True)
        if mode == "imap"
        else pop3({"RETR": retrieve}, mails=BY_NUMBER)
    )
    with ScriptedServer(script) as there:
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.add_plain_connection(
            there.port, name="cut", mode=mode, after_download="mark-read"
        )
        check_two_intervals(stack, connection, redis_url, OTHERS)
        for _ in LINKS[link]:
            if stack.count("message") < COUNT:
                assert stack.query("SELECT health FROM connection_state") == [("failing",)]
                run(stack, connection)
        stack.wait(lambda: stack.count("delivery") == COUNT, "the mail at which it was cut", 20)
        asked = "SELECT health FROM connection_state"
        stack.wait(lambda: stack.query(asked) == [("working",)], "the connection is well")
        stack.stop()
    assert tuple(answers) == LINKS[link]
    assert stack.count("quarantine") == 0
    assert stack.count("download_failure") == 0
    told = {kind for (kind,) in stack.query("SELECT kind FROM alert")}
    assert told <= {"connection-failing", "connection-recovered"}
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(MAILS)


@pytest.mark.promise("M27", "H4")
def test_a_mail_that_no_session_ever_brings_is_quarantined_wherever_they_end(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Too large for the link, or a server that fails anywhere in it: it is not tried for ever."""
    come = 0

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        nonlocal come
        for uid in sorted(read_set(rest.split(b" ")[0], COUNT)):
            if uid == BAD:
                come += 1
                talk.send(body_response(uid, BY_NUMBER[uid])[: 100 + come])
                talk.hang_up()
            talk.send(body_response(uid, BY_NUMBER[uid]))
        talk.ok(tag)

    stack = build_stack(redis_url)
    stack.add_handler()
    with ScriptedServer(imap({"UID FETCH": fetch}, mails=BY_NUMBER, settles=True)) as there:
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.add_plain_connection(there.port, name="never", mode="imap")
        check_two_intervals(stack, connection, redis_url, OTHERS)
        while come < 6:
            assert stack.count("quarantine") == 0
            run(stack, connection)
        check_quarantined(stack, connection, "breaks-session")
        stack.stop()
    ((reason,),) = stack.query("SELECT reason FROM quarantine")
    assert "6 times" in reason
    assert "octets of it" in reason


#: What a server says of itself as it ends a session, at whatever mail.
FAREWELLS = {
    "unavailable": b"[UNAVAILABLE] Server shutting down, try again",
    "throttled": b"[OVERQUOTA] Account exceeded command or bandwidth limits",
}


@pytest.mark.promise("M27", "I1")
@pytest.mark.parametrize("words", FAREWELLS)
def test_a_server_that_ends_each_session_after_one_mail_is_not_the_mails_fault(
    words: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Before the first octet of the next one, with words about itself. To be seen is a connection
    that fails with those words (page, alert `connection-failing`, posthouse_fetch_runs_total),
    and nothing in quarantine."""
    few = {number: BY_NUMBER[number] for number in range(1, 7)}
    given: dict[int, int] = {}

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        for uid in sorted(read_set(rest.split(b" ")[0], len(few))):
            given[id(talk)] = given.get(id(talk), 0) + 1
            if given[id(talk)] > 1:
                talk.send(b"* BYE " + FAREWELLS[words] + b"\r\n")
                talk.hang_up()
            talk.send(body_response(uid, few[uid]))
        talk.ok(tag)

    stack = build_stack(redis_url)
    stack.add_handler()
    with ScriptedServer(imap({"UID FETCH": fetch}, mails=few, settles=True)) as there:
        stack.start("scheduler", "fetcher", "decryptor")
        connection = stack.add_plain_connection(there.port, name="away", mode="imap")
        ended = "SELECT last_run_at IS NOT NULL FROM connection_state"
        stack.wait(lambda: stack.query(ended) == [(True,)], "the first run")
        asked = "SELECT health, error ->> 'message' FROM connection_state"
        ((health, message),) = stack.query(asked)
        assert health == "failing"
        assert FAREWELLS[words].decode() in message
        told = "SELECT data ->> 'message' FROM alert WHERE kind = 'connection-failing'"
        assert stack.query(told) == [(message,)]
        for _ in range(12):
            if stack.count("message") < len(few):
                run(stack, connection)
                assert stack.count("quarantine") == 0
        stack.wait(lambda: stack.count("delivery") == len(few), "each mail is delivered", 20)
        stack.stop()
    assert stack.count("download_failure") == 0
    assert stack.query("SELECT 1 FROM alert WHERE kind = 'mail-quarantined'") == []
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(list(few.values()))


@pytest.mark.promise("M27")
def test_a_mail_alone_in_its_mailbox_is_not_blamed_for_what_may_be_the_server(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """While nothing else comes, the server may be as much the cause: it is failing, and says so."""
    stack = build_stack(redis_url)
    stack.add_handler()
    script = imap({"UID FETCH": breaking_imap(hangs_up)}, mails={BAD: BY_NUMBER[BAD]})
    with ScriptedServer(script) as there:
        stack.start("scheduler", "fetcher")
        connection = stack.add_plain_connection(there.port, name="broken", mode="imap")
        for _ in range(4):
            stack.run_once(connection)
        stack.stop()
    assert stack.query("SELECT health FROM connection_state") == [("failing",)]
    assert stack.count("quarantine") == 0


@pytest.mark.promise("M27", "I1")
def test_our_own_failures_are_no_break_by_a_mail(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """The store cannot be written, four times in the middle of the same mails."""
    stack = build_stack(redis_url)
    stack.add_handler()
    with ScriptedServer(imap(mails=BY_NUMBER, settles=True)) as there:
        stack.start("scheduler", "decryptor")
        stack.start("fetcher", settings={"max_message_bytes": "100000"})
        raw = stack.store / "raw"
        stack.wait(stack.store.exists, "the store is there")
        raw.parent.mkdir(exist_ok=True)
        if raw.exists():
            raw.rename(stack.store / "raw-aside")
        raw.write_text("a file where the folder of raw mails belongs")
        connection = stack.add_plain_connection(there.port, name="ours", mode="imap")
        for _ in range(4):
            stack.run_once(connection)
        assert stack.query("SELECT health FROM connection_state") == [("failing",)]
        assert stack.count("download_failure") == 0
        raw.unlink()
        stack.fetch_now(connection)
        stack.wait_settled(COUNT)
        stack.stop()
    assert stack.count("quarantine") == 0
