"""Push through a whole stack: intervals are an hour here, so that whatever arrives was pushed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.clock import new_id
from shared.storage import connections, scheduling
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot

HOUR = 60


@pytest.fixture
def server() -> Iterator[Dovecot]:
    """A server of the test's own: its sessions are counted, and it is stopped."""
    with Dovecot(lmtp=True) as dovecot:
        yield dovecot


def listeners(server: Dovecot) -> int:
    """TCP sessions that are open at the server's IMAP port."""
    port = f":{server.imap_port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(row[2].endswith(port) and row[3] == "01" for row in rows)


def pushed(stack: Stack, server: Dovecot, user: str, **fields: object) -> int:
    """A connection whose session listens by now."""
    before = at_home(stack)
    connection = stack.watch(server, user, push=True, interval_minutes=HOUR, **fields)
    stack.wait(lambda: at_home(stack) - before == {connection}, "it is at home")
    return connection


def at_home(stack: Stack) -> set[int]:
    rows = stack.query("SELECT connection_id FROM connection_state WHERE affinity IS NOT NULL")
    return {row[0] for row in rows}


def home_of(stack: Stack, connection: int) -> int | None:
    """The process id of the fetcher that keeps the session."""
    ((home,),) = stack.query(
        "SELECT affinity FROM connection_state WHERE connection_id = %s", connection
    )
    return None if home is None else int(home.split("/")[1])


@pytest.mark.promise("M4", "H1")
def test_a_mail_is_handed_over_as_soon_as_it_arrives(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    pushed(stack, server, mail_user)
    for number in range(1, 4):
        server.deliver_lmtp([mail_user], [mail(number, 2000)])
        stack.wait_settled(number)
    events = open_queue(redis_url, "archive").events()
    subjects = [event["data"]["headers"]["subject"] for event in events]
    assert subjects == ["Mail number 1", "Mail number 2", "Mail number 3"]


@pytest.mark.promise("M4")
def test_others_take_over_from_a_fetcher_that_died(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url, lease_seconds="5")
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    fetchers = {child.pid: child for child in stack.start("fetcher", "fetcher")}
    connection = pushed(stack, server, mail_user)
    server.deliver_lmtp([mail_user], [mail(1, 2000)])
    stack.wait_settled(1)
    holder = home_of(stack, connection)
    assert holder is not None
    stack.kill(fetchers.pop(holder))
    stack.wait(lambda: home_of(stack, connection) in fetchers, "the other one has it")
    server.deliver_lmtp([mail_user], [mail(2, 2000)])
    stack.wait_settled(2)


@pytest.mark.promise("M4")
def test_a_session_that_the_server_ends_is_opened_again(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    pushed(stack, server, mail_user)
    stack.wait(lambda: listeners(server) == 1, "it listens")
    server.stop()
    stack.wait(lambda: listeners(server) == 0, "nobody listens")
    server.start()
    server.deliver(mail_user, [mail(1, 2000)])
    stack.wait_settled(1)
    server.deliver_lmtp([mail_user], [mail(2, 2000)])
    stack.wait_settled(2)


@pytest.mark.promise("M13", "M18")
def test_the_session_ends_with_what_it_was_opened_for(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    handler = stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = pushed(stack, server, mail_user)
    stack.wait(lambda: listeners(server) == 1, "it listens")

    stack.query("UPDATE connection SET folder = 'Sub', updated_at = now() RETURNING id")
    with server.client(mail_user) as other:
        other.create_folder("Sub")
    stack.fetch_now(connection)
    stack.wait(
        lambda: stack.query("SELECT 1 FROM connection_state WHERE cursor->>'messages' = '0'") != [],
        "the other folder was looked at",
    )
    server.deliver(mail_user, [mail(1, 2000)], "Sub")
    stack.wait_settled(1)
    stack.wait(lambda: listeners(server) == 1, "one session listens, on the other folder")

    stack.query("UPDATE handler SET enabled = false WHERE id = %s RETURNING id", handler)
    stack.wait(lambda: listeners(server) == 0, "nobody takes the mails")
    assert at_home(stack) == set()

    stack.query("UPDATE handler SET enabled = true WHERE id = %s RETURNING id", handler)
    stack.fetch_now(connection)
    stack.wait(lambda: listeners(server) == 1, "it listens again")
    with stack.database.transaction() as session:
        session.execute("UPDATE connection SET enabled = false, updated_at = now()")
        scheduling.disable(session, connection)
    stack.wait(lambda: listeners(server) == 0, "it was disabled")
    with stack.database.transaction() as session:
        connections.delete(session, connection)


@pytest.mark.promise("M9", "M10", "M17")
def test_mails_that_are_left_alone_cause_no_runs(
    request: pytest.FixtureRequest,
    redis_url: str,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    server: Dovecot = request.getfixturevalue("logging_dovecot")
    server.prepare_rawlog(mail_user)
    server.deliver(mail_user, [mail(n, 1000) for n in range(3)])
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = stack.watch(server, mail_user, push=True, interval_minutes=HOUR)
    with stack.database.transaction() as session:
        connections.start_from(session, connection, since=None, skip_existing=True)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait(lambda: at_home(stack) == {connection}, "it is at home")
    server.deliver(mail_user, [mail(10, 1000)])
    stack.wait_settled(1)
    with server.client(mail_user) as person:  # reads, and sets unread what was handed over
        person.select_folder("INBOX")
        person.add_flags([1, 2], [rb"\Seen"])
        person.remove_flags([2, 4], [rb"\Seen"])
    said = -1
    quiet_since = time.monotonic()
    deadline = quiet_since + 30
    while time.monotonic() - quiet_since < 3:
        if (now := len(server.commands(mail_user))) != said:
            said, quiet_since = now, time.monotonic()
        assert time.monotonic() < deadline, "it never comes to rest"
        time.sleep(0.1)
    assert any(line.endswith(" IDLE") for line in server.commands(mail_user))
    assert stack.count("message") == 1


@pytest.mark.promise("M4")
def test_mailboxes_are_spread_over_fetchers(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url, lease_seconds="5")
    stack.add_handler()
    (first,) = stack.start("scheduler", "fetcher", "decryptor")[1:2]
    watched = {
        stack.watch(server, f"{mail_user}-{n}", push=True, interval_minutes=HOUR) for n in range(16)
    }
    stack.wait(lambda: at_home(stack) == watched, "all are at home")
    assert {home_of(stack, c) for c in watched} == {first.pid}
    (second,) = stack.start("fetcher")

    def spread() -> bool:
        homes = [home_of(stack, c) for c in watched]
        # Who gets one that was given up is chance; the first keeps at most 14 (`_UNEVEN`).
        return None not in homes and homes.count(second.pid) >= 2

    stack.wait(spread, "the second one has some")
    server.deliver_lmtp([f"{mail_user}-{n}" for n in range(16)], [mail(1, 2000)])
    stack.wait_settled(16)
    # An orderly end gives them back at once.
    second.terminate()
    second.wait()
    stack.processes.remove(second)
    stack.wait(
        lambda: {home_of(stack, c) for c in watched} == {first.pid}, "the first has them again"
    )


@pytest.mark.promise("M4")
def test_due_mailboxes_are_polled_over_open_sessions(
    redis_url: str,
    authority: Authority,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Without push: one login a mailbox, however often it is polled."""
    with Dovecot(tls=authority.issue("localhost", "127.0.0.1"), lmtp=True) as server:
        stack = build_stack(redis_url)
        stack.add_handler()
        stack.start("scheduler", "fetcher", "decryptor")
        users = [f"{mail_user}-{n}" for n in range(30)]
        for user in users:
            stack.watch(
                server,
                user,
                port=server.imaps_port,
                security="tls",
                ca_certificate=authority.pem,
                interval_minutes=15,
            )
        stack.wait(lambda: len(at_home(stack)) == 30, "all are at home")
        for number in range(1, 4):
            server.deliver_lmtp([users[number]], [mail(number, 2000)])
            before = _runs(stack)
            stack.hurry()
            stack.wait(
                lambda before=before: all(  # type: ignore[misc]
                    now > before[i] for i, now in _runs(stack).items()
                ),
                "every mailbox was polled",
            )
            stack.wait_settled(number)
        logins = re.findall(r"Login: user=<([^>]+)>", server.log.read_text())
        assert sorted(logins) == sorted(users)


@pytest.mark.promise("M4")
def test_the_interval_counts_from_the_last_look_that_a_push_asked_for(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """Due by its interval it has nothing else, so no poll is sent; what comes then is told all the
    same."""
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = pushed(stack, server, mail_user)
    stack.wait(lambda: listeners(server) == 1, "it listens")
    ran = _runs(stack)
    server.deliver_lmtp([mail_user], [mail(1, 2000)])
    stack.wait_settled(1)
    stack.wait(
        lambda: _runs(stack)[connection] > ran[connection], "the run that it asked for ended"
    )
    takes = "SELECT 1 FROM fetcher WHERE takes_jobs_until > now()"
    stack.wait(lambda: stack.query(takes) != [], "its fetcher says the second time that it lives")
    stack.execute(
        "UPDATE connection_state SET emitted_at = now() - interval '1 hour',"
        " due_at = now(), interval_due_at = now()"
    )
    later = "SELECT 1 FROM connection_state WHERE due_at > now() + interval '50 minutes'"
    stack.wait(lambda: stack.query(later) != [], "it was due, and is due later")
    emitted = "SELECT 1 FROM connection_state WHERE emitted_at < now() - interval '50 minutes'"
    assert stack.query(emitted) == [(1,)]
    server.deliver_lmtp([mail_user], [mail(2, 2000)])
    stack.wait_settled(2)
    ran = _runs(stack)
    stack.fetch_now(connection)
    stack.wait(
        lambda: _runs(stack)[connection] > ran[connection], "who asks for a run gets one at once"
    )


def _runs(stack: Stack) -> dict[int, float]:
    return dict(
        stack.query("SELECT connection_id, extract(epoch FROM last_run_at) FROM connection_state")
    )


@pytest.mark.promise("M4")
def test_a_session_that_listens_is_renewed_whatever_the_interval(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """The name of its server may lead to another one, where mails arrive now."""
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = stack.watch(server, mail_user, push=True, interval_minutes=HOUR)
    due = "SELECT due_at <= now(), lane FROM connection_state"
    with FetcherHere(stack).working() as here:
        sessions, fetcher = here.fetcher.dispatcher.sessions, here.fetcher
        here.run(connection)
        stack.query("UPDATE connection_state SET due_at = now() + interval '1 hour' RETURNING 1")
        fetcher.affinity._renew()
        assert stack.query(due) == [(False, "fetch")], "it was opened just now"
        sessions._until.update(dict.fromkeys(sessions._until, 0.0))
        fetcher.affinity._renew()
        assert stack.query(due) == [(True, "fetch")]
        fetcher.kept_session_runs.run_job([connection], str(new_id()))
        stack.wait(lambda: stack.query(due) == [(True, "fetch-slow")], "it gives up the session")
        assert listeners(server) == 0
        fetcher.dispatcher.run_slow_job([connection], str(new_id()))
        assert sessions.overdue() == []
        assert len(sessions) == listeners(server) == 1
