"""What a fetcher has no time for of its own queue goes to whoever is free, and is not left behind.

A fetcher of one thread holds four runs: the first one is held up here, the others wait behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from services.fetcher.kept_session_runs import KeptSessionRuns
from shared.clock import new_id, utc_now
from shared.errors import TryAgain
from shared.jobs import FETCH_ACTOR, FETCH_QUEUE
from shared.queueing.worker import run_worker
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

HELD = 4
MAILS = [mail(number, 900, seed=83) for number in range(HELD + 1)]


class TwoFetchers:
    """Sessions of five mailboxes are open at `here`; the other one works at the common queue."""

    def __init__(self, stack: Stack, server: Dovecot, user: str) -> None:
        self.stack = stack
        self.here = FetcherHere(stack, fetch_threads="1")
        self.other = FetcherHere(stack)
        self._server = server
        stack.add_handler()
        self._users = [f"{user}{number}" for number in range(len(MAILS))]
        self.ids = [stack.watch(server, one) for one in self._users]

    @property
    def runs(self) -> KeptSessionRuns:
        return self.here.fetcher.kept_session_runs

    def keep_sessions(self) -> None:
        """A first run of each; then each has a new mail."""
        for connection in self.ids:
            self.here.run(connection)
        for user, content in zip(self._users, MAILS, strict=True):
            self._server.deliver(user, [content])
        self.stack.hasten()

    def poll(self, connection: int, emitted: datetime | None = None) -> None:
        """A job of the own queue, as schedulers send it."""
        self.runs.run_job([connection], str(new_id(emitted)))

    def had_by(self, connection: int) -> int:
        asked = "SELECT count(*) FROM message WHERE connection_id = %s"
        ((count,),) = self.stack.query(asked, connection)
        return int(count)

    def due_in(self, connection: int) -> float:
        """Seconds."""
        asked = "SELECT extract(epoch FROM due_at - now())::float8 FROM connection_state "
        ((seconds,),) = self.stack.query(f"{asked} WHERE connection_id = %s", connection)
        return float(seconds)


@pytest.fixture
def two(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> Iterator[TwoFetchers]:
    found = TwoFetchers(build_stack(redis_url), dovecot, mail_user)
    common, stop = found.other.fetcher, threading.Event()
    worker = threading.Thread(
        target=run_worker,
        args=(common.common_jobs, {FETCH_ACTOR: common.dispatcher.run_job}),
        kwargs={"queue": FETCH_QUEUE, "threads": 1, "stop": stop, "shutdown_timeout_s": 30},
    )
    with found.here.working(), found.other.working():
        found.keep_sessions()
        worker.start()
        yield found
        stop.set()
        found.runs.executor.shutdown(wait=True)
        worker.join()


def test_a_full_fetcher_leaves_mailboxes_to_others_until_it_has_time_again(
    two: TwoFetchers,
) -> None:
    """The mail behind four that wait comes through another fetcher while they still do."""
    held_up, go_on = threading.Event(), threading.Event()

    def reached(step: str) -> None:
        if not held_up.is_set():
            held_up.set()
            assert go_on.wait(60)

    two.here.reached = reached
    try:
        for connection in two.ids[:HELD]:
            two.poll(connection)
        assert held_up.wait(60)
        two.poll(two.ids[HELD])
        two.stack.wait(lambda: two.had_by(two.ids[HELD]) == 1, "the other one brought it", 20)
        assert [two.had_by(connection) for connection in two.ids[:HELD]] == [0] * HELD
    finally:
        go_on.set()
    two.stack.wait(lambda: two.stack.count("message") == len(MAILS), "those that waited", 20)
    assert two.here.had() == digests(MAILS)
    # It has time again: what comes now is its own.
    two.stack.wait(lambda: not two.runs._in_hand, "the last one ended", 20)
    passed_on: list[int] = []
    two.runs.pass_on = lambda ids, _correlation: passed_on.extend(ids)
    two.poll(two.ids[0])
    assert passed_on == []


def test_a_job_that_waited_too_long_at_the_own_queue_goes_to_others(two: TwoFetchers) -> None:
    late = utc_now() - timedelta(seconds=20)
    two.stack.execute("UPDATE connection_state SET last_run_at = last_run_at - interval '1 hour'")
    two.here.reached = lambda _step: pytest.fail("it has no time for this")
    two.poll(two.ids[0], late)
    two.stack.wait(lambda: two.had_by(two.ids[0]) == 1, "the other one brought it", 20)


def test_what_cannot_be_passed_on_is_due_again_soon(two: TwoFetchers) -> None:
    """The broker is away just then: nobody has to wait for the next interval."""

    def away(ids: object, correlation_id: str) -> None:
        raise TryAgain("The broker is away.")

    two.stack.execute(
        "UPDATE connection_state SET due_at = now() + interval '1 hour',"
        " last_run_at = last_run_at - interval '1 hour'"
    )
    two.runs.pass_on = away
    with pytest.raises(TryAgain):
        two.poll(two.ids[0], utc_now() - timedelta(seconds=20))
    assert two.due_in(two.ids[0]) <= 5


def test_a_full_fetcher_leaves_what_servers_pushed_to_the_next_poll(two: TwoFetchers) -> None:
    """Beyond four times as many runs nothing is taken on; the mailbox is due at once instead."""
    two.runs.room = 0
    two.stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
    two.runs._fetch_announced([two.ids[0]])
    assert two.due_in(two.ids[0]) <= 0
    assert two.had_by(two.ids[0]) == 0
