"""Requests at Graph are counted over all processes: at once, and in ten minutes."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from shared.connections import AfterDownload, Selection
from shared.errors import TryAgain
from shared.storage import held_request_permits, request_permits, request_permits_at_mailbox
from shared.storage.held_request_permits import NoPermit
from shared.storage.pool import Database, Session
from shared.storage.request_budgets import RequestLimit
from shared.storage.request_limits import PostgresLimiter
from tests.contract.mailbox_kinds import mail
from tests.contract.recorders import Collector, KnownKeys
from tests.integration.graph.conftest import ALICE, Office, process
from tests.rig.database_locks import waits_for_lock
from tests.servers.processes import wait_until

BOB = "bob@example.org"
SMALL = RequestLimit(200, 10.0, in_advance=20, at_a_time=4, processes=5)
#: Another process that holds all permits at a mailbox and is killed with them.
HOLDER = """
import sys, threading
from shared.storage import request_permits
from shared.storage.request_limits import PostgresLimiter
from shared.storage.pool import Database
request_permits.LIVES = 2.0  # so long after its last sign of life it is taken for dead
with Database(sys.argv[1]) as database:
    limiter = PostgresLimiter(database)
    threading.Thread(target=limiter.run, args=(threading.Event(),), daemon=True).start()
    with limiter.permits(sys.argv[2], within=30, requests=int(sys.argv[3])):
        print("held", flush=True)
        threading.Event().wait()
"""


@contextmanager
def other_process(url: str, mailbox: str, requests: int) -> Iterator[subprocess.Popen[str]]:
    """A process that holds permits, until it is killed."""
    command = [sys.executable, "-c", HOLDER, url, mailbox, str(requests)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            child.kill()


def statements(url: str) -> int:
    """Transactions that were committed in this database so far."""
    with psycopg.connect(url) as session:
        session.execute("SELECT pg_stat_force_next_flush()")
        row = session.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.promise("M2")
def test_a_request_costs_no_statement_as_long_as_nobody_else_wants_a_permit(
    office: Office, database_url: str
) -> None:
    office.box.deliver(mail(f"mail {n}") for n in range(150))
    before = statements(database_url)
    with process(database_url) as limiter:
        mailbox = office.open(limiter=limiter, pause_budget=60)
        mailbox.open("")
        sink = Collector()
        mailbox.download(mailbox.list_new(KnownKeys(), Selection.UNREAD).new, sink, limit=1 << 20)
    assert len(sink.mails) == 150
    # Of those that are connected still, Postgres may not count all.
    assert statements(database_url) - before < len(office.server.requests) / 2


@pytest.mark.promise("M2")
def test_a_batch_counts_as_the_requests_in_it(office: Office, database_url: str) -> None:
    """Forty mails are marked read in two batches: forty requests of the mailbox and of the
    application, beside those that looked."""
    office.box.deliver(mail(f"mail {n}") for n in range(40))
    limit = RequestLimit(10_000, 60_000.0, in_advance=1_000, at_a_time=1, processes=20)
    began = time.monotonic()
    with process(database_url, of_mailbox=limit, of_application=limit) as limiter:
        mailbox = office.open(limiter=limiter, application="client", pause_budget=60)
        mailbox.open("")
        refs = mailbox.list_new(KnownKeys(), Selection.UNREAD).new
        assert len(mailbox.settle(refs, AfterDownload.MARK_READ)) == 40
    batches = [line for line in office.server.requests if line.endswith("$batch")]
    counted = len(office.server.requests) - len(batches) + 40
    with psycopg.connect(database_url) as session:
        rows = session.execute(
            "SELECT budget, round(extract(epoch FROM used_until - now()) / %s) FROM request_budget",
            [limit.interval],
        ).fetchall()
    used = {budget: int(count) for budget, count in rows}
    assert used.keys() == {f"mailbox {ALICE}", "application client"}
    given_back = (time.monotonic() - began) / limit.interval
    assert all(counted - given_back <= count <= counted for count in used.values())


@pytest.mark.promise("M2")
@pytest.mark.parametrize("whose", ["the mailbox", "the application"])
def test_two_processes_share_what_there_is(database_url: str, whose: str) -> None:
    """Both ask as often as they can: together they get what is allowed, each about half."""
    wide = RequestLimit(10**6, 1.0, in_advance=10**5, at_a_time=10**4, processes=10)
    limits = {"of_mailbox": wide, "of_application": wide}
    limits["of_mailbox" if whose == "the mailbox" else "of_application"] = SMALL
    served = [0, 0]
    with ExitStack() as stack:
        both = [stack.enter_context(process(database_url, **limits)) for _ in served]
        until = time.monotonic() + 3

        def ask(number: int) -> None:
            for count in itertools.count():
                if time.monotonic() > until:
                    return
                box = ALICE if whose == "the mailbox" else f"box{count % 20}@example.org"
                with both[number].permits(box, within=30, application="client"):
                    served[number] += 1

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(ask, range(2)))
    assert 20 <= sum(served) <= SMALL.most * 4 / SMALL.seconds + SMALL.in_advance
    assert min(served) > 0.35 * sum(served)


@pytest.mark.promise("M2")
def test_who_would_wait_for_too_long_is_told_when_to_come_and_takes_nothing(
    database_url: str,
) -> None:
    with process(database_url, of_mailbox=SMALL) as limiter:
        with limiter.permits(ALICE, within=0.5, requests=20):
            pass
        for _ in range(30):
            with (
                pytest.raises(TryAgain) as refused,
                limiter.permits(ALICE, within=0.5, requests=20),
            ):
                pass
            assert refused.value.code == "mailbox-busy"
            assert refused.value.retry_after is not None
            assert refused.value.retry_after <= 20 * SMALL.interval  # no later from time to time
        with limiter.permits(BOB, within=0.5):  # nobody else's business
            pass


@pytest.mark.promise("M2")
def test_permits_of_a_killed_process_are_free_soon(database_url: str) -> None:
    """All of them, in the middle of requests: nobody waits until these would have ended."""
    with other_process(database_url, ALICE, 3) as child, process(database_url) as limiter:
        with pytest.raises(TryAgain), limiter.permits(ALICE, within=0.5):
            pass
        child.kill()
        began = time.monotonic()
        with limiter.permits(ALICE, within=60, requests=20):
            assert time.monotonic() - began < 10


@pytest.mark.promise("M2")
def test_permits_that_are_kept_unused_are_given_to_who_wants_them(database_url: str) -> None:
    """Three permits that one process holds since its last requests, all wanted by a batch."""
    with process(database_url) as idle, process(database_url) as other:
        with idle.permits(ALICE, within=5, requests=3):
            pass
        with other.permits(ALICE, within=10, requests=20):
            pass
        with idle.permits(ALICE, within=10):
            pass


@pytest.mark.promise("M2")
def test_who_wants_all_permits_gets_them_beside_those_who_never_stop(database_url: str) -> None:
    """Eight threads of two processes want one of three permits each, all the time."""
    over = threading.Event()
    with (
        process(database_url) as first,
        process(database_url) as second,
        process(database_url) as other,
    ):

        def download(busy: PostgresLimiter) -> None:
            while not over.is_set():
                with contextlib.suppress(NoPermit), busy.permits(ALICE, within=30):
                    time.sleep(0.3)

        threads = [threading.Thread(target=download, args=(busy,)) for busy in (first, second) * 4]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                with other.permits(ALICE, within=10, requests=20):
                    pass
        finally:
            over.set()
            for thread in threads:
                thread.join()


@pytest.mark.promise("M2")
def test_one_permit_is_kept_over_a_quiet_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mailbox that is polled each minute costs no statement, and others find two permits."""
    monkeypatch.setattr(request_permits_at_mailbox, "_QUIET", 0.2)
    monkeypatch.setattr(held_request_permits, "_SWEEP", 0.2)
    with process(database_url) as limiter, psycopg.connect(database_url, autocommit=True) as look:
        with limiter.permits(ALICE, within=10, requests=3):
            pass
        held: list[tuple[int, ...]] = []
        deadline = time.monotonic() + 10
        while held != [(1,)] and time.monotonic() < deadline:
            time.sleep(0.1)
            held = look.execute("SELECT held FROM request_permit").fetchall()
        assert held == [(1,)]


@pytest.mark.promise("M2")
def test_a_pause_that_one_is_asked_for_holds_for_all(database_url: str) -> None:
    with process(database_url) as first, process(database_url) as second:
        with second.permits(ALICE, within=5):  # it has its permit already
            pass
        first.pause(ALICE, 60)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with second.permits(ALICE, within=0.1):
                    time.sleep(0.1)
            except TryAgain as error:
                assert error.retry_after is not None and error.retry_after > 40
                return
        pytest.fail("the other process never heard of the pause")


@pytest.mark.promise("M2")
def test_what_the_server_tells_one_process_to_wait_holds_for_all(
    office: Office, database_url: str
) -> None:
    office.server.fail("/messages", status=429, times=9, retry_after=600)
    with process(database_url) as first, process(database_url) as second:
        mailbox = office.open(limiter=first)
        mailbox.open("")
        with pytest.raises(TryAgain):
            mailbox.list_new(KnownKeys(), Selection.UNREAD)
        with pytest.raises(TryAgain) as refused, second.permits(ALICE, within=0.1):
            pass
    assert refused.value.retry_after is not None and refused.value.retry_after > 500


@pytest.mark.promise("M2")
def test_who_asks_at_the_same_moment_gets_no_more_permits_than_there_are(
    database: Database,
) -> None:
    holders = uuid4(), uuid4()
    granted: list[bool] = []

    def ask(session: Session, holder: UUID) -> None:
        answer = request_permits.request(session, holder, ALICE, held=0, more=2, at_once=3)
        granted.append(answer.granted)

    with database.transaction() as session:
        for holder in holders:
            request_permits.heartbeat(session, holder)
    asks = threading.Thread(target=database.perform, args=(lambda later: ask(later, holders[1]),))
    with database.transaction() as session:
        ask(session, holders[0])
        asks.start()
        wait_until(lambda: waits_for_lock(database) or not asks.is_alive(), "it asks as well")
    asks.join()
    assert granted == [True, False]
