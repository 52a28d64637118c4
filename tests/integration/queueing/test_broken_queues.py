"""Queues of RabbitMQ that are there by name only, and queues that are full.

For an administrator: until it is healed `posthouse_publish_failures_total` rises
(PosthousePublishFailing) and the overview's backlog with it; a queue that was made anew is a
warning of the scheduler and counts in `posthouse_resent_total{what="refill"}`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import cast

import pika
import pytest

from services.scheduler.queue_guard import Guard
from shared.clock import utc_now
from shared.errors import PosthouseError, TryAgain
from shared.queueing.output import NotTaken, Output, Publication
from shared.queueing.output.open import open_output
from shared.queueing.output.rabbitmq_queues import queue_name
from shared.queueing.rabbitmq_publishing import ConfirmingPublisher, Outgoing, PublishOutcome
from shared.storage import deliveries
from shared.storage.pool import Database
from tests.integration.queueing.conftest import event, eventually, publish, set_defaults
from tests.integration.rows import add_connection, add_handler, add_message
from tests.rig.proxy import Proxy
from tests.servers.rabbitmq import RabbitServer

#: What runs behind a quorum queue answers nothing, until it is resumed.
SUSPEND = "sys:suspend('%%2F_%s')."
RESUME = "sys:resume('%%2F_%s')."
#: Ends what runs behind a quorum queue and forgets its data; the queue stays listed.
BREAK = "ra:force_delete_server(quorum_queues, {'%%2F_%s', node()})."


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    """One whose queues are broken."""
    with RabbitServer() as server:
        yield server


@pytest.fixture
def output(rabbit: RabbitServer) -> Iterator[Output]:
    opened = open_output(rabbit.url)
    yield opened
    opened.close()


def add(database: Database, handler: str) -> int:
    with database.transaction() as session:
        return add_handler(session, handler, utc_now() - timedelta(minutes=5))


def send(output: Output, handler: str) -> str | PosthouseError:
    identifier, body = event()
    return output.publish([Publication(handler, body, identifier)])[0]


@pytest.mark.promise("I2")
def test_a_queue_that_refuses_everything_is_made_anew_and_filled(
    rabbit: RabbitServer,
    output: Output,
    database: Database,
    handler: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only its name is left; its marker is sound, and the publisher stays connected."""
    handler_id = add(database, handler)
    guard = Guard(database, output, "amqp://here")
    assert guard.check_all() == 1
    with database.transaction() as session:
        mail = add_message(session, add_connection(session), utc_now())
    body = b'{"id":"%s"}' % str(mail).encode()
    assert output.publish([Publication(handler, body, str(mail))]) == [""]
    with database.transaction() as session:
        deliveries.record_deliveries(session, [(mail, handler_id, "")])
    rabbit.control("eval", BREAK % queue_name(handler))
    with monkeypatch.context() as less_patient:
        set_defaults(less_patient, ConfirmingPublisher.publish, timeout_s=5.0)
        assert isinstance(send(output, handler), NotTaken)
    assert guard.check_all() == 1
    with database.transaction() as session:
        waiting = [row[0] for row in session.execute("SELECT message_id FROM outbox")]
    assert waiting == [mail], "what was in it is not published again"
    eventually(lambda: isinstance(send(output, handler), str))
    assert guard.check_all() == 0, "the same loss is made good twice"


class Dies:
    """Its scheduler is killed when a queue was made, before anything else."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __getattr__(self, name: str) -> object:
        return getattr(self._output, name)

    def ensure(self, handler: str, generation: str) -> bool:
        self._output.ensure(handler, generation)
        raise SystemExit(9)


@pytest.mark.promise("I2")
def test_what_a_lost_queue_had_is_noted_before_the_queue_is_made_anew(
    output: Output, database: Database, handler: str
) -> None:
    """On RabbitMQ nobody could tell the new one from the old one."""
    handler_id = add(database, handler)
    guard = Guard(database, output, "amqp://here")
    assert guard.check_all() == 1
    with database.transaction() as session:
        mail = add_message(session, add_connection(session), utc_now())
        deliveries.record_deliveries(session, [(mail, handler_id, "")])
    output.delete(handler)
    with pytest.raises(SystemExit):
        Guard(database, cast(Output, Dies(output)), "amqp://here").check_all()
    assert output.inspect(handler).exists
    guard.check_all()
    with database.transaction() as session:
        waiting = [row[0] for row in session.execute("SELECT message_id FROM outbox")]
    assert waiting == [mail]


@pytest.mark.promise("I2")
def test_a_queue_of_this_name_at_another_rabbitmq_is_filled(
    rabbit: RabbitServer, output: Output, database: Database, handler: str
) -> None:
    """It is there from before, whole and empty, and is not the one with what waits."""
    handler_id = add(database, handler)
    assert Guard(database, output, "amqp://here").check_all() == 1
    with database.transaction() as session:
        mail = add_message(session, add_connection(session), utc_now())
        deliveries.record_deliveries(session, [(mail, handler_id, "")])
    rabbit.control("add_vhost", handler)
    rabbit.control("set_permissions", "-p", handler, "guest", ".*", ".*", ".*")
    other = open_output(rabbit.url.replace("%2F", handler))
    other.ensure(handler, "from before")
    Guard(database, other, "amqp://there").check_all()
    with database.transaction() as session:
        waiting = [row[0] for row in session.execute("SELECT message_id FROM outbox")]
    assert waiting == [mail]
    other.close()


class Slow:
    """An output that takes its time to make a queue."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._output, name)

    def ensure(self, handler: str, generation: str) -> bool:
        self.begun.set()
        assert self.go_on.wait(60)
        return self._output.ensure(handler, generation)


@pytest.mark.promise("I2")
def test_two_schedulers_do_not_make_a_queue_at_once(
    rabbit: RabbitServer, output: Output, database: Database, handler: str
) -> None:
    """RabbitMQ breaks a queue for good that one declares while another deletes it."""
    add(database, handler)
    slow = Slow(open_output(rabbit.url))
    first = Guard(database, cast(Output, slow), "amqp://here")
    second = Guard(database, output, "amqp://here")
    with ThreadPoolExecutor() as pool:
        made = pool.submit(first.check_all)
        assert slow.begun.wait(60)
        assert second.check_all() == 0, "two make it"
        slow.go_on.set()
        assert made.result() == 1
    assert second.check_all() == 0
    publish(output, handler, 5)
    slow.close()  # type: ignore[operator]


def test_a_full_queue_takes_events_again_once_there_is_room(
    rabbit: RabbitServer, handler: str
) -> None:
    """A refusal may be the queue's word (a policy bounds it), and costs no connection then."""
    proxy = Proxy(rabbit.port, seed=1)
    output = open_output(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F")
    output.ensure(handler, "g")
    rabbit.control("set_policy", "bounded", f"^{queue_name(handler)}$", '{"max-length": 3}')
    eventually(lambda: isinstance(send(output, handler), NotTaken))
    before = proxy.taken
    for _ in range(200):
        assert isinstance(send(output, handler), NotTaken)
    assert proxy.taken <= before + 20, "a new connection for each refusal"
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        connection.channel().queue_purge(queue_name(handler))
    eventually(lambda: isinstance(send(output, handler), str))
    output.close()
    proxy.close()


def test_a_queue_that_confirms_nothing_is_told_until_it_confirms(
    rabbit: RabbitServer, output: Output, handler: str
) -> None:
    """As a quorum queue without a majority of its nodes; the broker takes all other messages."""
    assert output.ensure(handler, "g")
    publisher = ConfirmingPublisher(rabbit.url)
    message = Outgoing("posthouse.mail", f"handler.{handler}", b"{}", "1", "application/json")
    publisher.check()
    rabbit.control("eval", SUSPEND % queue_name(handler))
    assert publisher.publish([message], timeout_s=1) == [PublishOutcome.UNKNOWN]
    with pytest.raises(TryAgain, match=rf"does not confirm .* handler\.{handler}\."):
        publisher.check()
    rabbit.control("eval", RESUME % queue_name(handler))
    assert publisher.publish([message]) == [PublishOutcome.CONFIRMED]
    publisher.check()
    publisher.close()
