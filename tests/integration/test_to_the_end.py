"""A mail's path ends with what its handler did with it, and nothing on it is ever taken back."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from posthouse import Consumer, MailEvent, Reject
from shared.queueing.output import DeadChoice, DeadLetter, Output
from shared.queueing.output.open import open_output
from shared.storage import dead_letters, delivering_again, handler_queues, message_search, messages
from shared.storage.message_filter import MessageFilter
from shared.storage.message_paths import Stop
from shared.storage.messages import MessageState
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.promise("D2", "H3")


def titled(subject: str) -> bytes:
    return mail(1, 600, seed=7).replace(b"Mail number 1", subject.encode())


@contextmanager
def program(stack: Stack, work: Callable[[MailEvent], None]) -> Iterator[None]:
    # Two at a time: one that is kept waiting is not in the way of others, in whatever order.
    consumer = Consumer(
        stack.output_url, "archive", verify=False, stale_after_s=2, prefetch=0, concurrency=2
    )
    thread = threading.Thread(target=consumer.run, args=(work,))
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join(40)
        assert not thread.is_alive()


def found(stack: Stack, state: MessageState) -> list[str]:
    """Subjects of the mails that a search by this state gives; each says the same of itself."""
    with stack.database.transaction() as session:
        listed = message_search.search(session, MessageFilter(state=state)).items
    assert {one.state for one in listed} <= {state}
    return sorted(one.subject for one in listed)


def path(stack: Stack, subject: str) -> list[Stop]:
    ((number,),) = stack.query("SELECT id FROM message WHERE subject = %s", subject)
    with stack.database.transaction() as session:
        return messages.get(session, number).path


def words(stack: Stack, subject: str) -> list[str]:
    """The path from the first delivery on; its mail may be settled on the server meanwhile."""
    stops = [stop.what for stop in path(stack, subject) if stop.what != "settled"]
    return stops[stops.index("published") :]


def settle(stack: Stack, output: Output, what: str, chosen: DeadChoice) -> None:
    """As an operator does on the page."""
    ((handler,),) = stack.query("SELECT id FROM handler")

    def leaving(letters: Sequence[DeadLetter]) -> None:
        with stack.database.transaction() as beside:
            dead_letters.record_leaving(beside, handler, letters, for_queue=True)

    with stack.database.transaction() as session:
        handler_queues.hold(session, handler)
        if what == "delivered-again":
            moved = output.deliver_dead_again("archive", chosen, leaving)
        else:
            moved = dict.fromkeys(output.discard_dead("archive", chosen), "")
        left = output.inspect("archive").dead
        dead_letters.record_ended(session, handler, list(moved), what, left=left)
        if what == "delivered-again":
            dead_letters.record_delivered_again(session, handler, moved)


def test_a_path_ends_with_the_word_of_the_handler(
    broker_url: str,
    build_stack: Callable[..., Stack],
    dovecot: Dovecot,
    mail_user: str,
) -> None:
    stack = build_stack(broker_url)
    stack.add_handler()
    output = open_output(broker_url)
    connection = stack.watch(dovecot, mail_user)
    subjects = ["Fine", "Odd", "Strange", "Slow"]
    dovecot.deliver(mail_user, [titled(subject) for subject in subjects])
    stack.start("scheduler", "fetcher", "decryptor")
    stack.run_once(connection)
    stack.wait_settled(len(subjects))
    assert found(stack, MessageState.PUBLISHED) == sorted(subjects)
    assert words(stack, "Fine") == ["published", "waiting"]
    assert "settled" in {stop.what for stop in path(stack, "Fine")}

    slow, go_on = threading.Event(), threading.Event()

    def handle(event: MailEvent) -> None:
        if event.headers.subject == "Slow":
            slow.set()
            go_on.wait(60)
        elif event.headers.subject != "Fine":
            raise Reject(f"No customer for {event.headers.subject}.")

    with program(stack, handle):
        stack.wait(slow.is_set, "three are handled, one is in hand")
        stack.wait(lambda: found(stack, MessageState.DEAD_LETTER) == ["Odd", "Strange"], "dead")
        assert words(stack, "Odd") == ["published", "rejected", "dead-letter"]
        assert any("No customer for Odd." in stop.text for stop in path(stack, "Odd"))
        if broker_url.startswith("redis"):
            stack.wait(lambda: found(stack, MessageState.IN_HAND) == ["Slow"], "in hand")
            (held,) = (one for one in path(stack, "Slow") if one.what == "in-hand")
            assert held.at and "consumer" in held.text
            stack.wait(lambda: found(stack, MessageState.ACKNOWLEDGED) == ["Fine"], "acknowledged")
            assert words(stack, "Fine") == ["published", "acknowledged"]
            since = held.at
            checked = stack.query("SELECT checked_at FROM handler_queue")
            looked = "SELECT checked_at FROM handler_queue"
            stack.wait(lambda: stack.query(looked) != checked, "one more look")
            (held,) = (one for one in path(stack, "Slow") if one.what == "in-hand")
            assert held.at == since, "since when it is in that hand"
        go_on.set()
    if broker_url.startswith("redis"):
        stack.wait(
            lambda: found(stack, MessageState.ACKNOWLEDGED) == ["Fine", "Slow"], "acknowledged"
        )
    settle(stack, output, "discarded", DeadChoice(reason="No customer for Odd."))
    assert found(stack, MessageState.DEAD_LETTER) == ["Strange"]
    assert found(stack, MessageState.REJECTED) == ["Odd"]
    assert words(stack, "Odd") == ["published", "rejected", "discarded"]
    settle(stack, output, "delivered-again", DeadChoice())
    assert words(stack, "Strange") == [
        "published",
        "rejected",
        "delivered-again",
        "published",
        "waiting",
    ]
    with program(stack, lambda _: None):
        stack.wait(lambda: stack.query("SELECT backlog FROM handler_queue") == [(0,)], "handled")
        if broker_url.startswith("redis"):
            stack.wait(
                lambda: found(stack, MessageState.ACKNOWLEDGED) == ["Fine", "Slow", "Strange"],
                "acknowledged after all",
            )
    output.close()


def test_a_path_says_only_what_was_done_on_the_server(
    redis_url: str, build_stack: Callable[..., Stack], dovecot: Dovecot, mail_user: str
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    users = {key: f"{mail_user}-{key}" for key in ("read", "deleted", "nothing")}
    connections = {
        "read": stack.watch(dovecot, users["read"]),
        "deleted": stack.watch(dovecot, users["deleted"], after_download="delete"),
        "nothing": stack.watch(dovecot, users["nothing"], mode="pop3"),
    }
    for user in users.values():
        dovecot.deliver(user, [titled(user)])
    stack.start("scheduler", "fetcher", "decryptor")
    for connection in connections.values():
        stack.run_once(connection)
    stack.wait_settled(3)
    said = {}
    for key, user in users.items():
        (stop,) = (one for one in path(stack, user) if one.what == "settled")
        said[key] = stop.text
        assert stop.detail == {"as": key}
    assert said == {
        "read": "Marked read on the server",
        "deleted": "Deleted on the server",
        "nothing": "Nothing marked: it stays on the server as it is",
    }


def test_what_was_found_inside_before_stays_on_the_path(
    redis_url: str, build_stack: Callable[..., Stack], dovecot: Dovecot, mail_user: str
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = stack.watch(dovecot, mail_user)
    dovecot.deliver(mail_user, [mail(1, 600, seed=7)])
    stack.start("scheduler", "fetcher", "decryptor")
    stack.run_once(connection)
    stack.wait_settled(1)
    ((number,),) = stack.query("SELECT id FROM message")
    stack.execute("""UPDATE message SET security = '{"status": "no_recipient"}'""")
    with stack.database.transaction() as session:
        delivering_again.deliver_again(session, [number], reason="opened-again")
        delivering_again.reopen(session, [number])
    stack.wait(
        lambda: stack.query("SELECT opened_at IS NOT NULL FROM message") == [(True,)], "again"
    )
    stack.wait_settled(1)
    with stack.database.transaction() as session:
        detail = messages.get(session, uuid.UUID(str(number)))
    opened = [stop.text for stop in detail.path if stop.what == "opened"]
    assert opened == ["Left encrypted: no attached certificate fits", "Not encrypted"]
