"""A mail that ends its decryptor takes none with it: what failed twice is worked on alone.

For an administrator: as in test_isolation.py, quarantine page, `mail-quarantined` alert and
`posthouse_quarantined_total{code="cannot-process"}`, for that mail only.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from services.decryptor.main import build
from services.decryptor.settings import DecryptorSettings
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
    known = DecryptorSettings.model_fields
    environment = {
        name.removeprefix("POSTHOUSE_").lower(): value
        for name, value in stack.environment_of("decryptor").items()
    }
    settings = {name: value for name, value in environment.items() if name in known}
    decryptor = build(DecryptorSettings(**settings))  # type: ignore[arg-type]
    jobs = [[one] for (one,) in stack.query("SELECT id FROM message ORDER BY raw_offset")]
    poison: uuid.UUID = jobs[1][0]

    def reached(step: str) -> None:
        in_hand = (
            "SELECT FROM outbox WHERE message_id = %s AND attempts <= 3 AND claimed_until > now()"
        )
        if step == "claimed" and stack.query(in_hand, poison):
            raise Killed

    object.__setattr__(decryptor.decrypting, "reached", reached)
    # Twice in a batch, as it came; then one by one, which come together.
    stack.execute("UPDATE outbox SET attempts = 2")
    with decryptor.database:
        decryptor.output.ensure("archive", str(uuid.uuid4()))
        for _ in range(4):
            try:
                decryptor.decrypting._run(jobs)
            except Killed:
                stack.execute("UPDATE outbox SET claimed_until = now() - interval '1 second'")
        decryptor.output.close()
    assert stack.query("SELECT id, code FROM quarantine") == [(poison, "cannot-process")]
    events = open_queue(redis_url, "archive").events()
    others = {event["data"]["sha256"] for event in events}
    assert others < set(digests(MAILS)) and len(others) == len(events) == len(MAILS) - 1
