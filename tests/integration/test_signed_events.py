"""From the mailbox to the program: every event is signed, whichever way it came into the queue."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from posthouse import Consumer, MailEvent
from shared.queueing.output.open import open_output
from shared.storage import delivering_again, handlers
from shared.vault import former_signing_key_path, signing_key_path
from tests.rig.mails import mail
from tests.rig.stack import SIGNING_KEY, Stack
from tests.servers.dovecot import Dovecot

_NEW = "posthouse_signing_after_the_renewal"


@contextmanager
def program(stack: Stack, key: str, got: list[str]) -> Iterator[None]:
    """A consumer that verifies."""

    def handle(event: MailEvent) -> None:
        got.append(event.id)

    consumer = Consumer(stack.output_url, "archive", signing_key=key, stale_after_s=2)
    thread = threading.Thread(target=consumer.run, args=(handle,))
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join(40)
        assert not thread.is_alive()


@pytest.mark.promise("I3")
def test_first_deliveries_refills_and_deliveries_on_purpose_are_signed(
    broker_url: str,
    build_stack: Callable[..., Stack],
    dovecot: Dovecot,
    mail_user: str,
) -> None:
    stack = build_stack(broker_url)
    handler_id = stack.add_handler()
    connection = stack.watch(dovecot, mail_user)
    output = open_output(broker_url)
    got: list[str] = []
    stack.start("scheduler", "fetcher", "decryptor")
    stack.wait(lambda: output.inspect("archive").exists, "the queue")
    dovecot.deliver(mail_user, [mail(number, 600, seed=7) for number in range(3)])
    stack.run_once(connection)
    stack.wait_settled(3)
    # Lost before anybody took one: published again from Postgres.
    output.delete("archive")
    stack.wait(lambda: output.inspect("archive").exists, "the queue again")
    with program(stack, SIGNING_KEY, got):
        stack.wait(lambda: len(set(got)) == 3, "three mails after the refill")
        with stack.database.transaction() as session:
            new = stack.vault.seal(_NEW.encode(), signing_key_path(handler_id))
            old = stack.vault.seal(SIGNING_KEY.encode(), former_signing_key_path(handler_id))
            handlers.write_signing_keys(session, handler_id, new, old)
        # In the renewal: programs with either key take them.
        before = len(got)
        again(stack, got)
        stack.wait(lambda: len(got) >= before + 3, "delivered on purpose, to the former key")
    with program(stack, _NEW, got):
        before = len(got)
        again(stack, got)
        stack.wait(lambda: len(got) >= before + 3, "delivered on purpose, to the new key")
    assert output.inspect("archive").dead == 0
    output.close()


def again(stack: Stack, got: list[str]) -> None:
    """Delivers all mails again on purpose."""
    with stack.database.transaction() as session:
        delivering_again.deliver_again(session, [uuid.UUID(one) for one in set(got)])
