"""Mailboxes whose sessions a fetcher keeps are polled through a queue of its own.

Intervals are an hour here: a poll that is lost with a queue would not come in the time of a test.
"""

from __future__ import annotations

import dataclasses
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

import pika
import pika.exceptions
import pytest

from services.scheduler.emitting import Emitter
from services.scheduler.main import Scheduler, build
from services.scheduler.settings import SchedulerSettings
from shared.jobs import own_queue
from shared.queueing.broker import Job, enqueue_many
from shared.queueing.connect import rabbitmq_parameters, redis_client, scheme_of
from shared.storage import affinity
from shared.storage.pool import Database, Session
from tests.integration.rows import add_connection
from tests.rig.forkserver import Child
from tests.rig.mails import mail
from tests.rig.queue_depth import queue_depth
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

MAILBOXES = 12
HOUR = 60


@pytest.fixture
def server() -> Iterator[Dovecot]:
    """A server of the test's own: its logins are counted."""
    with Dovecot(lmtp=True) as dovecot:
        yield dovecot


def kept(stack: Stack, server: Dovecot, user: str) -> tuple[list[str], str]:
    """Users whose sessions one fetcher keeps by now, and the queue of that fetcher."""
    users = [f"{user}-{number}" for number in range(MAILBOXES)]
    for name in users:
        stack.watch(server, name, interval_minutes=HOUR // 3)
    asked = "SELECT count(affinity), min(affinity), max(affinity) FROM connection_state"
    # A session that was not kept at its first run is at one of the next.
    stack.wait(
        lambda: (stack.hurry(), stack.query(asked)[0][0] == MAILBOXES)[1], "all sessions are kept"
    )
    ((_, owner, other),) = stack.query(asked)
    assert owner == other
    taking = "SELECT 1 FROM fetcher WHERE takes_jobs_until > now() + interval '4 seconds'"
    stack.wait(lambda: stack.query(taking) != [], "it takes jobs from its queue")
    stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
    return users, own_queue(owner)


def all_polled_since(stack: Stack) -> Callable[[], bool]:
    ((now,),) = stack.query("SELECT clock_timestamp()")
    asked = "SELECT count(*) FROM connection_state WHERE last_run_at > %s"
    return lambda: stack.query(asked, now) == [(MAILBOXES,)]


def is_there(url: str, queue: str) -> bool:
    """Whether the broker knows the queue, or anything that belonged to it."""
    if scheme_of(url) == "redis":
        with redis_client(url) as client:
            return next(client.scan_iter(f"*{queue}*", count=10_000), None) is not None
    with pika.BlockingConnection(rabbitmq_parameters(url)) as connection:
        for name in (queue, f"{queue}.XQ"):
            try:
                connection.channel().queue_declare(name, passive=True)
            except pika.exceptions.ChannelClosedByBroker:
                continue
            return True
    return False


def stopped_with_jobs(stack: Stack, fetcher: Child, broker_url: str, queue: str) -> None:
    """The fetcher stands still, and the polls of its mailboxes wait in its queue."""
    fetcher.send_signal(signal.SIGSTOP)
    stack.hurry()
    waiting = "SELECT count(*) FROM connection_state WHERE due_at > now()"
    stack.wait(lambda: stack.query(waiting) == [(MAILBOXES,)], "all jobs are sent")
    assert is_there(broker_url, queue)


@pytest.mark.promise("I2", "M4")
def test_a_scheduler_that_dies_over_its_jobs_leaves_every_mailbox_due(
    broker_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """Between claim and jobs, and between jobs and commit: none waits for its next interval."""
    stack = build_stack(broker_url)
    stack.add_handler()
    users = [f"{mail_user}-{number}" for number in range(3)]
    for name in users:
        stack.watch(server, name, interval_minutes=HOUR)
    server.deliver_lmtp(users, [mail(1, 1000)])
    scheduler = scheduler_of(stack)

    def dies(jobs: Sequence[Job]) -> None:
        raise SystemExit(9)

    def dies_after(jobs: Sequence[Job]) -> None:
        enqueue_many(scheduler.jobs, jobs)
        raise SystemExit(9)

    with scheduler.database:
        for send in (dies, dies_after):
            with pytest.raises(SystemExit):
                dataclasses.replace(scheduler.emitter, send=send).emit_due(10)
            due = "SELECT count(*) FROM connection_state WHERE due_at <= now()"
            assert stack.query(due) == [(len(users),)]
    scheduler.jobs.close()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait_settled(len(users))
    stack.stop()
    assert stack.query("SELECT count(*), max(repeats) FROM delivery") == [(len(users), 0)]


class Behind(Emitter):
    """There is always more that is due, as where a scheduler has less time than its mailboxes."""

    begun = threading.Event()
    over = threading.Event()

    def emit_due(self, limit: int) -> bool:
        self.begun.set()
        return not self.over.wait(0.01)


@pytest.mark.promise("M4")
def test_a_scheduler_that_is_always_behind_ends_when_it_is_told_to(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    scheduler = scheduler_of(build_stack(redis_url))
    parts = {f.name: getattr(scheduler.emitter, f.name) for f in dataclasses.fields(Emitter)}
    scheduler.emitter = Behind(**parts)
    stop = threading.Event()
    service = threading.Thread(target=scheduler.run, args=(stop,))
    service.start()
    try:
        assert Behind.begun.wait(20)
        stop.set()
        service.join(20)
        assert not service.is_alive()
    finally:
        Behind.over.set()
        service.join()
        scheduler.jobs.close()


def scheduler_of(stack: Stack) -> Scheduler:
    """The parts of a scheduler, in the test's own process."""
    values = {
        name.removeprefix("POSTHOUSE_").lower(): value
        for name, value in stack.environment_of("scheduler").items()
        if name.startswith("POSTHOUSE_")
    }
    known = {k: v for k, v in values.items() if k in SchedulerSettings.model_fields}
    return build(SchedulerSettings(**known))  # type: ignore[arg-type]


@pytest.mark.promise("I2")
@pytest.mark.parametrize("end", [affinity.release_all, lambda s, _: affinity.release_dead(s)],
                         ids=["in order", "killed"])  # fmt: skip
def test_a_mailbox_whose_job_goes_with_a_queue_is_due_at_once(
    end: Callable[[Session, str], object], database_url: str
) -> None:
    """Also where nobody looked between the last sign of life and the end of the fetcher."""
    with Database(database_url) as database:
        with database.transaction() as session:
            waiting, done = (add_connection(session, name) for name in ("waiting", "done"))
            affinity.heartbeat(session, "gone", 600, takes_jobs=True)
            session.execute(
                "UPDATE connection_state SET affinity = 'gone', due_at = now() + interval '1 hour',"
                " emitted_at = now() - interval '1 minute', last_run_at = now() - CASE"
                " WHEN connection_id = %s THEN interval '1 hour' ELSE interval '1 second' END",
                (waiting,),
            )
            session.execute("UPDATE fetcher SET until = now() - interval '1 second'")
        with database.transaction() as session:
            end(session, "gone")
        with database.transaction() as session:
            rows = session.execute(
                "SELECT connection_id, due_at <= now(), affinity FROM connection_state"
            ).fetchall()
    assert sorted(rows) == sorted([(waiting, True, None), (done, False, None)])


@pytest.mark.promise("I2", "M4")
def test_what_a_killed_fetcher_leaves_in_its_queue_goes_to_others(
    broker_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(broker_url, lease_seconds="5")
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    (first,) = stack.start("fetcher")
    users, queue = kept(stack, server, mail_user)
    server.deliver_lmtp(users, [mail(1, 1000)])
    stopped_with_jobs(stack, first, broker_url, queue)
    polled = all_polled_since(stack)
    stack.kill(first)
    stack.start("fetcher")
    stack.wait(polled, "the other one polls each of them", 40)
    stack.wait_settled(MAILBOXES)
    stack.wait(lambda: not is_there(broker_url, queue), "its queue is deleted")
    assert stack.query("SELECT count(*) FROM fetcher") == [(1,)]


@pytest.mark.promise("I2", "M4")
def test_others_poll_for_a_fetcher_that_stands_still(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """Long before it counts as dead. RabbitMQ itself hands jobs of all queues to such a process."""
    stack = build_stack(redis_url, lease_seconds="600")
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    (first,) = stack.start("fetcher")
    users, queue = kept(stack, server, mail_user)
    server.deliver_lmtp(users, [mail(1, 1000)])
    stopped_with_jobs(stack, first, redis_url, queue)
    try:
        polled = all_polled_since(stack)
        stack.start("fetcher")
        stack.wait(polled, "the other one polls each of them", 40)
        stack.wait_settled(MAILBOXES)
        server.deliver_lmtp(users[:1], [mail(2, 1000)])
    finally:
        first.send_signal(signal.SIGCONT)
    stack.wait(lambda: queue_depth(redis_url, queue) == 0, "it goes on with its queue")
    stack.hurry()
    stack.wait_settled(MAILBOXES + 1)


@pytest.mark.promise("I2", "M4")
def test_a_fetcher_that_comes_behind_passes_its_jobs_on(
    redis_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """The scheduler that would find them late is gone: nobody but the fetcher passes them on."""
    stack = build_stack(redis_url, lease_seconds="600")
    stack.add_handler()
    (scheduler, _) = stack.start("scheduler", "decryptor")
    (first,) = stack.start("fetcher")
    users, queue = kept(stack, server, mail_user)
    server.deliver_lmtp(users, [mail(1, 1000)])
    polled = all_polled_since(stack)
    stopped_with_jobs(stack, first, redis_url, queue)
    stack.kill(scheduler)
    late = "SELECT min(now() - emitted_at) > interval '6 seconds' FROM connection_state"
    stack.wait(lambda: stack.query(late) == [(True,)], "the jobs are late")
    first.send_signal(signal.SIGCONT)
    stack.wait(polled, "each is polled, over the common queue", 40)
    stack.wait_settled(MAILBOXES)
    # The last job is acknowledged with the next look for jobs, some seconds later.
    stack.wait(lambda: queue_depth(redis_url, queue) == 0, "its queue is empty")


@pytest.mark.promise("I2")
def test_a_fetcher_that_ends_in_order_leaves_no_queue_and_no_mailbox_waiting(
    broker_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(broker_url)
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    (first,) = stack.start("fetcher")
    users, queue = kept(stack, server, mail_user)
    server.deliver_lmtp(users, [mail(1, 1000)])
    stopped_with_jobs(stack, first, broker_url, queue)
    polled = all_polled_since(stack)
    first.terminate()
    first.send_signal(signal.SIGCONT)
    first.wait()
    stack.processes.remove(first)
    assert not is_there(broker_url, queue)
    assert stack.query("SELECT count(*), (SELECT count(affinity) FROM connection_state)"
                       " FROM fetcher") == [(0, 0)]  # fmt: skip
    stack.start("fetcher")
    stack.wait(polled, "the next one polls each of them", 40)
    stack.wait_settled(MAILBOXES)


@pytest.mark.promise("I2", "M4")
def test_a_fetcher_whose_queue_was_deleted_goes_on_over_its_sessions(
    broker_url: str, server: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """As after a broker that lost everything."""
    stack = build_stack(broker_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    users, queue = kept(stack, server, mail_user)
    before = len(logins(server))
    if scheme_of(broker_url) == "redis":
        with redis_client(broker_url) as client:
            client.flushdb()
    else:
        with pika.BlockingConnection(rabbitmq_parameters(broker_url)) as connection:
            connection.channel().queue_delete(queue)
    server.deliver_lmtp(users, [mail(1, 1000)])
    polled = all_polled_since(stack)
    # What is sent in the moment of the deletion may be lost, until the next interval.
    stack.wait(lambda: (stack.hurry(), polled())[1], "each is polled")
    stack.wait(lambda: stack.query("SELECT count(affinity) FROM connection_state") ==
               [(MAILBOXES,)], "the sessions are kept")  # fmt: skip
    stack.wait(lambda: stack.query("SELECT takes_jobs_until > now() FROM fetcher") == [(True,)],
               "it takes jobs again")  # fmt: skip
    # A server that keeps one poll waiting for two seconds is logged in to anew; not all are.
    assert len(logins(server)) - before < len(users) / 2


def logins(server: Dovecot) -> list[str]:
    """Who logged in so far."""
    return re.findall(r"Login: user=<([^>]+)>", server.log.read_text())
