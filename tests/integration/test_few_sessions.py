"""A server that takes few sessions serves all mailboxes: kept sessions give way in turn.

For an administrator: the limit that was met is a warning on the pages of its connections and in the
fetcher's log, with the setting to change, and counts in `posthouse_session_refusals_total`. The
connections stay well, so there is no alert. Where a server takes no session of ours at all, its
connections are failing (test_what_is_told.py: page, `connection-failing`, metric).
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.rig.administrator_view import Telling
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.proxy import Ending, Proxy
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.scripted import Conversation, ScriptedServer, imap

MAILBOXES = 8
LIMIT = 4


@pytest.mark.promise("M27")
@pytest.mark.parametrize("push", [False, True], ids=["polled", "push"])
def test_a_limit_of_four_sessions_and_eight_mailboxes(
    push: bool,
    dovecot: Dovecot,
    mail_user: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    users = [f"{mail_user}-{number}" for number in range(MAILBOXES)]
    sent = [mail(number, 500, seed=44) for number in range(3 * MAILBOXES)]
    for number, user in enumerate(users):
        dovecot.deliver(user, [sent[number]])
    proxy = Proxy(dovecot.imap_port, seed=1, most=LIMIT)
    stack = build_stack(redis_url)
    stack.add_handler()
    with contextlib.closing(proxy), Telling(stack) as telling:
        mailboxes = [stack.watch(dovecot, user, push=push, port=proxy.port) for user in users]
        stack.wait(lambda: stack.count("delivery") == MAILBOXES, "each mailbox gave its mail", 50)
        assert proxy.turned_away > 0
        assert "MAXPERIP" in stack.log_of("fetcher").read_text()
        before = proxy.turned_away
        for round_number in (1, 2):
            for number, user in enumerate(users):
                dovecot.deliver(user, [sent[round_number * MAILBOXES + number]])
            stack.hurry()  # one interval
            wanted = (round_number + 1) * MAILBOXES
            stack.wait(partial(has_deliveries, stack, wanted), "the new mails come", 50)
        # The limit is known by now: nobody runs into it again and again.
        assert proxy.turned_away <= before + 2 * MAILBOXES
        assert stack.query("SELECT DISTINCT health FROM connection_state") == [("working",)]
        telling.log_in()
        page = telling.page(f"/connections/{mailboxes[0]}")
        # Beside a session that is being closed it may look like fewer.
        told = re.search(r"took no more than (\d) sessions? of ours", page)
        assert told is not None, page
        assert 1 <= int(told[1]) <= LIMIT
        assert "MAXPERIP" in page
        assert "Working" in page
        assert telling.alerts() == []
        assert telling.metric("fetcher", "posthouse_session_refusals_total")
        stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(sent)


@pytest.mark.promise("M27")
@pytest.mark.parametrize("ending", ["close", "reset", "command"])
@pytest.mark.parametrize("way", ["imap", "imaps", "pop3"])
def test_however_a_server_ends_one_session_too_many(
    way: str,
    ending: Ending,
    dovecot: Dovecot,
    authority: Authority,
    mail_user: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """At the greeting, by a reset, in the TLS handshake, at the first command: its limit."""
    fields: dict[str, Any] = {}
    if way == "imaps":
        target = dovecot.imaps_port
        fields = {"security": "tls", "ca_certificate": authority.pem}
    elif way == "pop3":
        target, fields = dovecot.pop3_port, {"mode": "pop3"}
    else:
        target = dovecot.imap_port
    greeting = b"+OK ready\r\n" if way == "pop3" else b"* OK ready\r\n"
    users = [f"{mail_user}-{number}" for number in range(6)]
    for number, user in enumerate(users):
        dovecot.deliver(user, [mail(number, 500, seed=45)])
    proxy = Proxy(target, seed=1, most=2, ending=ending, greeting=greeting)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    try:
        for user in users:
            stack.watch(dovecot, user, push=way != "pop3", port=proxy.port, **fields)
        stack.wait(lambda: stack.count("delivery") == len(users), "each mailbox gave its mail", 50)
        asked = "SELECT DISTINCT health FROM connection_state"
        stack.wait(lambda: stack.query(asked) == [("working",)], "all of them are well")
        assert stack.query("SELECT kind FROM alert WHERE kind = 'connection-failing'") == []
        assert stack.query("SELECT error FROM fetch_run WHERE error IS NOT NULL") == []
        stack.stop()
    finally:
        proxy.close()


@pytest.mark.promise("M27")
def test_sessions_of_another_fetcher_give_way_too(
    dovecot: Dovecot, mail_user: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """One keeps all sessions that the server takes; a mailbox of another one is served."""
    users = [f"{mail_user}-{number}" for number in range(3)]
    for number, user in enumerate(users):
        dovecot.deliver(user, [mail(number, 500, seed=47)])
    proxy = Proxy(dovecot.imap_port, seed=1, most=2)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    (first,) = stack.start("fetcher")
    try:
        for user in users[:2]:
            stack.watch(dovecot, user, push=True, port=proxy.port)
        kept = "SELECT count(affinity) FROM connection_state"
        stack.wait(lambda: stack.query(kept) == [(2,)], "the first one keeps two sessions")
        # It is given no more jobs, as a busy one would be; its own mailboxes it looks after itself.
        first.send_signal(signal.SIGSTOP)
        stack.start("fetcher")
        stack.watch(dovecot, users[2], port=proxy.port)
        stack.wait(
            lambda: (send_again(stack), proxy.turned_away > 0)[1], "the other one is turned away"
        )
        first.send_signal(signal.SIGCONT)
        stack.wait(lambda: stack.count("delivery") == 3, "it is served all the same", 50)
        asked = "SELECT DISTINCT health FROM connection_state"
        stack.wait(lambda: stack.query(asked) == [("working",)], "all of them are well")
        assert stack.query("SELECT kind FROM alert WHERE kind = 'connection-failing'") == []
        stack.stop()
    finally:
        first.send_signal(signal.SIGCONT)
        proxy.close()


@pytest.mark.promise("M27")
def test_two_fetchers_leave_room_for_the_person_of_the_mailbox(
    mail_user: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Ten folders of one mailbox on a Dovecot that takes ten sessions of a user, as by default.

    All fetchers together may have five of them. The person comes with four programs at once.
    """
    folders = [f"Team {number}" for number in range(10)]
    limited = Dovecot(extra="mail_max_userip_connections = 10")
    with limited as server, contextlib.ExitStack() as person:
        for number, folder in enumerate(folders):
            server.deliver(mail_user, [mail(number, 500, seed=48)], folder)
        stack = build_stack(redis_url)
        stack.add_handler()
        settings = {"lease_seconds": "5"}
        stack.start("scheduler", "decryptor", settings=settings)
        (first,) = stack.start("fetcher", settings=settings)
        kept = "SELECT count(affinity) FROM connection_state"
        shares = "SELECT held FROM session_share WHERE host LIKE '%% at %%' AND held > 0"
        try:
            for folder in folders[:5]:
                stack.watch(server, mail_user, name=folder, folder=folder)
            stack.wait(lambda: stack.query(kept) == [(5,)], "the first one keeps five sessions")
            # The other half comes to the second fetcher, once the first one is taken for dead,
            # whose sessions are open all the same.
            first.send_signal(signal.SIGSTOP)
            stack.start("fetcher", settings=settings)
            for folder in folders[5:]:
                stack.watch(server, mail_user, name=folder, folder=folder)
            stack.wait(
                lambda: (send_again(stack), stack.count("delivery") == 10)[1],
                "each folder gave its mail",
            )
            first.send_signal(signal.SIGCONT)
            stack.wait(partial(are_shared, stack, shares), "both together have five sessions")
            programs = [person.enter_context(server.client(mail_user)) for _ in range(4)]
            for number, folder in enumerate(folders):
                programs[0].append(folder, mail(10 + number, 500, seed=48))
            stack.hurry()
            stack.wait(lambda: stack.count("delivery") == 20, "the new mails come beside them", 50)
            asked = "SELECT DISTINCT health FROM connection_state"
            assert stack.query(asked) == [("working",)]
            stack.stop()
        finally:
            first.send_signal(signal.SIGCONT)
        assert "Maximum number of connections" not in server.log.read_text()


def send_again(stack: Stack) -> None:
    """Jobs for mailboxes that had no run: one that a stopped fetcher had asked the broker for
    stands still with it, and would be sent again after an interval."""
    stack.execute(
        "UPDATE connection_state SET due_at = now() WHERE due_at > now() AND last_run_at IS NULL"
    )


def are_shared(stack: Stack, shares: str) -> bool:
    held = [number for (number,) in stack.query(shares)]
    return len(held) == 2 and sum(held) <= 5


def has_deliveries(stack: Stack, wanted: int) -> bool:
    return stack.count("delivery") == wanted


@pytest.mark.promise("M27")
@pytest.mark.parametrize(
    "words",
    [
        "Already connected 16 times",
        "Zu viele Verbindungen",
        "Nombre de sessions ouvertes",
        "E4711",
        "No slot",
    ],
    ids=["english", "german", "french", "number", "short"],
)
def test_a_limit_in_words_that_nobody_knows_serves_all_mailboxes(
    words: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Nothing in them is about the login, and one session less helps: it was one too many."""
    stack = build_stack(redis_url)
    stack.add_handler()
    with limited(words) as server, FetcherHere(stack).working() as here:
        mailboxes = [
            stack.add_plain_connection(
                server.port, name=f"mailbox {number}", mode="imap", username=f"user-{number}"
            )
            for number in range(4)
        ]
        for _ in range(2):
            for mailbox in mailboxes:
                here.run(mailbox)
    assert stack.query("SELECT DISTINCT health FROM connection_state") == [("working",)]
    assert stack.query("SELECT error FROM fetch_run WHERE error IS NOT NULL") == []


@pytest.mark.promise("M27", "M14")
def test_a_login_that_is_refused_in_strange_words_is_told_all_the_same(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """With one session less it is refused as before: this is no limit."""
    stack = build_stack(redis_url)
    stack.add_handler()
    with limited("E4711", most=9, never="user-1") as server, FetcherHere(stack).working() as here:
        for number in range(3):
            mailbox = stack.add_plain_connection(
                server.port, name=f"mailbox {number}", mode="imap", username=f"user-{number}"
            )
            here.run(mailbox)
    asked = "SELECT health, error ->> 'code' FROM connection_state ORDER BY connection_id"
    assert stack.query(asked) == [
        ("working", None),
        ("failing", "login-refused"),
        ("working", None),
    ]


def limited(words: str, most: int = 2, never: str = "") -> ScriptedServer:
    """An IMAP server that refuses logins beyond `most` at a time, and those of `never`."""
    sessions: set[Conversation] = set()

    def log_in(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if len(sessions) >= most or (never and never.encode() in rest):
            talk.send(tag + b" NO " + words.encode() + b"\r\n")
            return
        sessions.add(talk)
        talk.ok(tag)

    usual = imap({"LOGIN": log_in})

    def script(talk: Conversation) -> None:
        try:
            usual(talk)
        finally:
            sessions.discard(talk)

    return ScriptedServer(script)
