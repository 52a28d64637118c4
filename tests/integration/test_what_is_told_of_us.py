"""Whatever goes wrong with our own parts and with handlers: pages, alerts and metrics say so.

What goes wrong at a mail server is in test_what_is_told.py; a full store, a dead fetcher and a
broker that refuses us are in test_full_disks.py and test_own_health.py, bytes that are missing in
test_store_identity.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from posthouse import Consumer, MailEvent, Reject
from shared.heartbeats import HeartbeatWriter
from shared.telemetry.threads import ServiceThreads
from tests.integration.queueing.test_undecodable_jobs import BAD, put
from tests.rig.administrator_view import Telling
from tests.rig.mails import mail
from tests.rig.stack import SIGNING_KEY, Stack
from tests.servers.scripted import ScriptedServer, imap

pytestmark = pytest.mark.promise("M19", "T3")

SERVICE_FAILING = 'posthouse_service_failing{check="jobs",service="decryptor"}'

FEW = [mail(number, 600, seed=63) for number in range(3)]


def watch(stack: Stack, port: int) -> int:
    return stack.add_connection(
        name="watched",
        mode="imap",
        host="127.0.0.1",
        port=port,
        security="none",
        username="alice",
    )


def test_jobs_that_cannot_be_read_are_told(
    broker_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Nothing is lost by them, so nobody is called: the rule says it, and leads to a page."""
    box = dict(enumerate(FEW, 1))
    stack = build_stack(broker_url)
    stack.add_handler()
    with ScriptedServer(imap(live=box, settles=True)) as server, Telling(stack) as telling:
        connection = watch(stack, server.port)
        stack.wait_settled(len(FEW))
        for queue, service in (("decrypt", "decryptor"), ("fetch", "fetcher")):
            assert not telling.fires("PosthouseUndecodableJobs", service)
            put(broker_url, queue, BAD)
            counted = f'posthouse_undecodable_jobs_total{{queue="{queue}"}}'
            stack.wait(
                lambda service=service, counted=counted: (  # type: ignore[misc]
                    (telling.metric(service, counted) or 0) >= len(BAD)
                ),
                "each is rejected",
            )
            assert telling.fires("PosthouseUndecodableJobs", service)
        telling.log_in()
        assert "no job of this version" in telling.page("/documents/runbook")
        for queue in ("decrypt", "fetch"):
            words = f"messages on the job queues ({queue}) could not be read"
            stack.wait(lambda words=words: words in telling.page("/"), "the overview")  # type: ignore[misc]
        assert "Give Posthouse a virtual host or database index of its own" in telling.page("/")
        # Nothing stands still by it, for however long it is shown: nobody is called.
        counts = "SELECT FROM service WHERE failing_since IS NOT NULL AND failing - 'jobs' = '{}'"
        assert stack.query(counts) == []
        assert telling.metric("scheduler", SERVICE_FAILING) is None
        assert telling.alerts() == []
        box[len(FEW) + 1] = mail(9, 600, seed=63)
        stack.run_once(connection)
        stack.wait_settled(len(FEW) + 1)
        stack.stop()


def test_a_consumer_thread_that_ended_is_told(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    threads, stop = ServiceThreads(), threading.Event()
    threads.add("decrypt", lambda: None)
    writer = HeartbeatWriter("decryptor", stack.database, None, {"threads": threads.check})
    beating = threading.Thread(target=writer.run, args=(stop,))
    words = "The thread decrypt of this service ended"
    with Telling(stack, ("scheduler",)) as telling:
        threads.start()
        threads.join()
        beating.start()
        try:
            is_said = "SELECT FROM service WHERE failing ? 'threads'"
            stack.wait(lambda: bool(stack.query(is_said)), "the heartbeat says so")
            # As long as a restart takes, nobody is told.
            stack.execute("UPDATE service SET failing_since = now() - interval '2 minutes'")
            stack.wait(lambda: bool(telling.hears("service-failing")), "the webhook hears of it")
            (said,) = telling.hears("service-failing")
            assert "decryptor" in said and words in said
            telling.log_in()
            assert words in telling.page("/")
            failing = 'posthouse_service_failing{check="threads",service="decryptor"}'
            stack.wait(lambda: telling.metric("scheduler", failing) == 1, "the metric")
            assert telling.fires("PosthouseServiceFailing", "scheduler")
        finally:
            stop.set()
            beating.join()
        stack.stop()


@contextmanager
def handling(stack: Stack, callback: Callable[[MailEvent], object]) -> Iterator[None]:
    """A handler's program."""
    consumer = Consumer(stack.output_url, "archive", signing_key=SIGNING_KEY, max_deliveries=1)
    thread = threading.Thread(target=consumer.run, args=(callback,))
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join()


def test_what_a_coroutine_rejects_is_told(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """It is run, as a function is: neither is a mail of it acknowledged that it did not take."""
    taken: list[str] = []

    async def handle(event: MailEvent) -> None:
        await asyncio.sleep(0)
        if taken:
            raise Reject("no such customer")
        taken.append(event.id)

    stack = build_stack(redis_url)
    handler = stack.add_handler()
    box = dict(enumerate(FEW, 1))
    with ScriptedServer(imap(mails=box, settles=True)) as server, Telling(stack) as telling:
        watch(stack, server.port)
        with handling(stack, handle):
            dead = 'posthouse_handler_dead_letters{handler="archive"}'
            stack.wait(lambda: telling.metric("scheduler", dead) == len(FEW) - 1, "the metric")
        telling.log_in()
        page = telling.page(f"/handlers/{handler}/dead-letters")
        assert page.count("no such customer") == len(FEW) - 1
        assert telling.fires("PosthouseHandlerDeadLetters", "scheduler")
        stack.stop()
    assert len(taken) == 1


def test_a_callback_that_takes_without_end_is_told(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """Whatever its broker does about it: the mail waits, and with it all that come later."""
    go, began = threading.Event(), threading.Event()

    def handle(event: MailEvent) -> None:
        began.set()
        go.wait(250)

    stack = build_stack(redis_url, handler_check_seconds="10")
    handler = stack.add_handler()
    box = dict(enumerate(FEW, 1))
    with ScriptedServer(imap(mails=box, settles=True)) as server, Telling(stack) as telling:
        watch(stack, server.port)
        stack.wait_settled(len(FEW))
        try:
            with handling(stack, handle):
                assert began.wait(30)
                behind = 'posthouse_handler_backlog_messages{handler="archive"}'
                stack.wait(lambda: telling.metric("scheduler", behind) == len(FEW), "it waits")
                telling.log_in()
                assert "In hand" in telling.page(f"/handlers/{handler}")
                # The scheduler's next look at the queue sees how old it is in truth: each time that
                # something is looked for, hours have passed anew.
                backlog, page = "handler-backlog-old", f"/handlers/{handler}"
                stack.wait(lambda: (hours_pass(stack), bool(telling.hears(backlog)))[1], "told")
                (said,) = telling.hears(backlog)
                assert f"{len(FEW)} mails wait" in said
                for seen in (
                    lambda: telling.fires("PosthouseHandlerBehind", "scheduler"),
                    lambda: "2 h" in telling.page(page),
                ):
                    stack.wait(lambda seen=seen: (hours_pass(stack), seen())[1], "told")  # type: ignore[misc]
                go.set()
        finally:
            go.set()
        stack.stop()


def hours_pass(stack: Stack) -> None:
    """Until the scheduler looks again."""
    stack.execute("UPDATE handler_queue SET oldest_at = now() - interval '2 hours'")
