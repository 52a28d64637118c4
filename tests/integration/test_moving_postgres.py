"""Postgres fails over and sessions outlive it, with what is a standby by then: alive, and refusing.

For an administrator: the overview and `posthouse_service_failing` tell it of each service as long
as Postgres only reads, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

MAILS = [mail(number, 600, seed=9) for number in range(12)]
SERVICES = ("scheduler", "fetcher", "decryptor")


@pytest.mark.promise("I2", "T2")
def test_sessions_that_outlived_a_failover_keep_no_mail_waiting(
    dovecot: Dovecot,
    mail_user: str,
    redis_url: str,
    database_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """They end as the change begins, and those that are opened meanwhile go on only reading."""
    stack = build_stack(redis_url, lease_seconds="5", tick_seconds="0.1")
    stack.add_handler()
    stack.start(*SERVICES)
    stack.watch(dovecot, mail_user)
    dovecot.deliver(mail_user, MAILS[:2])
    stack.wait_settled(2)
    server, _, name = database_url.rpartition("/")
    change = f'ALTER DATABASE "{name}" SET default_transaction_read_only = '
    with psycopg.connect(f"{server}/postgres", autocommit=True) as elsewhere:
        elsewhere.execute(f"{change} on")
        elsewhere.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        logs = [stack.log_of(service) for service in SERVICES]
        stack.wait(
            lambda: all(b"Postgres only reads" in log.read_bytes() for log in logs),
            "every service was refused a change",
        )
        elsewhere.execute(f"{change} off")
    dovecot.deliver(mail_user, MAILS[2:])
    settled = "SELECT count(*) FROM message WHERE published_at IS NOT NULL AND settled_at NOTNULL"
    stack.wait(
        lambda: (stack.hurry(), stack.query(settled))[1] == [(len(MAILS),)],
        "mails go on",
    )
    refused = "SELECT name FROM service WHERE failing <> '{}'"
    stack.wait(lambda: stack.query(refused) == [], "the overview tells nothing of it any more")
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted({event["data"]["sha256"] for event in events}) == digests(MAILS)
