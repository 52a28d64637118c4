"""Killed at every step, nothing is lost and nothing comes twice.

Each scenario kills one service with SIGKILL exactly at one named step, lets another one go on,
and compares mailbox, store, ledger and the handler's queue to the exact state that is expected.
Then everything runs once more, and nothing more happens. All steps with both brokers in each mode
and with each action: `make servers-check`.

For an administrator: mails that had to be sent to the decryptors once more count in
`posthouse_resent_total` (PosthouseResending), commits under a lease that was lost in
`posthouse_lease_losses_total` (PosthouseLeasesLost).
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator

import pytest

from services.decryptor.decrypt_job import STEPS as DECRYPT_STEPS
from services.fetcher.run import STEPS as FETCH_STEPS
from tests.rig.forkserver import Child
from tests.rig.interruption import MAILS, SETTINGS, Scenario, stopped
from tests.rig.mails import digests
from tests.rig.queue_events import delete_queue, open_queue, queue_exists
from tests.rig.server_kinds import KINDS
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

DOVECOT = {kind.mode: kind for kind in KINDS if kind.first}


def kills() -> Iterator[object]:
    """Each step in each mode with each action. `make test` takes each of these with one broker, and
    each step with both."""
    chosen = itertools.product(FETCH_STEPS, ("imap", "pop3"), ("mark-read", "delete"))
    for step, mode, action in chosen:
        number = FETCH_STEPS.index(step) + (mode == "pop3") + (action == "delete")
        for other, broker in enumerate(("redis", "rabbitmq")):
            marks = [pytest.mark.long] if (number + other) % 2 else []
            name = f"{broker}-{step}-{mode}-{action}"
            yield pytest.param(step, mode, action, broker, marks=marks, id=name)


@pytest.mark.promise("M7", "I1", "I3")
@pytest.mark.parametrize(
    ("step", "mode", "after_download", "broker_url"), list(kills()), indirect=["broker_url"]
)
def test_fetcher_dies(
    step: str,
    mode: str,
    after_download: str,
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    stack = build_stack(broker_url, **SETTINGS)
    Scenario(stack, DOVECOT[mode], dovecot, mail_user, broker_url, after_download).kill(
        "fetcher", step
    )


@pytest.mark.promise("M7", "I1", "I3")
@pytest.mark.parametrize("step", [s for s in FETCH_STEPS if s not in ("listed", "finished")])
def test_fetcher_dies_in_a_later_batch(
    step: str,
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    stack = build_stack(redis_url, **SETTINGS)
    Scenario(stack, DOVECOT["imap"], dovecot, mail_user, redis_url, "delete").kill(
        "fetcher", f"{step}:2"
    )


@pytest.mark.promise("H1", "I3")
@pytest.mark.parametrize("step", DECRYPT_STEPS)
def test_decryptor_dies(
    step: str,
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    stack = build_stack(broker_url, **SETTINGS)
    Scenario(stack, DOVECOT["imap"], dovecot, mail_user, broker_url, "mark-read").kill(
        "decryptor", step
    )


@pytest.mark.promise("H1", "I3")
def test_a_decryptor_that_slept_publishes_nothing_again(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """It stalls with a mail in hand; another one is just publishing that when it wakes up."""
    stack = build_stack(broker_url, **SETTINGS)
    sleeper = stalled_decryptor(stack, dovecot, mail_user, "recorded")
    stack.hasten()
    (other,) = stack.start("decryptor", stall_at="published")
    stack.wait(lambda: (stack.hurry(), stopped(other))[1], "another has published")
    sleeper.send_signal(signal.SIGCONT)
    told = '"mails": 0'
    stack.wait(lambda: told in stack.log_of("decryptor").read_text(), "it goes on, too late")
    other.send_signal(signal.SIGCONT)
    stack.wait_settled(1)
    stack.stop()
    (event,) = open_queue(broker_url, "archive").events()
    assert event["data"]["sha256"] in digests(MAILS[:1])


def stalled_decryptor(stack: Stack, dovecot: Dovecot, user: str, step: str) -> Child:
    """Lets one mail come for one handler; returns the decryptor that stalls with it at `step`."""
    dovecot.deliver(user, MAILS[:1])
    stack.add_handler()
    stack.start("scheduler", "fetcher")
    (sleeper,) = stack.start("decryptor", stall_at=step)
    stack.watch(dovecot, user)
    stack.wait(lambda: stopped(sleeper), f"the decryptor stalls at {step}")
    return sleeper


@pytest.mark.promise("H1", "I2")
def test_an_event_that_was_in_a_lost_queue_and_not_recorded_yet_comes_again(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """The decryptor stalls between confirmation and record; the queue is lost and made anew."""
    stack = build_stack(broker_url, **SETTINGS)
    sleeper = stalled_decryptor(stack, dovecot, mail_user, "published")
    lose_queue(stack, broker_url, "archive")
    sleeper.send_signal(signal.SIGCONT)
    stack.wait(lambda: (stack.hurry(), stack.count("outbox"))[1] == 0, "all is published")
    stack.stop()
    (event,) = open_queue(broker_url, "archive").events()
    assert event["data"]["sha256"] in digests(MAILS[:1])


@pytest.mark.promise("H1", "I2")
def test_a_second_queue_that_is_lost_while_the_first_is_filled_again_is_filled_too(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    stack = build_stack(broker_url, **SETTINGS)
    dovecot.deliver(mail_user, MAILS[:1])
    for name in ("archive", "crm"):
        stack.add_handler(name)
    stack.start("scheduler", "fetcher")
    (first,) = stack.start("decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(1)
    stack.kill(first)
    (sleeper,) = stack.start("decryptor", stall_at="published")
    lose_queue(stack, broker_url, "archive")
    stack.wait(lambda: (stack.hurry(), stopped(sleeper))[1], "it is published to the first again")
    lose_queue(stack, broker_url, "crm")
    sleeper.send_signal(signal.SIGCONT)
    stack.wait(lambda: (stack.hurry(), stack.count("outbox"))[1] == 0, "all is published")
    stack.stop()
    for name in ("archive", "crm"):
        found = {event["data"]["sha256"] for event in open_queue(broker_url, name).events()}
        assert sorted(found) == digests(MAILS[:1]), name


def lose_queue(stack: Stack, url: str, handler: str) -> None:
    """Until the schedulers have noticed and made it anew."""
    made = (
        "SELECT q.generation FROM handler_queue AS q JOIN handler AS h ON h.id = q.handler_id "
        "WHERE h.name = %s"
    )
    before = stack.query(made, handler)
    delete_queue(url, handler)
    stack.wait(lambda: stack.query(made, handler) != before, "the queue is noticed")
    stack.wait(lambda: queue_exists(url, handler), "the queue is made anew")
