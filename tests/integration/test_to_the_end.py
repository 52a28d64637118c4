"""A mail's path ends with what its handler did with it, and nothing on it is ever taken back."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from posthouse import Consumer, MailEvent, Reject
from shared.queueing.output import DeadChoice, Output, open_output
from shared.storage import handler_queues, messages, outbox
from shared.storage.message_paths import Stop
from shared.storage.messages import MessageFilter, MessageState
from tests.rig.house import House
from tests.rig.mails import mail
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.promise("D2", "H3")


def titled(subject: str) -> bytes:
    return mail(1, 600, seed=7).replace(b"Mail number 1", subject.encode())


@contextmanager
def program(house: House, work: Callable[[MailEvent], None]) -> Iterator[None]:
    consumer = Consumer(house.output_url, "archive", verify=False, stale_after_s=2, prefetch=0)
    thread = threading.Thread(target=consumer.run, args=(work,))
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join(40)
        assert not thread.is_alive()


def found(house: House, state: MessageState) -> list[str]:
    """Subjects of the mails that a search by this state gives; each says the same of itself."""
    with house.database.transaction() as session:
        listed = messages.search(session, MessageFilter(state=state))
    assert {one.state for one in listed} <= {state}
    return sorted(one.subject for one in listed)


def path(house: House, subject: str) -> list[Stop]:
    ((number,),) = house.query("SELECT id FROM message WHERE subject = %s", subject)
    with house.database.transaction() as session:
        return messages.get(session, number).path


def words(house: House, subject: str) -> list[str]:
    """The path from the first delivery on."""
    stops = [stop.what for stop in path(house, subject)]
    return stops[stops.index("published") :]


def settle(house: House, output: Output, what: str, chosen: DeadChoice) -> None:
    """As an operator does on the page."""
    ((handler,),) = house.query("SELECT id FROM handler")
    with house.database.transaction() as session:
        handler_queues.hold(session, handler)
        if what == "put-back":
            moved = output.redrive_dead("archive", chosen)
        else:
            moved = dict.fromkeys(output.discard_dead("archive", chosen), "")
        left = output.inspect("archive").dead
        handler_queues.end_dead(session, handler, list(moved), what, left=left)
        if what == "put-back":
            handler_queues.put_back(session, handler, moved)


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_a_path_ends_with_the_word_of_the_handler(
    broker: str,
    request: pytest.FixtureRequest,
    build_house: Callable[..., House],
    dovecot: Dovecot,
    mail_user: str,
) -> None:
    server = request.getfixturevalue("redis_server" if broker == "redis" else "rabbit_server")
    house = build_house(server.url)
    house.add_handler()
    output = open_output(server.url)
    output.delete("archive")  # of another test
    connection = house.watch(dovecot, mail_user)
    subjects = ["Fine", "Odd", "Strange", "Slow"]
    dovecot.deliver(mail_user, [titled(subject) for subject in subjects])
    house.start("scheduler", "fetcher", "decryptor")
    house.run_once(connection)
    house.wait_settled(len(subjects))
    assert found(house, MessageState.PUBLISHED) == sorted(subjects)
    assert words(house, "Fine") == ["published", "waiting"]
    assert "settled" in {stop.what for stop in path(house, "Fine")}

    slow, go_on = threading.Event(), threading.Event()

    def handle(event: MailEvent) -> None:
        if event.headers.subject == "Slow":
            slow.set()
            go_on.wait(60)
        elif event.headers.subject != "Fine":
            raise Reject(f"No customer for {event.headers.subject}.")

    with program(house, handle):
        house.wait(slow.is_set, "three are handled, one is in hand")
        house.wait(lambda: found(house, MessageState.DEAD_LETTER) == ["Odd", "Strange"], "dead")
        assert words(house, "Odd") == ["published", "rejected", "dead-letter"]
        assert "No customer for Odd." in path(house, "Odd")[-2].text
        if broker == "redis":
            house.wait(lambda: found(house, MessageState.IN_HAND) == ["Slow"], "in hand")
            (held,) = (one for one in path(house, "Slow") if one.what == "in-hand")
            assert held.at and "consumer" in held.text
            house.wait(lambda: found(house, MessageState.ACKNOWLEDGED) == ["Fine"], "acknowledged")
            assert words(house, "Fine") == ["published", "acknowledged"]
            since = held.at
            checked = house.query("SELECT checked_at FROM handler_queue")
            looked = "SELECT checked_at FROM handler_queue"
            house.wait(lambda: house.query(looked) != checked, "one more look")
            (held,) = (one for one in path(house, "Slow") if one.what == "in-hand")
            assert held.at == since, "since when it is in that hand"
        go_on.set()
    if broker == "redis":
        house.wait(
            lambda: found(house, MessageState.ACKNOWLEDGED) == ["Fine", "Slow"], "acknowledged"
        )
    settle(house, output, "discarded", DeadChoice(reason="No customer for Odd."))
    assert found(house, MessageState.DEAD_LETTER) == ["Strange"]
    assert found(house, MessageState.REJECTED) == ["Odd"]
    assert words(house, "Odd") == ["published", "rejected", "discarded"]
    settle(house, output, "put-back", DeadChoice())
    assert words(house, "Strange") == ["published", "rejected", "put-back", "published", "waiting"]
    with program(house, lambda _: None):
        house.wait(lambda: house.query("SELECT backlog FROM handler_queue") == [(0,)], "handled")
        if broker == "redis":
            house.wait(
                lambda: found(house, MessageState.ACKNOWLEDGED) == ["Fine", "Slow", "Strange"],
                "acknowledged after all",
            )
    output.close()


def test_a_path_says_only_what_was_done_on_the_server(
    redis_url: str, build_house: Callable[..., House], dovecot: Dovecot, mail_user: str
) -> None:
    house = build_house(redis_url)
    house.add_handler()
    users = {key: f"{mail_user}-{key}" for key in ("read", "deleted", "nothing")}
    connections = {
        "read": house.watch(dovecot, users["read"]),
        "deleted": house.watch(dovecot, users["deleted"], after_download="delete"),
        "nothing": house.watch(dovecot, users["nothing"], mode="pop3"),
    }
    for user in users.values():
        dovecot.deliver(user, [titled(user)])
    house.start("scheduler", "fetcher", "decryptor")
    for connection in connections.values():
        house.run_once(connection)
    house.wait_settled(3)
    said = {}
    for key, user in users.items():
        (stop,) = (one for one in path(house, user) if one.what == "settled")
        said[key] = stop.text
        assert stop.detail == {"as": key}
    assert said == {
        "read": "Marked read on the server",
        "deleted": "Deleted on the server",
        "nothing": "Nothing to mark: over POP3 it stays on the server as it is",
    }


def test_what_was_found_inside_before_stays_on_the_path(
    redis_url: str, build_house: Callable[..., House], dovecot: Dovecot, mail_user: str
) -> None:
    house = build_house(redis_url)
    house.add_handler()
    connection = house.watch(dovecot, mail_user)
    dovecot.deliver(mail_user, [mail(1, 600, seed=7)])
    house.start("scheduler", "fetcher", "decryptor")
    house.run_once(connection)
    house.wait_settled(1)
    ((number,),) = house.query("SELECT id FROM message")
    house.execute("""UPDATE message SET security = '{"status": "no_recipient"}'""")
    with house.database.transaction() as session:
        outbox.redeliver(session, [number], reason="opened-again")
        outbox.reopen(session, [number])
    house.wait(
        lambda: house.query("SELECT opened_at IS NOT NULL FROM message") == [(True,)], "again"
    )
    house.wait_settled(1)
    with house.database.transaction() as session:
        detail = messages.get(session, uuid.UUID(str(number)))
    opened = [stop.text for stop in detail.path if stop.what == "opened"]
    assert opened == ["Left encrypted: no attached certificate fits", "Not encrypted"]
