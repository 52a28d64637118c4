"""A mail is asked for once more while a decryptor publishes it: each handler has it as often as it
is to, and who publishes it is not joined by a second one.

For an administrator: until the handler that was asked for has it, the mail is `waiting` on its page
and counts in the backlog of the overview; each delivery is on its path.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.demo.certificate import DemoCertificate
from services.decryptor.main import Decryptor
from shared.storage import delivering_again, outbox
from shared.storage.pool import Session
from tests.integration.queueing.conftest import eventually
from tests.integration.test_interrupted_decryptors import fetched, interrupted, run, secret
from tests.rig.database_locks import waits_for_any_lock
from tests.rig.decryptor_in_process import decryptor_here
from tests.rig.mails import mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack

MAILS = [mail(number, 600, seed=91) for number in range(2)]
THE_FIRST = {"accept": [{"subject": "Mail number 0"}]}
NOTHING = {"accept": [{"subject": "nothing that is anywhere"}]}


@dataclass
class Two:
    """Two decryptors of one stack with the handler `archive`, which takes everything."""

    stack: Stack
    url: str
    one: Decryptor
    other: Decryptor
    numbers: dict[str, int]

    def add(self, name: str, *, with_queue: bool = True, **fields: Any) -> None:
        self.numbers[name] = self.stack.add_handler(name, **fields)
        if with_queue:
            self.make_queue(name)

    def make_queue(self, name: str) -> None:
        self.one.output.ensure(name, str(uuid.uuid4()))

    def ask(self, mails: Sequence[str], *names: str, reason: str = "requested") -> None:
        """For these mails once more, at these handlers or at all."""
        ids, numbers = [uuid.UUID(one) for one in mails], [self.numbers[one] for one in names]
        with self.stack.database.transaction() as session:
            delivering_again.deliver_again(session, ids, numbers, reason=reason)

    def reconsider(self, mails: Sequence[str], name: str) -> None:
        """Lets the handler's rules of now decide about these mails."""
        ids = [uuid.UUID(one) for one in mails]
        with self.stack.database.transaction() as session:
            delivering_again.reconsider(session, ids, self.numbers[name])

    def had(self) -> dict[str, list[int]]:
        """How often each handler has each of the mails."""
        found = {name: open_queue(self.url, name).events() for name in self.numbers}
        return {
            name: sorted(Counter(event["id"] for event in events).values())
            for name, events in found.items()
        }

    def askings(self, name: str) -> list[int]:
        """The numbers of the askings in a handler's events, 0 where nobody asked."""
        events = open_queue(self.url, name).events()
        return [event["data"].get("redelivery", {}).get("count", 0) for event in events]

    def is_done(self) -> bool:
        return self.stack.count("outbox") == 0


@pytest.fixture
def two(redis_url: str, build_stack: Callable[..., Stack]) -> Iterator[Two]:
    stack = build_stack(redis_url)
    archive = stack.add_handler()
    with ExitStack() as opened:
        one, other = (opened.enter_context(decryptor_here(stack)) for _ in range(2))
        yield Two(stack, redis_url, one, other, {"archive": archive})


def _rules(two: Two, mails: Sequence[str]) -> None:
    two.stack.change_handler("crm", rules=THE_FIRST)
    two.reconsider(mails, "crm")


def _named(two: Two, mails: Sequence[str]) -> None:
    two.ask(mails, "crm")


def _both(two: Two, mails: Sequence[str]) -> None:
    _named(two, mails)
    _rules(two, mails)


@pytest.mark.promise("I3", "R2")
@pytest.mark.parametrize("step", ["claimed", "recorded", "decided", "published"])
@pytest.mark.parametrize("way", [_rules, _named, _both])
def test_asked_for_by_one_handler_a_mail_comes_to_each_once(
    two: Two, way: Callable[[Two, Sequence[str]], None], step: str
) -> None:
    two.add("crm", rules=NOTHING)
    mails = fetched(two.stack, MAILS)

    def meanwhile() -> None:
        way(two, mails[:1])
        run(two.other, mails)

    with interrupted(two.one, step, meanwhile):
        run(two.one, mails)
    assert two.had()["archive"] == [1, 1]
    run(two.other, mails)
    assert two.had() == {"archive": [1, 1], "crm": [1]}
    assert two.is_done()
    assert two.stack.query("SELECT repeats FROM delivery") == [(0,)] * 3


@pytest.mark.promise("I3", "H5")
def test_asked_for_twice_a_mail_comes_twice_more_and_says_so(two: Two) -> None:
    mails = fetched(two.stack, MAILS[:1])
    run(two.one, mails)
    two.ask(mails)

    def meanwhile() -> None:
        two.ask(mails, reason="The tickets of May were lost.")
        run(two.other, mails)

    with interrupted(two.one, "published", meanwhile):
        run(two.one, mails)
    assert two.askings("archive") == [0, 1]
    run(two.other, mails)
    assert two.askings("archive") == [0, 1, 2]
    assert two.is_done()


@pytest.mark.promise("I3")
@pytest.mark.parametrize("names", [(), ("archive",)], ids=["all", "named"])
def test_a_handler_that_just_gets_a_mail_for_the_first_time_has_what_was_asked_for(
    two: Two, names: Sequence[str]
) -> None:
    mails = fetched(two.stack, MAILS[:1])
    with interrupted(two.one, "published", lambda: two.ask(mails, *names)):
        run(two.one, mails)
    run(two.other, mails)
    assert two.had() == {"archive": [1]}
    assert two.is_done()


@pytest.mark.promise("I3")
def test_a_mail_that_is_given_back_is_repeated_for_nobody_who_got_it(two: Two) -> None:
    """`crm` has no queue yet; `archive` has the mail, and is asked for before that is recorded."""
    two.add("crm", with_queue=False)
    mails = fetched(two.stack, MAILS[:1])
    with interrupted(two.one, "published", lambda: two.ask(mails, "archive")):
        run(two.one, mails)
    two.make_queue("crm")
    run(two.other, mails)
    assert two.had() == {"archive": [1], "crm": [1]}
    assert two.is_done()


@pytest.mark.promise("I3", "H5")
def test_what_is_asked_for_once_more_is_not_lost_where_the_mail_is_given_back(two: Two) -> None:
    mails = fetched(two.stack, MAILS[:1])
    run(two.one, mails)
    two.add("crm", with_queue=False)
    two.ask(mails)
    with interrupted(two.one, "published", lambda: two.ask(mails, "archive")):
        run(two.one, mails)
    two.make_queue("crm")
    run(two.other, mails)
    assert two.askings("archive") == [0, 1, 2]
    assert two.had()["crm"] == [1]
    assert two.is_done()


@pytest.mark.promise("I3", "R1")
def test_in_a_group_the_first_keeps_a_mail_that_the_second_asks_for_meanwhile(two: Two) -> None:
    two.add("first", group="desk", position=1)
    two.add("second", group="desk", position=2)
    mails = fetched(two.stack, MAILS[:1])

    def meanwhile() -> None:
        two.reconsider(mails, "second")
        run(two.other, mails)

    with interrupted(two.one, "published", meanwhile):
        run(two.one, mails)
    run(two.other, mails)
    assert two.had() == {"archive": [1], "first": [1], "second": []}
    assert two.stack.query("SELECT handler_id FROM filtered") == [(two.numbers["second"],)]
    assert two.is_done()


@pytest.mark.promise("I2", "I3")
def test_who_dies_with_a_mail_leaves_what_was_asked_for_meanwhile(two: Two) -> None:
    """Nobody else publishes it before the claim ends; then everybody has it."""
    two.add("crm", rules=NOTHING)
    mails = fetched(two.stack, MAILS[:1])
    with two.stack.database.transaction() as session:
        outbox.claim(session, [uuid.UUID(mails[0])], uuid.uuid4(), 600)
    two.ask(mails, "crm")
    run(two.one, mails)
    assert two.had() == {"archive": [], "crm": []}
    two.stack.execute("UPDATE outbox SET claimed_until = now() - interval '1 second'")
    run(two.other, mails)
    assert two.had() == {"archive": [1], "crm": [1]}
    assert two.is_done()


@pytest.mark.promise("I2")
def test_what_is_asked_for_as_the_mail_is_recorded_is_not_removed_with_it(two: Two) -> None:
    two.add("crm", rules=NOTHING)
    mails = fetched(two.stack, MAILS[:1])
    asking: list[Session] = []
    with ExitStack() as opened, ThreadPoolExecutor(1) as beside:

        def ask() -> None:
            session = opened.enter_context(two.stack.database.transaction())
            ids = [uuid.UUID(mails[0])]
            delivering_again.deliver_again(session, ids, [two.numbers["crm"]])
            asking.append(session)

        with interrupted(two.one, "published", ask):
            running = beside.submit(run, two.one, mails)
            eventually(lambda: bool(asking) and waits_for_any_lock(two.stack.database))
            opened.close()
            running.result(30)
    run(two.other, mails)
    assert two.had() == {"archive": [1], "crm": [1]}
    assert two.is_done()


@pytest.mark.promise("I2", "R2")
@pytest.mark.parametrize("is_asked_before", [False, True])
def test_a_decryptor_of_the_last_release_does_not_remove_what_it_was_not_told_of(
    two: Two, is_asked_before: bool
) -> None:
    """While services are replaced: it finishes what it holds whatever was asked for meanwhile, so
    the mail is taken from it."""
    two.add("crm", rules=NOTHING)
    mails = fetched(two.stack, MAILS[:1])
    token, mail_id = uuid.uuid4(), uuid.UUID(mails[0])
    if is_asked_before:
        two.ask(mails, "archive")
    with two.stack.database.transaction() as session:
        claimed = "claim = %s, claimed_until = now() + interval '600 s', attempts = attempts + 1"
        session.execute(f"UPDATE outbox SET {claimed}", (token,))
    two.ask(mails, "crm")
    with two.stack.database.transaction() as session:
        session.execute("DELETE FROM outbox WHERE message_id = %s AND claim = %s", (mail_id, token))
    run(two.one, mails)
    assert two.had() == {"archive": [1], "crm": [1]}


@pytest.mark.promise("C4", "H5")
def test_a_handler_that_got_a_mail_unopened_meanwhile_knows_the_opened_one_for_another(
    two: Two, tmp_path: Path
) -> None:
    """Nothing says that it had the mail, and what dedupes by the key has to take it once more."""
    certificate = DemoCertificate.of(tmp_path / "keys")
    mails = fetched(two.stack, [secret(certificate)])

    def attach() -> None:
        ((connection,),) = two.stack.query("SELECT id FROM connection")
        two.stack.add_certificate(certificate, connection)
        two.ask(mails)
        with two.stack.database.transaction() as session:
            delivering_again.reopen(session, [uuid.UUID(mails[0])])

    with interrupted(two.one, "published", attach):
        run(two.one, mails)
    run(two.other, mails)
    first, second = (event["data"] for event in open_queue(two.url, "archive").events())
    assert [one["security"]["status"] for one in (first, second)] == ["no_recipient", "decrypted"]
    assert two.askings("archive") == [0, 1]
    assert two.is_done()
