"""Limits of sessions at a server and at a mailbox are the installation's, however many fetch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from services.fetcher import session_affinity
from services.fetcher.session_pool import SessionPool
from services.fetcher.session_shares import AllFetchers, SessionShares
from shared.storage import affinity, connections, session_shares
from shared.storage.pool import Database
from tests.rig.database_locks import waits_for_lock
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.leasing import acquire
from tests.rig.mails import mail
from tests.rig.proxy import Proxy
from tests.rig.stack import Stack
from tests.servers.courier import Courier
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import MailServer
from tests.servers.processes import free_port

HOST = "mail.example.org"
LIMIT = 4
FOLDERS = 6
LIVING = "SELECT count(*) FROM fetcher WHERE until > now()"
#: Of all that live, at the server or at its mailboxes.
HELD = """SELECT coalesce(sum(held), 0) FROM session_share JOIN fetcher USING (owner)
WHERE host LIKE '%% at %%' = %s"""


@dataclass(frozen=True, slots=True)
class Few:
    """A server that takes four sessions, and two of a client that delivers; whose folders they are
    to read, and the setting that says so."""

    server: MailServer
    folders: list[tuple[str, str]]
    setting: str


@pytest.fixture(params=["six mailboxes of a server", "six folders of a mailbox"])
def few(request: pytest.FixtureRequest, mail_user: str) -> Iterator[Few]:
    if request.param == "six mailboxes of a server":
        mailboxes = [(f"{mail_user}-{number}", "INBOX") for number in range(FOLDERS)]
        with Courier(sessions_per_address=LIMIT + 2) as courier:
            yield Few(courier, mailboxes, "sessions_per_host")
    else:
        folders = [(mail_user, f"folder-{number}") for number in range(FOLDERS)]
        with Dovecot(extra=f"mail_max_userip_connections = {LIMIT + 2}") as dovecot:
            yield Few(dovecot, folders, "sessions_per_mailbox")


@pytest.mark.promise("M27")
def test_three_fetchers_open_no_more_sessions_than_the_setting_says(
    few: Few, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Six folders, four sessions, three fetchers, one of which is killed: all are served."""
    proxy = Proxy(few.server.imap_port, seed=1)
    stack = build_stack(redis_url)
    stack.add_handler()
    settings = {few.setting: str(LIMIT), "lease_seconds": "5"}
    stack.start("scheduler", "decryptor", settings=settings)
    fetchers = stack.start("fetcher", "fetcher", "fetcher", settings=settings)
    try:
        deliver(few, 0)
        for user, folder in few.folders:
            name = f"{user} {folder}"
            stack.watch(few.server, user, name=name, folder=folder, port=proxy.port)
        stack.wait(partial(delivered, stack, FOLDERS), "each folder gave its mail", 60)
        deliver(few, 1)
        stack.hurry()
        stack.wait(partial(delivered, stack, 2 * FOLDERS), "the new mails come", 60)
        assert held(stack, few) <= LIMIT
        stack.kill(fetchers[0])
        stack.wait(lambda: stack.count("fetcher") == 2, "the dead one's share is free", 30)
        deliver(few, 2)
        stack.hurry()
        stack.wait(partial(delivered, stack, 3 * FOLDERS), "they come without it", 60)
        stack.wait(lambda: held(stack, few) == LIMIT, "all that is allowed is used")
        assert stack.query("SELECT DISTINCT health FROM connection_state") == [("working",)]
        stack.stop()
    finally:
        proxy.close()
    assert proxy.highest <= LIMIT
    log = stack.log_of("fetcher").read_text()
    assert "a mail server takes no more sessions" not in log


@pytest.mark.promise("M27")
def test_the_permit_of_a_closed_session_is_given_up_a_look_later(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Its server may count it still; who closed it opens no other one there meanwhile."""
    database = build_stack(redis_url).database
    one, two = Fetcher(database, "one", 4), Fetcher(database, "two", 4)
    assert one.opens(4) == 4
    assert two.opens(1) == 0
    one.looks()
    assert one.used == 2
    assert one.shares.allowed(HOST) == 2
    assert two.opens(1) == 0
    one.looks()
    assert two.opens(4) == 2


#: How a silent fetcher is taken for dead: its time is over, or its row is gone as well.
DEAD = ["UPDATE fetcher SET until = now()", "DELETE FROM fetcher"]


@pytest.mark.promise("M27")
@pytest.mark.parametrize(
    ("dead", "noticed"),
    [(DEAD[0], "sign of life"), (DEAD[1], "sign of life"), (DEAD[1], "ask elsewhere")],
    ids=["silent", "forgotten", "forgotten-and-asks"],
)
def test_shares_are_fair_and_come_back(
    dead: str, noticed: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Who came first gives up what is above its part; a dead one's share goes to the others."""
    database = build_stack(redis_url).database
    one, two, three = (Fetcher(database, name, 9) for name in ("one", "two", "three"))
    assert one.opens(9) == 9
    assert two.opens(1) == 0
    assert two.shares.attainable(HOST) == 0
    one.looks_twice()  # the server may count for a moment what was just closed
    assert one.used == 4
    assert two.opens(9) == 5
    assert three.opens(3) == 0
    one.looks_twice()
    two.looks_twice()
    assert (one.used, two.used) == (3, 3)
    assert three.opens(9) == 3
    with database.transaction() as session:
        session.execute(f"{dead} WHERE owner = 'one'")
    two.looks_twice()
    assert two.opens(9) + three.opens(9) == 3
    assert two.used + three.used == 9
    # It was taken for dead and was not: it says what it has, and all go back to their parts.
    if noticed == "ask elsewhere":
        assert one.shares.request("elsewhere.example.org", 1)
    else:
        with database.transaction() as session:
            affinity.heartbeat(session, "one", 60, takes_jobs=True)
        one.shares.renew()
    for fetcher in (one, two, three):
        fetcher.looks_twice()
    assert (one.used, two.used, three.used) == (3, 3, 3)


@pytest.mark.promise("M27")
@pytest.mark.parametrize("dead", DEAD, ids=["silent", "forgotten"])
def test_a_fetcher_that_was_taken_for_dead_says_what_it_has_with_its_next_heartbeat(
    dead: str,
    dovecot: Dovecot,
    mail_user: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Others may have been given its share meanwhile, and look at the destination again."""
    stack = build_stack(redis_url)
    stack.add_handler()
    here = FetcherHere(stack)
    affinity = here.fetcher.affinity
    with here.working():
        affinity.arrive()
        here.run(stack.watch(dovecot, mail_user))
        stack.execute(dead)
        affinity._beaten -= affinity.lease_seconds  # so long it was silent
        affinity._beat()
        affinity._give_up_shares()
        shares = (
            "SELECT held FROM session_share JOIN fetcher USING (owner) WHERE waits_until > now()"
        )
        assert stack.query(shares) == [(1,)]


@pytest.mark.promise("M27")
def test_a_fetcher_gives_up_a_kept_session_for_one_that_waits(
    dovecot: Dovecot,
    mail_user: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_affinity, "_GIVE_UP", 0.1)
    stack = build_stack(redis_url)
    stack.add_handler()
    here, stop = FetcherHere(stack, sessions_per_host="2"), threading.Event()
    other = SessionShares(lambda _: 2, AllFetchers(stack.database, "other", 60), ask_again=0)
    looking = threading.Thread(target=here.fetcher.affinity.run, args=(stop,))
    with here.working():
        here.fetcher.affinity.arrive()
        for number in range(2):
            here.run(stack.watch(dovecot, f"{mail_user}-{number}"))
        assert not other.request("127.0.0.1", 1)
        looking.start()
        try:
            stack.wait(lambda: other.request("127.0.0.1", 1), "one gave way", 20)
        finally:
            stop.set()
            looking.join()
        assert len(here.fetcher.dispatcher.sessions) == 1


@pytest.mark.promise("M7", "M27")
def test_a_fetcher_lives_while_servers_let_it_wait_for_their_goodbye(
    redis_url: str, build_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of sessions that go to another fetcher, or a dead server: who was taken for dead
    would lose every mailbox, and its queue with the jobs in it."""
    monkeypatch.setattr(session_affinity, "AFFINITY_GRACE", 0.3)
    monkeypatch.setattr(session_affinity, "_PRUNE", 0.1)
    closing, goodbye = threading.Event(), threading.Event()

    def prune(*_: object) -> list[int]:
        closing.set()
        goodbye.wait()
        return []

    monkeypatch.setattr(SessionPool, "prune", prune)
    stack, stop = build_stack(redis_url), threading.Event()
    here = FetcherHere(stack, health_port=str(free_port()))
    running = threading.Thread(target=here.fetcher.run, args=(stop,))
    running.start()
    try:
        assert closing.wait(20)
        for _ in range(2):
            stack.execute("UPDATE fetcher SET until = now()")
            stack.wait(lambda: stack.query(LIVING) == [(1,)], "it says that it lives", 5)
    finally:
        goodbye.set()
        stop.set()
        running.join()


@pytest.mark.promise("M27")
def test_one_session_for_two_fetchers_goes_from_one_to_the_other(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    database = build_stack(redis_url).database
    one, two, three = (Fetcher(database, name, 1) for name in ("one", "two", "three"))
    assert one.opens(1) == 1
    assert two.opens(1) == 0
    assert three.opens(1) == 0
    one.looks_twice()
    assert three.opens(1) == 0  # the other one waits longer
    assert two.opens(1) == 1


@pytest.mark.promise("M27")
def test_fetchers_that_ask_at_the_same_moment_get_no_more_than_there_is(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    two = Fetcher(stack.database, "two", 4)
    asks = threading.Thread(target=two.opens, args=(4,))
    with stack.database.transaction() as session:
        granted, _ = session_shares.request(session, "one", HOST, held=0, many=3, limit=4, ttl=60)
        asks.start()
        stack.wait(
            lambda: waits_for_lock(stack.database) or not asks.is_alive(), "the other one asks", 20
        )
    asks.join()
    assert (granted, two.used) == (3, 1)


@pytest.mark.promise("M27")
def test_what_a_server_takes_is_known_to_all_fetchers(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    database = build_stack(redis_url).database
    one, two = Fetcher(database, "one", 100), Fetcher(database, "two", 100)
    assert one.opens(3) == 3
    assert two.opens(2) == 2
    two.shares.learn(HOST, 2)
    assert two.shares.knows(HOST)
    assert one.opens(3) == 0
    assert one.shares.allowed(HOST) == 3


@pytest.mark.promise("M27")
@pytest.mark.parametrize("known_by", ["lease", "affinity"])
def test_a_session_from_before_the_second_folder_counts(
    known_by: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """With one connection nobody had to count it; others see it all the same, in use or kept."""
    stack = build_stack(redis_url)
    fields: dict[str, Any] = {
        "mode": "imap",
        "host": HOST,
        "port": 993,
        "security": "tls",
        "username": "Team",
    }
    destination = f"team at {HOST}"
    first = stack.add_connection(name="first", folder="one", **fields)
    one, two = (Fetcher(stack.database, name, 2) for name in ("one", "two"))
    assert one.shares.request(destination, 1)
    assert stack.query("SELECT 1 FROM session_share") == []
    with stack.database.transaction() as session:
        if known_by == "lease":
            (connection,) = connections.get_many(session, [first])
            acquire(session, [connection.lease_key()], "one", 60)
        else:
            session.execute("UPDATE connection_state SET affinity = 'one'")
    stack.add_connection(name="second", folder="two", **fields)
    assert two.shares.request(destination, 1)
    assert not two.shares.request(destination, 2)


class Fetcher:
    """The shares of a fetcher of that name, and how many sessions it has open at the host."""

    def __init__(self, database: Database, name: str, limit: int) -> None:
        self.shares = SessionShares(
            lambda _destination: limit, AllFetchers(database, name, 60), ask_again=0
        )
        self.used = 0

    def opens(self, wanted: int) -> int:
        """Opens so many where it may; how many those were."""
        before = self.used
        for _ in range(wanted):
            if self.shares.request(HOST, self.used + 1):
                self.used += 1
                self.shares.opens(HOST, self.used)
        return self.used - before

    def looks_twice(self) -> None:
        for _ in range(2):
            self.looks()

    def looks(self) -> None:
        self.shares.give_up(lambda _host: self.used, self._close)

    def _close(self, _host: str, count: int) -> None:
        self.used -= count


def deliver(few: Few, round_: int) -> None:
    """One mail to each folder."""
    for number, (user, folder) in enumerate(few.folders):
        few.server.deliver(user, [mail(round_ * FOLDERS + number, 500, seed=49)], folder)


def held(stack: Stack, few: Few) -> int:
    ((number,),) = stack.query(HELD, few.setting == "sessions_per_mailbox")
    return int(number)


def delivered(stack: Stack, wanted: int) -> bool:
    return stack.count("delivery") == wanted
