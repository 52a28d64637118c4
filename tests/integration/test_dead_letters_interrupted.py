"""Who delivers dead letters again, or discards them, is killed as the broker has done it: neither
the event nor what became of it is lost.

For an administrator: the path of the mail says that it was rejected and delivered again, and the
audit log who asked for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from posthouse.source_opening import open_source
from services.admin.context import Context
from services.admin.operations import dead_letters
from services.decryptor.main import Decryptor
from services.scheduler.queue_guard import Guard
from shared.queueing.output import DeadChoice, DeadLetter, Output
from shared.storage import messages
from tests.integration.queueing.conftest import eventually
from tests.integration.test_interrupted_decryptors import fetched, run
from tests.rig.decryptor_in_process import decryptor_here
from tests.rig.mails import mail
from tests.rig.queue_events import delete_queue, open_queue
from tests.rig.stack import Stack

MAILS = [mail(number, 600, seed=95) for number in range(2)]


class Killed(BaseException):
    """The process is gone: nothing of it goes on."""


class UpTo:
    """An output at which the process is killed: once it is `noted` what leaves the dead letters, or
    once the broker has `done` it."""

    def __init__(self, output: Output, step: str) -> None:
        self._output, self._step = output, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)

    def deliver_dead_again(self, handler: str, chosen: DeadChoice, leaving: Any) -> None:
        self._output.deliver_dead_again(handler, chosen, self._told(leaving))
        raise Killed

    def discard_dead(self, handler: str, chosen: DeadChoice, leaving: Any) -> None:
        self._output.discard_dead(handler, chosen, self._told(leaving))
        raise Killed

    def _told(self, leaving: Callable[[Sequence[DeadLetter]], None]) -> Any:
        def told(letters: Sequence[DeadLetter]) -> None:
            leaving(letters)
            if self._step == "noted":
                raise Killed

        return told


class Rejected:
    """Mails that their handler has rejected, and the guard of its queue."""

    def __init__(self, stack: Stack, url: str, decryptor: Decryptor) -> None:
        self.stack, self.url, self.decryptor = stack, url, decryptor
        self.output = decryptor.output
        self.handler = stack.add_handler()
        self.guard = Guard(stack.database, self.output, "here")
        self.guard.check_all()
        self.mails = fetched(stack, MAILS)
        run(decryptor, self.mails)
        source = open_source(url, "archive", stale_after_s=60, prefetch=0)
        try:
            rejected = 0
            while rejected < len(MAILS):
                for held in source.receive(1, 5.0):
                    source.dead_letter(held, "no such customer")
                    rejected += 1
        finally:
            source.close()
        eventually(lambda: self.output.inspect("archive").dead == len(MAILS))

    def killed(self, act: Callable[[Context, int], int], step: str) -> None:
        """Somebody asks for it, and the process is killed at this step."""
        state = SimpleNamespace(output=UpTo(self.output, step), database=self.stack.database)
        ctx = Context(cast(Any, state), cast(Any, SimpleNamespace(name="berta")))
        with pytest.raises(Killed):
            act(ctx, self.handler)

    def path(self, mail_id: str) -> list[str]:
        with self.stack.database.transaction() as session:
            path = messages.get(session, uuid.UUID(mail_id)).path
        words = [stop.what for stop in path if stop.what != "settled"]
        return words[words.index("published") :]

    def asked(self) -> list[tuple[Any, ...]]:
        """What the audit log says of dead letters."""
        return self.stack.query(
            "SELECT actor, action, after ->> 'events' FROM audit WHERE subject = %s",
            f"handler/{self.handler}",
        )


@pytest.fixture
def rejected(broker_url: str, build_stack: Callable[..., Stack]) -> Iterator[Rejected]:
    stack = build_stack(broker_url)
    with decryptor_here(stack) as decryptor:
        delete_queue(broker_url, "archive")  # the guard makes it
        yield Rejected(stack, broker_url, decryptor)


@pytest.mark.promise("I2", "H1")
def test_what_was_put_back_before_the_kill_is_in_a_queue_that_is_filled_again(
    rejected: Rejected,
) -> None:
    rejected.guard.check_all()
    # As the guard finds out, of RabbitMQ some minutes later.
    rejected.stack.execute("UPDATE handler_queue SET watermark = clock_timestamp()")
    rejected.killed(dead_letters.deliver_dead_letters_again, "done")
    eventually(lambda: rejected.output.inspect("archive").dead == 0)
    delete_queue(rejected.url, "archive")
    rejected.guard.check_all()
    run(rejected.decryptor, rejected.mails)
    events = open_queue(rejected.url, "archive").events()
    assert sorted(event["id"] for event in events) == sorted(rejected.mails)


@pytest.mark.promise("D2", "H3")
def test_the_path_says_that_it_was_put_back_although_nobody_lived_to_note_it(
    rejected: Rejected,
) -> None:
    rejected.killed(dead_letters.deliver_dead_letters_again, "done")
    eventually(lambda: rejected.output.inspect("archive").dead == 0)
    rejected.guard.check_all()
    for mail_id in rejected.mails:
        assert rejected.path(mail_id)[:2] == ["published", "rejected"]
        assert sorted(rejected.path(mail_id)[2:4]) == ["delivered-again", "published"]
    assert rejected.asked() == [("berta", "deliver-again", str(len(MAILS)))]


@pytest.mark.promise("I2", "D2")
def test_what_was_not_put_back_before_the_kill_is_a_dead_letter_as_before(
    rejected: Rejected,
) -> None:
    rejected.killed(dead_letters.deliver_dead_letters_again, "noted")
    eventually(lambda: rejected.output.inspect("archive").dead == len(MAILS))
    rejected.guard.check_all()
    asked = "SELECT DISTINCT state FROM delivery_state"
    assert rejected.stack.query(asked) == [("dead-letter",)]
    assert open_queue(rejected.url, "archive").events()[len(MAILS) :] == []


@pytest.mark.promise("D2", "H3")
def test_what_was_discarded_before_the_kill_was_rejected_and_who_did_it_is_known(
    rejected: Rejected,
) -> None:
    rejected.killed(dead_letters.discard_dead_letters, "done")
    eventually(lambda: rejected.output.inspect("archive").dead == 0)
    rejected.guard.check_all()
    for mail_id in rejected.mails:
        assert rejected.path(mail_id) == ["published", "rejected", "left-dead-letters"]
    assert rejected.asked() == [("berta", "discard", str(len(MAILS)))]
