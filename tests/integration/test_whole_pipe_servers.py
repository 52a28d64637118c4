"""From mail servers that nobody here tuned for to the handler: once, whole, and settled."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.rig.interruption import message_id
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.server_kinds import FOREIGN, ServerKind, params
from tests.rig.stack import Stack
from tests.servers.courier import Courier
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import MailServer

COUNT = 200
IMAP = [kind for kind in FOREIGN if kind.mode == "imap"]


@pytest.fixture
def user(request: pytest.FixtureRequest) -> Iterator[tuple[MailServer, str]]:
    """The server of the test's kind, and a user that nobody had before."""
    server = request.node.callspec.params["kind"].server(request)
    name = f"user{uuid.uuid4().hex[:10]}"
    server.add_user(name)
    yield server, name
    server.forget_user(name)


@pytest.mark.promise("M7", "M26", "I3")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
@pytest.mark.parametrize("kind", params(FOREIGN))
def test_every_mail_arrives_exactly_once(
    kind: ServerKind,
    after_download: str,
    user: tuple[MailServer, str],
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    server, name = user
    mails = [mail(number, 300 + 37 * number, seed=5) for number in range(COUNT)]
    server.deliver(name, mails)
    stack = build_stack(redis_url, batch_mails="50")
    stack.add_handler()
    stack.start("scheduler", "fetcher", "fetcher", "decryptor")
    connection = stack.watch(server, name, mode=kind.mode, after_download=after_download)
    stack.wait_settled(COUNT, seconds=120)
    stack.run_once(connection)
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert len({event["id"] for event in events}) == len(events) == COUNT
    if kind.alters_mails:
        told = stack.query("SELECT message_id FROM message")
        assert sorted(row[0].strip("<>") for row in told) == sorted(
            message_id(raw).strip("<>") for raw in mails
        )
    else:
        assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
    kind.check_left(server, name, COUNT, after_download)


@pytest.mark.promise("M10", "M26")
@pytest.mark.parametrize("kind", params(IMAP))
def test_a_mail_that_is_set_unread_again_does_not_come_twice(
    kind: ServerKind,
    user: tuple[MailServer, str],
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    server, name = user
    server.deliver(name, [mail(number, 700) for number in range(3)])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.watch(server, name)
    stack.wait_settled(3)
    with server.client(name) as other:
        other.select_folder("INBOX")
        other.remove_flags(other.search("ALL")[:2], [rb"\Seen"])
    stack.run_once(connection)
    stack.stop()
    assert stack.count("message") == 3
    unread = [flags for flags in server.flags(name).values() if r"\Seen" not in flags]
    assert len(unread) == 2


@pytest.mark.promise("M9", "M26", "I9")
@pytest.mark.parametrize("kind", params(IMAP))
def test_a_recreated_folder_floods_nobody(
    kind: ServerKind,
    user: tuple[MailServer, str],
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """A backup is restored: the same mails under another UIDVALIDITY, and two new ones."""
    server, name = user
    old = [mail(number, 2500, seed=11) for number in range(12)]
    new = [mail(number, 2500, seed=12) for number in range(2)]
    raw = f"{server.prefix}Orders"
    server.deliver(name, old, folder=raw)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(server, name, folder="Orders", selection="all")
    stack.wait_settled(12)

    def validity() -> int:
        with server.client(name) as other:
            status = other.folder_status(raw, ["UIDVALIDITY"])
            return int(status[b"UIDVALIDITY"])

    before = validity()
    with server.client(name) as other:
        other.delete_folder(raw)
    # Both servers count UIDVALIDITY in seconds.
    stack.wait(lambda: _recreated(server, name, raw) and validity() != before, "a new folder")
    server.deliver(name, [new[0], *reversed(old), new[1]], folder=raw)
    stack.hurry()
    stack.wait(lambda: (stack.hurry(), stack.count("message") >= 14)[1], "the new ones have come")
    stack.wait_settled(14)
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(old + new)


@pytest.mark.promise("I9")
def test_a_folder_made_anew_after_a_first_run_that_broke_off(
    dovecot: Dovecot, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """The first run died when it had committed a batch: what it had is known by its content."""
    name = f"user{uuid.uuid4().hex[:10]}"
    mails = [mail(number, 900, seed=14) for number in range(6)]
    dovecot.deliver(name, mails, folder="Orders")
    stack = build_stack(redis_url, batch_mails="2")
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    (victim,) = stack.start("fetcher", die_at="committed")
    stack.watch(dovecot, name, folder="Orders", selection="all")
    stack.wait(lambda: victim.poll() is not None, "the fetcher dies")
    stack.processes.remove(victim)
    with dovecot.client(name) as other:
        before = other.folder_status("Orders", ["UIDVALIDITY"])[b"UIDVALIDITY"]
        other.delete_folder("Orders")

    def anew() -> bool:
        with dovecot.client(name) as other:
            now = other.folder_status("Orders", ["UIDVALIDITY"])[b"UIDVALIDITY"]
        return bool(now != before)

    stack.wait(lambda: _recreated(dovecot, name, "Orders") and anew(), "a new folder")
    dovecot.deliver(name, mails, folder="Orders")
    stack.hasten()
    stack.start("fetcher")
    stack.wait_settled(6)
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)


def _recreated(server: MailServer, name: str, raw: str) -> bool:
    with server.client(name) as other:
        if other.folder_exists(raw):
            other.delete_folder(raw)
        other.create_folder(raw)
        other.select_folder(raw)
    return True


@pytest.mark.rooted
@pytest.mark.promise("M26", "I9")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_a_mailbox_that_no_client_ever_opened(
    after_download: str,
    courier: Courier,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Courier gives it another UIDVALIDITY at each look, until the first SELECT writes one down."""
    name = f"user{uuid.uuid4().hex[:10]}"
    courier.add_unopened_user(name)
    mails = [mail(number, 900) for number in range(6)]
    new = courier.inside / "home" / name / "Maildir/new"
    for number, octets in enumerate(mails):
        path = new / f"1790000000.M{number}P1.host"
        path.write_bytes(octets.replace(b"\r\n", b"\n"))
        os.chown(path, 65534, 65534)
    stack = build_stack(redis_url, batch_mails="2")
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(courier, name, after_download=after_download)
    stack.wait(lambda: (stack.hurry(), stack.count("message"))[1] >= 6, "all have come")
    stack.wait(lambda: (stack.hurry(), stack.count("settlement"))[1] == 0, "all are settled")
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
    left = courier.flags(name)
    if after_download == "delete":
        assert left == {}
    else:
        assert all(r"\Seen" in flags for flags in left.values())
