"""Malformed mails go through the whole pipe: each ends delivered or quarantined.

`ODD_MAILS=10000` in the environment makes it a long run.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.rig.mails import digests
from tests.rig.odd_mails import MAKERS, odd_mails
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

COUNT = int(os.environ.get("ODD_MAILS", str(20 * len(MAKERS))))


@pytest.mark.promise("H4", "C4", "I5")
def test_none_is_lost_and_nobody_crashes(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    dovecot.deliver(mail_user, [m.replace(b"\x00", b"\x80") for m in odd_mails(COUNT, seed=5)])
    with dovecot.client(mail_user) as session:
        session.select_folder("INBOX", readonly=True)
        uids = session.search("ALL")
        on_server = []
        for start in range(0, len(uids), 500):
            found = session.fetch(uids[start : start + 500], ["BODY.PEEK[]"])
            on_server += [data[b"BODY[]"] for data in found.values()]
    assert len(on_server) == COUNT
    stack = build_stack(redis_url)
    stack.add_handler()
    processes = stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait(
        lambda: stack.count("message") == COUNT and stack.count("outbox") == 0,
        "every mail delivered or quarantined",
        seconds=60 + COUNT / 20,
    )
    assert [child.args for child in processes if child.poll() is not None] == []
    events = open_queue(redis_url, "archive").events()
    quarantined = {str(row[0]) for row in stack.query("SELECT id FROM quarantine")}
    originals = [
        event["data"].get("original", event["data"])["sha256"]
        for event in events
        if event["id"] not in quarantined
    ]
    assert len(originals) + len(quarantined) == COUNT
    if not quarantined:
        assert sorted(originals) == digests(on_server)
    # What cannot be opened says so.
    findings = {event["data"]["security"]["status"] for event in events}
    assert "failed" in findings or "unsupported" in findings
