"""What somebody asks for once more says so in its event, and a handler that dedupes handles it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from posthouse import Consumer, MailEvent
from shared.queueing.output.open import open_output
from shared.storage import delivering_again, messages
from tests.rig.mails import mail
from tests.rig.queue_events import delete_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.promise("H5")


@contextmanager
def program(stack: Stack, got: list[MailEvent], seen: set[str]) -> Iterator[None]:
    """A handler as advised: what it had by its key does not come to it again."""
    consumer = Consumer(stack.output_url, "archive", verify=False, stale_after_s=2, seen=seen)
    thread = threading.Thread(target=consumer.run, args=(got.append,))
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join(40)
        assert not thread.is_alive()


def test_a_handler_that_knows_repeats_gets_what_is_asked_for_once_more(
    broker_url: str,
    build_stack: Callable[..., Stack],
    dovecot: Dovecot,
    mail_user: str,
) -> None:
    stack = build_stack(broker_url)
    stack.add_handler()
    output = open_output(broker_url)
    connection = stack.watch(dovecot, mail_user)
    dovecot.deliver(mail_user, [mail(1, 600, seed=7)])
    stack.start("scheduler", "fetcher", "decryptor")
    stack.run_once(connection)
    stack.wait_settled(1)
    got: list[MailEvent] = []
    seen: set[str] = set()
    with program(stack, got, seen):
        stack.wait(lambda: len(got) == 1, "the mail")
        assert got[0].redelivery is None and got[0].idempotency_key == got[0].id
        ask(stack, got[0].id)
        stack.wait(lambda: len(got) == 2, "asked for once more")
        ask(stack, got[0].id, "The tickets of May were lost.")
        stack.wait(lambda: len(got) == 3, "and once more")
    told = [one.redelivery for one in got[1:]]
    assert [(one.count, one.reason) for one in told if one] == [
        (1, "requested"),
        (2, "The tickets of May were lost."),
    ]
    assert len(seen) == 3 and len({one.id for one in got}) == 1
    # A queue that is lost is filled with the very same: nobody asked for that.
    ask(stack, got[0].id, "Third.")
    stack.wait(lambda: stack.query("SELECT repeats FROM delivery") == [(3,)], "published")
    delete_queue(broker_url, "archive")
    stack.wait(lambda: stack.query("SELECT repeats FROM delivery") == [(4,)], "published anew")
    with program(stack, got, seen):
        stack.wait(lambda: len(got) == 4, "out of the refilled queue")
    assert got[3].redelivery is not None and got[3].redelivery.count == 3
    with stack.database.transaction() as session:
        path = messages.get(session, uuid.UUID(got[0].id)).path
    # Each delivery stays on the path, in order.
    published = [stop.detail.get("redelivery") for stop in path if stop.what == "published"]
    assert [one and one["count"] for one in published] == [None, 1, 2, 3, 3]
    output.close()


def ask(stack: Stack, event_id: str, reason: str = "requested") -> None:
    with stack.database.transaction() as session:
        delivering_again.deliver_again(session, [uuid.UUID(event_id)], reason=reason)
