"""Killed at every step, nothing is lost and nothing comes twice.

Each scenario kills one service with SIGKILL exactly at one named step, lets another one go on,
and compares mailbox, store, ledger and the handler's queue to the exact state that is expected.
Then everything runs once more, and nothing more happens.

For an administrator: mails that had to be sent to the decryptors once more count in
`posthouse_redriven_total` (PosthouseRedriving), commits under a lease that was lost in
`posthouse_lease_losses_total` (PosthouseLeasesLost).
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from services.decryptor.decrypting import STEPS as DECRYPT_STEPS
from services.fetcher.run import STEPS as FETCH_STEPS
from tests.rig.events import delete_queue, open_queue, queue_exists
from tests.rig.house import House
from tests.rig.interruption import MAILS, SETTINGS, Scenario, stopped
from tests.rig.mails import digests
from tests.rig.server_kinds import KINDS
from tests.rig.zygote import Child
from tests.servers.dovecot import Dovecot

DOVECOT = {kind.mode: kind for kind in KINDS if kind.first}


@pytest.mark.promise("M7", "I1", "I3")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
@pytest.mark.parametrize("mode", ["imap", "pop3"])
@pytest.mark.parametrize("step", FETCH_STEPS)
def test_fetcher_dies(
    step: str,
    mode: str,
    after_download: str,
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_house: Callable[..., House],
) -> None:
    house = build_house(broker_url, **SETTINGS)
    Scenario(house, DOVECOT[mode], dovecot, mail_user, broker_url, after_download).kill(
        "fetcher", step
    )


@pytest.mark.promise("M7", "I1", "I3")
@pytest.mark.parametrize("step", [s for s in FETCH_STEPS if s not in ("listed", "finished")])
def test_fetcher_dies_in_a_later_batch(
    step: str,
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_house: Callable[..., House],
) -> None:
    house = build_house(redis_url, **SETTINGS)
    Scenario(house, DOVECOT["imap"], dovecot, mail_user, redis_url, "delete").kill(
        "fetcher", f"{step}:2"
    )


@pytest.mark.promise("H1", "I3")
@pytest.mark.parametrize("step", DECRYPT_STEPS)
def test_decryptor_dies(
    step: str,
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_house: Callable[..., House],
) -> None:
    house = build_house(broker_url, **SETTINGS)
    Scenario(house, DOVECOT["imap"], dovecot, mail_user, broker_url, "mark-read").kill(
        "decryptor", step
    )


@pytest.mark.promise("H1", "I3")
def test_a_decryptor_that_slept_publishes_nothing_again(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_house: Callable[..., House],
) -> None:
    """It stalls with a mail in hand; another one is just publishing that when it wakes up."""
    house = build_house(broker_url, **SETTINGS)
    sleeper = stalled_decryptor(house, dovecot, mail_user, "recorded")
    house.hasten()
    (other,) = house.start("decryptor", stall_at="published")
    house.wait(lambda: (house.hurry(), stopped(other))[1], "another has published")
    sleeper.send_signal(signal.SIGCONT)
    told = '"mails": 0'
    house.wait(lambda: told in house.log_of("decryptor").read_text(), "it goes on, too late")
    other.send_signal(signal.SIGCONT)
    house.wait_settled(1)
    house.stop()
    (event,) = open_queue(broker_url, "archive").events()
    assert event["data"]["sha256"] in digests(MAILS[:1])


def stalled_decryptor(house: House, dovecot: Dovecot, user: str, step: str) -> Child:
    """Lets one mail come for one handler; returns the decryptor that stalls with it at `step`."""
    dovecot.deliver(user, MAILS[:1])
    house.add_handler()
    house.start("scheduler", "fetcher")
    (sleeper,) = house.start("decryptor", stall_at=step)
    house.watch(dovecot, user)
    house.wait(lambda: stopped(sleeper), f"the decryptor stalls at {step}")
    return sleeper


@pytest.mark.promise("H1", "I2")
def test_an_event_that_was_in_a_lost_queue_and_not_recorded_yet_comes_again(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_house: Callable[..., House],
) -> None:
    """The decryptor stalls between confirmation and record; the queue is lost and made anew."""
    house = build_house(broker_url, **SETTINGS)
    sleeper = stalled_decryptor(house, dovecot, mail_user, "published")
    lose_queue(house, broker_url, "archive")
    sleeper.send_signal(signal.SIGCONT)
    house.wait(lambda: (house.hurry(), house.count("outbox"))[1] == 0, "all is published")
    house.stop()
    (event,) = open_queue(broker_url, "archive").events()
    assert event["data"]["sha256"] in digests(MAILS[:1])


@pytest.mark.promise("H1", "I2")
def test_a_second_queue_that_is_lost_while_the_first_is_filled_again_is_filled_too(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_house: Callable[..., House],
) -> None:
    house = build_house(broker_url, **SETTINGS)
    dovecot.deliver(mail_user, MAILS[:1])
    for name in ("archive", "crm"):
        house.add_handler(name)
    house.start("scheduler", "fetcher")
    (first,) = house.start("decryptor")
    house.watch(dovecot, mail_user)
    house.wait_settled(1)
    house.kill(first)
    (sleeper,) = house.start("decryptor", stall_at="published")
    lose_queue(house, broker_url, "archive")
    house.wait(lambda: (house.hurry(), stopped(sleeper))[1], "it is published to the first again")
    lose_queue(house, broker_url, "crm")
    sleeper.send_signal(signal.SIGCONT)
    house.wait(lambda: (house.hurry(), house.count("outbox"))[1] == 0, "all is published")
    house.stop()
    for name in ("archive", "crm"):
        found = {event["data"]["sha256"] for event in open_queue(broker_url, name).events()}
        assert sorted(found) == digests(MAILS[:1]), name


def lose_queue(house: House, url: str, handler: str) -> None:
    """Until the schedulers have noticed and made it anew."""
    made = (
        "SELECT q.generation FROM handler_queue AS q JOIN handler AS h ON h.id = q.handler_id "
        "WHERE h.name = %s"
    )
    before = house.query(made, handler)
    delete_queue(url, handler)
    house.wait(lambda: house.query(made, handler) != before, "the queue is noticed")
    house.wait(lambda: queue_exists(url, handler), "the queue is made anew")
