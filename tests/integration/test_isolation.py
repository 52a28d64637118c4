"""What others are served while some mail servers never answer and one mailbox is endless."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.rig.forkserver import Child
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.silent_server import Silence
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.processes import free_port

SILENT = 12
QUIET = 6
BACKLOG = 2000


@pytest.mark.slow
@pytest.mark.promise("I5")
def test_others_are_served_beside_hanging_servers_and_a_huge_mailbox(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    stack = build_stack(redis_url, fetch_threads="2", fetch_slow_threads="2")
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    port = free_port()
    silent = [
        stack.add_plain_connection(
            port, name=f"silent{number}", mode="imap", username=f"silent{number}", timeout_ms=60_000
        )
        for number in range(SILENT)
    ]
    # At first nobody listens there: that is told at once, and they are slow ones from then on.
    failing = "SELECT count(*) FROM connection_state WHERE lane = 'fetch-slow'"
    stack.wait(lambda: stack.query(failing) == [(SILENT,)], "all are known to fail")
    with Silence(port) as silence:
        for number in silent:
            stack.fetch_now(number)
        stack.wait(lambda: silence.held >= 2, "every thread for slow ones waits for the silence")
        dovecot.deliver(f"{mail_user}-huge", [mail(n, 1500, seed=5) for n in range(BACKLOG)])
        stack.watch(dovecot, f"{mail_user}-huge")
        mails = [mail(number, 2000, seed=6) for number in range(QUIET)]
        for number, content in enumerate(mails):
            dovecot.deliver(f"{mail_user}-{number}", [content])
            stack.watch(dovecot, f"{mail_user}-{number}")
        # Served one after another, the silent ones alone would keep two threads for six minutes.
        served = (
            "SELECT count(*) FROM message AS m JOIN connection AS c ON c.id = m.connection_id "
            "WHERE m.published_at IS NOT NULL AND c.name LIKE %s"
        )
        stack.wait(
            lambda: stack.query(served, f"{mail_user}-_") == [(QUIET,)], "the others' mails", 150
        )
    events = open_queue(redis_url, "archive").events()
    assert set(digests(mails)) <= {event["data"]["sha256"] for event in events}


@pytest.mark.promise("H4", "I5")
def test_a_mail_that_kills_its_decryptor_ends_in_quarantine_and_others_go_on(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    poison, sound = mail(1, 2000), mail(2, 2000)
    dovecot.deliver(mail_user, [poison])
    stack = build_stack(broker_url, decrypt_attempts="2")
    stack.add_handler()
    stack.start("scheduler", "fetcher")
    connection = stack.watch(dovecot, mail_user)
    for _ in range(2):
        (victim,) = stack.start("decryptor", die_at="claimed")
        stack.wait(partial(has_ended, stack, victim), "one more is dead")
        stack.processes.remove(victim)
        stack.hasten()
    dovecot.deliver(mail_user, [sound])
    stack.start("decryptor")
    stack.fetch_now(connection)
    stack.wait(lambda: stack.count("message") == 2, "the sound one is here too")
    stack.wait(lambda: (stack.hurry(), stack.count("outbox"))[1] == 0, "both are dealt with")
    stack.wait(lambda: stack.query("SELECT kind FROM alert") == [("mail-quarantined",)], "alert")
    stack.stop()
    ((digest, code, reason),) = stack.query(
        "SELECT m.sha256, q.code, q.reason FROM quarantine AS q JOIN message AS m USING (id)"
    )
    assert [digest.hex()] == digests([poison])
    assert code == "cannot-process" and "2 attempts" in reason
    (event,) = open_queue(broker_url, "archive").events()
    assert event["data"]["sha256"] in digests([sound])


def has_ended(stack: Stack, process: Child) -> bool:
    stack.hurry()
    return process.poll() is not None
