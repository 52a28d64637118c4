"""The broker restarts while a fetcher's own queue is full: no mailbox is left waiting.

For an administrator: a broker that stays away is told as in test_own_health.py; there is nothing to
do once it is back.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.integration.queueing.conftest import Server
from tests.integration.test_own_queues import (
    MAILBOXES,
    all_polled_since,
    kept,
    stopped_with_jobs,
)
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot


@pytest.mark.promise("I2", "M4")
def test_a_broker_that_restarts_with_a_full_own_queue_leaves_no_mailbox_waiting(
    fragile: Server, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """Both brokers keep their jobs over a restart. One that comes back empty: see the deleted queue
    in test_own_queues.py, whose polls come with the next interval at the latest."""
    stack = build_stack(fragile.url)
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    (fetcher,) = stack.start("fetcher")
    with Dovecot(lmtp=True) as dovecot:
        users, queue = kept(stack, dovecot, mail_user)
        dovecot.deliver_lmtp(users, [mail(1, 1000)])
        stopped_with_jobs(stack, fetcher, fragile.url, queue)
        polled = all_polled_since(stack)
        fragile.stop()
        fragile.start()
        fetcher.send_signal(signal.SIGCONT)
        stack.wait(polled, "each is polled", 60)
        stack.wait_settled(MAILBOXES)
        stack.stop()
