"""Every service is replaced, one after another, while mails arrive: nothing is lost or repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable
from hashlib import sha256
from itertools import count

import pytest

from tests.rig.mails import mail
from tests.rig.rollout import Caller, Rollout
from tests.rig.stack import Stack
from tests.rig.storm_handlers import Recorder
from tests.servers.dovecot import Dovecot

REPLICAS = {"scheduler": 2, "fetcher": 2, "decryptor": 2, "admin": 2}


@pytest.mark.slow
@pytest.mark.promise("I1", "I2", "I3", "I4")
def test_a_rolling_restart_loses_and_repeats_nothing(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    users = [f"{mail_user}-{number}" for number in range(6)]
    sent: list[str] = []
    for number, user in enumerate(users):
        # A backlog, so that fetchers and decryptors are in the middle of something when they end.
        backlog = [mail(i, 2500, seed=100 + number) for i in range(150)]
        dovecot.deliver(user, backlog)
        sent += [sha256(item).hexdigest() for item in backlog]
    stack = build_stack(broker_url, batch_mails="20")
    stack.add_handler()
    handler = Recorder(broker_url, "archive")
    handler.start()
    rollout = Rollout(stack, REPLICAS)
    connections = [
        stack.watch(
            dovecot,
            user,
            mode="pop3" if number % 3 == 2 else "imap",
            after_download="delete" if number % 2 else "mark-read",
        )
        for number, user in enumerate(users)
    ]
    caller = Caller(rollout, connections)
    enough = threading.Event()

    def send() -> None:
        for number in count():
            burst = [mail(number * 10 + i, 2500, seed=11) for i in range(10)]
            dovecot.deliver(users[number % len(users)], burst)
            sent.extend(sha256(item).hexdigest() for item in burst)
            if enough.wait(0.25):
                return

    sender = threading.Thread(target=send)
    sender.start()
    caller.start()
    try:
        for service in REPLICAS:
            rollout.restart(service)
    finally:
        enough.set()
        sender.join()
    stack.wait_settled(len(sent), seconds=120)
    caller.stop()
    stack.wait(lambda: len(handler.seen) >= len(sent), "the handler has them all")
    stack.stop()
    handler.stop()
    assert sorted(handler.digests.values()) == sorted(sent)
    assert set(handler.seen.values()) == {1}
    assert stack.query("SELECT sum(repeats) FROM delivery") == [(0,)]
    assert caller.answered > 0
    assert caller.failures == []
