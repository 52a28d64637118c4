"""Mails whose octets are missing keep no others waiting that are worked on with them.

For an administrator: as in test_store_identity.py, for those mails only.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.messages import RawRef
from shared.store import FileStore
from tests.rig.decryptor_in_process import decryptor_here
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.scripted import ScriptedServer, imap

MAILS = [mail(number, 600, seed=72) for number in range(4)]


def shorten(stack: Stack) -> None:
    """The object ends in the third of its mails."""
    ((key, offset, size),) = stack.query(
        "SELECT raw_key, raw_offset, size FROM message ORDER BY raw_offset LIMIT 1 OFFSET 2"
    )
    whole = FileStore(stack.store).read(RawRef(key, 0, offset + size))
    (stack.store / key).write_bytes(whole[: offset + size - 1])


def lose_opened(stack: Stack) -> None:
    """The last two were opened and not published, and what was opened is lost."""
    stack.execute(
        """UPDATE message SET security = '{"encrypted": true}', opened_offset = 0,
        opened_key = 'raw/2026/01/01/lost', opened_size = 100
        WHERE id IN (SELECT id FROM message ORDER BY raw_offset OFFSET 2)"""
    )


@pytest.mark.promise("I5", "H4")
@pytest.mark.parametrize("lose", [shorten, lose_opened], ids=["shortened", "opened"])
def test_mails_of_a_part_whose_octets_are_there_go_on(
    lose: Callable[[Stack], None], redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    with (
        ScriptedServer(imap(mails=dict(enumerate(MAILS, 1)), settles=True)) as server,
        FetcherHere(stack).working() as here,
    ):
        here.run(stack.add_plain_connection(server.port, name="box", mode="imap"))
    lose(stack)
    job = [str(one) for (one,) in stack.query("SELECT id FROM message ORDER BY raw_offset")]
    with decryptor_here(stack) as decryptor:
        decryptor.decrypting.run(job, job[0])
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(MAILS[:2])
    waiting = stack.query("SELECT message_id FROM outbox WHERE missing_since IS NOT NULL")
    assert {str(one) for (one,) in waiting} == set(job[2:])
    assert stack.count("quarantine") == 0
