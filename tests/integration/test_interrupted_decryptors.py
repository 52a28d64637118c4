"""A decryptor is interrupted between two steps, or our own servers fail it, and no mail is lost.

The decryptor is in the test's own process, which says what happens between the steps; Postgres, the
store and the broker are real.

For an administrator: a mail that waits is `retrying` on its page, with the reason, and in the
backlog of the overview and its alert; events that were not confirmed count in
`posthouse_publish_failures_total` (PosthousePublishFailing).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from cli.demo.certificate import DemoCertificate
from cli.demo.samples import compose, encrypted
from services.decryptor.main import Decryptor
from services.scheduler.queue_guard import Guard
from shared.storage import delivering_again
from shared.vault import new_key
from tests.integration.queueing.conftest import eventually
from tests.rig.database_locks import waits_for_any_lock
from tests.rig.decryptor_in_process import decryptor_here
from tests.rig.faults import store_away
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.queue_events import delete_queue, open_queue
from tests.rig.stack import Stack
from tests.servers.redis import RedisServer
from tests.servers.scripted import ScriptedServer, imap

MAILS = [mail(number, 600, seed=73) for number in range(2)]
#: Attempts that end in quarantine where one of them is held against a mail.
OFTEN = 3


def fetched(stack: Stack, mails: Sequence[bytes], name: str = "box") -> list[str]:
    """The ids of these mails, which wait to be published."""
    with (
        ScriptedServer(imap(mails=dict(enumerate(mails, 1)), settles=True)) as server,
        FetcherHere(stack).working() as here,
    ):
        connection = stack.add_plain_connection(server.port, name=name, mode="imap")
        here.run(connection)
    asked = "SELECT id FROM message WHERE connection_id = %s ORDER BY raw_offset"
    return [str(one) for (one,) in stack.query(asked, connection)]


def secret(certificate: DemoCertificate) -> bytes:
    return encrypted(compose("a@example.org", "b@example.org", "Secret", "Hello."), certificate)


@contextmanager
def interrupted(decryptor: Decryptor, step: str, act: Callable[[], object]) -> Iterator[None]:
    """Does `act` the first time that the decryptor comes to `step`."""
    happened: list[str] = []

    def reached(name: str) -> None:
        if name == step and not happened:
            happened.append(name)
            act()

    object.__setattr__(decryptor.decrypting, "reached", reached)
    yield
    assert happened == [step]


def run(decryptor: Decryptor, mails: Sequence[str]) -> None:
    decryptor.decrypting.run(mails, mails[0])


def had(url: str, handler: str = "archive") -> list[str]:
    return sorted(event["data"]["sha256"] for event in open_queue(url, handler).events())


@pytest.mark.promise("C4")
@pytest.mark.parametrize("step", ["kept", "published"])
def test_a_certificate_that_is_attached_meanwhile_opens_the_mail(
    step: str, redis_url: str, build_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """That it could not be opened was found before, and is not recorded of it after that."""
    certificate = DemoCertificate.of(tmp_path / "keys")
    stack = build_stack(redis_url)
    stack.add_handler()
    mails = fetched(stack, [secret(certificate)])

    def attach() -> None:
        ((connection,),) = stack.query("SELECT id FROM connection")
        stack.add_certificate(certificate, connection)
        with stack.database.transaction() as session:
            ids = [uuid.UUID(one) for one in mails]
            delivering_again.deliver_again(session, ids)
            delivering_again.reopen(session, ids)

    with decryptor_here(stack) as decryptor:
        delete_queue(redis_url, "archive")  # so that it is given back, and not finished
        with interrupted(decryptor, step, attach):
            run(decryptor, mails)
        decryptor.output.ensure("archive", str(uuid.uuid4()))
        run(decryptor, mails)
    (event,) = open_queue(redis_url, "archive").events()
    assert event["data"]["security"]["status"] == "decrypted"


@pytest.mark.promise("I3", "R1")
def test_a_mail_that_is_another_ones_by_the_time_it_was_decided_is_not_published(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler(rules={"reject": [{"subject": "nothing"}]})
    mails = fetched(stack, MAILS[:1])
    with (
        decryptor_here(stack) as decryptor,
        psycopg.connect(stack.database_url) as other,
        ThreadPoolExecutor(1) as beside,
        interrupted(decryptor, "recorded", lambda: other.execute("SELECT FROM outbox FOR UPDATE")),
    ):
        running = beside.submit(run, decryptor, mails)
        eventually(lambda: waits_for_any_lock(stack.database))
        other.execute("UPDATE outbox SET claim = gen_random_uuid()")
        other.commit()
        running.result(30)
    assert had(redis_url) == []
    assert (stack.count("outbox"), stack.count("delivery")) == (1, 0)


@pytest.mark.promise("H1", "I2")
@pytest.mark.parametrize("others", [(), ("crm",)], ids=["alone", "beside one without a queue"])
def test_an_event_of_a_queue_that_is_lost_before_it_is_recorded_comes_again(
    others: Sequence[str], broker_url: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(broker_url)
    names = ("archive", *others)
    for name in names:
        stack.add_handler(name)
    mails = fetched(stack, MAILS[:1])
    with decryptor_here(stack) as decryptor:
        guard = Guard(stack.database, decryptor.output, "here")
        guard.check_all()

        def lose() -> None:
            delete_queue(broker_url, "archive")
            guard.check_all()

        for name in others:
            delete_queue(broker_url, name)
        with interrupted(decryptor, "published", lose):
            run(decryptor, mails)
        run(decryptor, mails)
    for name in names:
        assert had(broker_url, name) == digests(MAILS[:1]), name
    assert stack.count("outbox") == 0


@pytest.mark.promise("H1", "I3", "H4")
def test_a_queue_that_stays_away_costs_its_handler_no_mail_and_others_no_second_one(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url, decrypt_attempts="1")
    for name in ("archive", "crm"):
        stack.add_handler(name)
    mails = fetched(stack, MAILS)
    with decryptor_here(stack) as decryptor:
        for _ in range(OFTEN):
            run(decryptor, mails)
        assert (stack.count("quarantine"), stack.count("outbox")) == (0, len(MAILS))
        decryptor.output.ensure("crm", str(uuid.uuid4()))
        run(decryptor, mails)
    for name in ("archive", "crm"):
        assert had(redis_url, name) == digests(MAILS), name
    assert stack.count("outbox") == 0


@pytest.mark.promise("I5", "H4")
def test_a_store_that_is_away_is_held_against_no_mail(
    redis_url: str, redis_server: RedisServer, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url, decrypt_attempts="1")
    stack.add_handler()
    mails = fetched(stack, MAILS)
    with decryptor_here(stack) as decryptor:
        with store_away(stack, redis_server):
            for _ in range(OFTEN):
                run(decryptor, mails)
        assert (stack.count("quarantine"), stack.count("outbox")) == (0, len(MAILS))
        run(decryptor, mails)
    assert had(redis_url) == digests(MAILS)


class Hasty(threading.Event):
    """Whoever waits for it for some time comes back at once."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(min(timeout or 0.0, 0.05))


@pytest.mark.promise("I3")
def test_a_mail_that_takes_long_stays_with_its_decryptor(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    mails = fetched(stack, MAILS[:1])
    held, prolonged = "SELECT claimed_until FROM outbox", []

    def takes_long() -> None:
        before = stack.query(held)
        eventually(lambda: stack.query(held) > before)
        prolonged.append(before)

    with decryptor_here(stack) as decryptor, ThreadPoolExecutor(1) as beside:
        stop = Hasty()
        renewing = beside.submit(decryptor.decrypting.claims.run, stop)
        with interrupted(decryptor, "opened", takes_long):
            run(decryptor, mails)
        stop.set()
        renewing.result(30)
    assert prolonged
    assert had(redis_url) == digests(MAILS[:1])


@pytest.mark.promise("M18", "H1")
def test_a_mail_waits_for_a_handler_where_there_is_none(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """The last one was disabled after the mail was fetched; it is enabled again."""
    stack = build_stack(redis_url)
    stack.add_handler()
    mails = fetched(stack, MAILS)
    stack.change_handler("archive", enabled=False)
    with decryptor_here(stack) as decryptor:
        run(decryptor, mails)
        assert stack.count("outbox WHERE error = 'No enabled handler takes it.'") == len(MAILS)
        stack.change_handler("archive", enabled=True)
        run(decryptor, mails)
    assert had(redis_url) == digests(MAILS)


@pytest.mark.promise("C2", "I5")
def test_a_certificate_whose_key_this_decryptor_lacks_holds_up_no_other_mail(
    redis_url: str, build_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """While a new key is rolled out: the mail is left to decryptors that have it already."""
    certificate = DemoCertificate.of(tmp_path / "keys")
    stack = build_stack(redis_url, decrypt_attempts="1")
    stack.add_handler()
    sealed = fetched(stack, [secret(certificate)], "sealed")
    plain = fetched(stack, MAILS, "plain")
    old, new = stack.secret_keys[0], new_key()
    stack.secret_keys = [new]
    ((connection,),) = stack.query("SELECT id FROM connection WHERE name = 'sealed'")
    stack.add_certificate(certificate, connection)
    stack.secret_keys = [old]
    with decryptor_here(stack) as decryptor:
        for _ in range(OFTEN):
            run(decryptor, [*sealed, *plain])
    assert had(redis_url) == digests(MAILS)
    assert (stack.count("quarantine"), stack.count("outbox")) == (0, 1)
    stack.secret_keys = [new, old]
    with decryptor_here(stack) as decryptor:
        run(decryptor, sealed)
    event = open_queue(redis_url, "archive").events()[-1]
    assert event["data"]["security"]["status"] == "decrypted"
