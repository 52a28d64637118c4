"""From the mailbox to the program: every event is signed, whichever way it came into the queue."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from posthouse import Consumer, MailEvent
from shared.queueing.output import open_output
from shared.storage import handlers, outbox
from shared.vault import former_signing_key_place, signing_key_place
from tests.rig.house import SIGNING_KEY, House
from tests.rig.mails import mail
from tests.servers.dovecot import Dovecot

_NEW = "posthouse_signing_after_the_renewal"


@contextmanager
def program(house: House, key: str, got: list[str]) -> Iterator[None]:
    """A consumer that verifies."""

    def handle(event: MailEvent) -> None:
        got.append(event.id)

    consumer = Consumer(house.output_url, "archive", signing_key=key, stale_after_s=2)
    thread = threading.Thread(target=consumer.run, args=(handle,))
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join(40)
        assert not thread.is_alive()


@pytest.mark.promise("I3")
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_first_deliveries_refills_and_deliveries_on_purpose_are_signed(
    broker: str,
    request: pytest.FixtureRequest,
    build_house: Callable[..., House],
    dovecot: Dovecot,
    mail_user: str,
) -> None:
    server = request.getfixturevalue("redis_server" if broker == "redis" else "rabbit_server")
    house = build_house(server.url)
    handler_id = house.add_handler()
    connection = house.watch(dovecot, mail_user)
    output = open_output(server.url)
    output.delete("archive")  # of another test
    got: list[str] = []
    house.start("scheduler", "fetcher", "decryptor")
    house.wait(lambda: output.inspect("archive").exists, "the queue")
    dovecot.deliver(mail_user, [mail(number, 600, seed=7) for number in range(3)])
    house.run_once(connection)
    house.wait_settled(3)
    # Lost before anybody took one: published again from Postgres.
    output.delete("archive")
    house.wait(lambda: output.inspect("archive").exists, "the queue again")
    with program(house, SIGNING_KEY, got):
        house.wait(lambda: len(set(got)) == 3, "three mails after the refill")
        with house.database.transaction() as session:
            new = house.vault.seal(_NEW.encode(), signing_key_place(handler_id))
            old = house.vault.seal(SIGNING_KEY.encode(), former_signing_key_place(handler_id))
            handlers.write_signing_keys(session, handler_id, new, old)
        # In the renewal: programs with either key take them.
        before = len(got)
        again(house, got)
        house.wait(lambda: len(got) >= before + 3, "delivered on purpose, to the former key")
    with program(house, _NEW, got):
        before = len(got)
        again(house, got)
        house.wait(lambda: len(got) >= before + 3, "delivered on purpose, to the new key")
    assert output.inspect("archive").dead == 0
    output.close()


def again(house: House, got: list[str]) -> None:
    """Delivers all mails again on purpose."""
    with house.database.transaction() as session:
        outbox.redeliver(session, [uuid.UUID(one) for one in set(got)])
