"""A mail that ends its decryptor takes none with it: what failed twice is worked on alone.

For an administrator: as in test_isolation.py, quarantine page, `mail-quarantined` alert and
`posthouse_quarantined_total{code="cannot-process"}`, for that mail only.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from tests.rig.decryptor_in_process import decryptor_here
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.scripted import ScriptedServer, imap

MAILS = [mail(number, 600, seed=71) for number in range(4)]


class Killed(BaseException):
    """What ends a process in the middle: nothing of it is handled."""


@pytest.mark.promise("H4", "I5")
def test_jobs_of_one_mail_each_share_no_fate_where_they_come_together(
    redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """A decryptor with its hands full takes what waits in one go (`JOBS_A_THREAD`)."""
    stack = build_stack(redis_url, decrypt_attempts="3")
    stack.add_handler()
    with (
        ScriptedServer(imap(mails=dict(enumerate(MAILS, 1)), settles=True)) as server,
        FetcherHere(stack).working() as here,
    ):
        here.run(stack.add_plain_connection(server.port, name="box", mode="imap"))
    jobs = [[one] for (one,) in stack.query("SELECT id FROM message ORDER BY raw_offset")]
    poison: uuid.UUID = jobs[1][0]

    def reached(step: str) -> None:
        in_hand = (
            "SELECT FROM outbox WHERE message_id = %s AND attempts <= 3 AND claimed_until > now()"
        )
        if step == "claimed" and stack.query(in_hand, poison):
            raise Killed

    # Twice in a batch, as it came; then one by one, which come together.
    stack.execute("UPDATE outbox SET attempts = 2")
    with decryptor_here(stack) as decryptor:
        object.__setattr__(decryptor.decrypting, "reached", reached)
        for _ in range(4):
            try:
                decryptor.decrypting._run(jobs)
            except Killed:
                stack.execute("UPDATE outbox SET claimed_until = now() - interval '1 second'")
    assert stack.query("SELECT id, code FROM quarantine") == [(poison, "cannot-process")]
    events = open_queue(redis_url, "archive").events()
    others = {event["data"]["sha256"] for event in events}
    assert others < set(digests(MAILS)) and len(others) == len(events) == len(MAILS) - 1
