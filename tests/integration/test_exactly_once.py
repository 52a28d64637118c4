"""Every mail arrives at the handler exactly once, octet for octet as the server has it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig.mails import digests, mixed
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

COUNT = 2000
FEW = 300
#: Any two of broker, protocol and settlement are among these together.
MANY = {
    ("redis", "imap", "delete"),
    ("redis", "pop3", "mark-read"),
    ("rabbitmq", "imap", "mark-read"),
    ("rabbitmq", "pop3", "delete"),
}


@pytest.fixture(scope="module")
def thousands() -> list[bytes]:
    return list(mixed(COUNT, seed=7))


@pytest.mark.promise("M2", "M7", "H1", "I3", "I4")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_every_mail_of_hundreds_or_thousands(
    mode: str,
    after_download: str,
    thousands: list[bytes],
    dovecot: Dovecot,
    mail_user: str,
    broker_url: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    """Two thousand where `MANY` says so, three hundred otherwise."""
    user, broker = mail_user, "redis" if broker_url.startswith("redis") else "rabbitmq"
    mails = thousands if (broker, mode, after_download) in MANY else thousands[:FEW]
    count = len(mails)
    dovecot.deliver(user, mails)
    stack = build_stack(broker_url)
    stack.add_handler()
    stack.start("scheduler", "scheduler", "fetcher", "fetcher", "fetcher", "decryptor")
    stack.watch(dovecot, user, mode=mode, after_download=after_download)
    stack.wait_settled(count, seconds=120)
    stack.stop()
    events = open_queue(broker_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
    assert len({event["id"] for event in events}) == count
    assert sorted(event["data"]["sequence"] for event in events) == list(range(1, count + 1))
    left = dovecot.flags(user)
    if after_download == "delete":
        assert left == {}
    elif mode == "imap":
        assert all("\\Seen" in flags for flags in left.values())
    else:
        assert len(left) == count
    with contextlib.suppress(FileNotFoundError):
        assert list((tmp_path / "store" / "spool").iterdir()) == []


@pytest.mark.promise("R1", "R3", "I3")
def test_a_thousand_mails_among_three_handlers_of_a_group(
    thousands: list[bytes],
    dovecot: Dovecot,
    mail_user: str,
    broker_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Each mail is with exactly one of them, and every other says why it is not there."""
    mails = thousands[: COUNT // 2]
    dovecot.deliver(mail_user, mails)
    stack = build_stack(broker_url)
    stack.add_handler("small", group="desk", position=1, rules={"accept": [{"size": "< 3 kB"}]})
    stack.add_handler(
        "expert", group="desk", position=2, rules={"expression": 'subject.matches("[02468]$")'}
    )
    stack.add_handler("rest", group="desk", position=3)
    stack.add_handler("all")
    stack.start("scheduler", "fetcher", "fetcher", "decryptor", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(len(mails), seconds=120)
    stack.stop()
    had = {
        name: [event["data"]["sha256"] for event in open_queue(broker_url, name).events()]
        for name in ("small", "expert", "rest", "all")
    }
    assert all(had.values())
    assert sorted(had["small"] + had["expert"] + had["rest"]) == digests(mails)
    assert sorted(had["all"]) == digests(mails)
    assert stack.count("delivery") == 2 * len(mails)
    assert stack.count("filtered") == 2 * len(mails)
