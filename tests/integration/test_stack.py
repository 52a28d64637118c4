"""What an administrator and an operator see of a whole stack at work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.rig.mails import digests, mail
from tests.rig.queue_events import delete_queue, open_queue
from tests.rig.stack import Stack
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.processes import free_port

MEGABYTE = 1 << 20


def state(stack: Stack, connection: int) -> tuple[str, dict[str, Any] | None]:
    ((health, error),) = stack.query(
        "SELECT health, error FROM connection_state WHERE connection_id = %s", connection
    )
    return health, error


def peak_megabytes(pid: int) -> float:
    """The most resident memory that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@pytest.mark.promise("M19", "M3", "M14")
@pytest.mark.parametrize(
    ("fault", "code", "step"),
    [
        ({"password": "wrong"}, "login-refused", "login"),
        ({"host": "no-such-host.invalid"}, "unknown-host", "dns"),
        ({"security": "starttls", "port": "imap"}, "starttls-refused", "tls"),
        ({"folder": "Nowhere"}, "folder-missing", "folder"),
        ({"port": "nobody"}, "connection-refused", "tcp"),
    ],
)
def test_each_fault_has_its_own_words_in_health(
    fault: dict[str, Any],
    code: str,
    step: str,
    redis_url: str,
    plain_dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    ports = {"imap": plain_dovecot.imap_port, "nobody": free_port()}
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher")
    fields = {
        "name": "faulty",
        "mode": "imap",
        "host": "127.0.0.1",
        "port": plain_dovecot.imap_port,
        "security": "none",
        "username": mail_user,
        **fault,
    }
    fields["port"] = ports.get(fields["port"], fields["port"])
    connection = stack.add_connection(**fields)
    stack.wait(lambda: state(stack, connection)[0] == "failing", "the failure shows")
    _, error = state(stack, connection)
    assert error is not None
    assert (error["code"], error["step"]) == (code, step)
    assert error["message"]
    assert error["hint"]
    assert "wrong" not in json.dumps(error["log"])
    assert stack.count("message") == 0


@pytest.mark.promise("M3", "M19")
def test_an_expired_certificate_is_named_and_recovery_is_noticed(
    redis_url: str,
    authority: Authority,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    expired = authority.issue("localhost", expired=True)
    with Dovecot(tls=expired) as server:
        stack = build_stack(redis_url)
        stack.add_handler()
        stack.start("scheduler", "fetcher")
        connection = stack.watch(
            server,
            mail_user,
            host="localhost",
            port=server.imaps_port,
            security="tls",
            ca_certificate=authority.pem,
        )
        stack.wait(lambda: state(stack, connection)[0] == "failing", "the failure shows")
        _, error = state(stack, connection)
        assert error is not None
        assert error["code"] == "certificate-expired"
        # What nobody was told of is withdrawn when it is over.
        stack.wait(lambda: stack.query("SELECT attempts FROM alert") == [(1,)], "it is told")
        stack.query(
            "UPDATE connection SET verify_certificate = false, updated_at = now() RETURNING id"
        )
        stack.hurry()
        stack.wait(lambda: state(stack, connection) == ("working", None), "it recovers")
        kinds = [kind for (kind,) in stack.query("SELECT kind FROM alert ORDER BY id")]
        assert kinds == ["connection-failing", "connection-recovered"]


@pytest.mark.promise("M19")
def test_an_idle_poll_looks_at_no_mail(
    request: pytest.FixtureRequest,
    redis_url: str,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    dovecot = request.getfixturevalue("logging_dovecot")
    dovecot.prepare_rawlog(mail_user)
    dovecot.deliver(mail_user, [mail(1, 3000)])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.watch(dovecot, mail_user)
    stack.wait_settled(1)

    stack.run_once(connection)  # the first look after our own flag may still be a full one
    said = len(dovecot.commands(mail_user))
    stack.run_once(connection)
    stack.run_once(connection)
    idle = [line.split(" ", 1)[1] for line in dovecot.commands(mail_user)[said:]]
    assert idle, "the polls did reach the server"
    assert [line for line in idle if "SEARCH" in line or "FETCH" in line] == []


@pytest.mark.promise("M18")
def test_nothing_is_fetched_before_a_handler_takes_it(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    dovecot.deliver(mail_user, [mail(1, 2000)])
    stack = build_stack(redis_url)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait(
        lambda: bool(stack.query("SELECT 1 FROM connection_state WHERE emitted_at IS NOT NULL")),
        "its turn has come",
    )
    time.sleep(0.5)  # were a job on its way, it would be done by now
    assert stack.count("message") == 0
    assert dovecot.flags(mail_user) == {1: set()}
    stack.add_handler()
    stack.hurry()
    stack.wait_settled(1)


@pytest.mark.promise("I6")
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_a_mail_of_150_megabytes_stays_out_of_memory(
    mode: str,
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    size = 149 * MEGABYTE
    large = mail(1, 1000) + (b"0123456789abcdef" * 4 + b"\r\n") * (size // 66)
    small = mail(2, 1000)
    dovecot.deliver(mail_user, [large, small])
    stack = build_stack(redis_url)
    stack.add_handler()
    processes = stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user, mode=mode)
    stack.wait_settled(2, seconds=120)
    peaks = {child.args: peak_megabytes(child.pid) for child in processes}
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests([large, small])
    by_size = {event["data"]["size"]: event["data"]["raw"] for event in events}
    assert set(by_size[len(large)]) == {"url"}
    assert set(by_size[len(small)]) == {"inline"}
    assert max(peaks.values()) < 200, peaks


@pytest.mark.promise("H4")
def test_a_mail_over_the_limit_is_listed_left_alone_and_alerted_once(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    dovecot.deliver(mail_user, [mail(1, 300_000), mail(2, 2000)])
    stack = build_stack(redis_url, max_message_bytes="100000")
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.watch(dovecot, mail_user, after_download="delete")
    stack.wait_settled(1)
    for _ in range(2):
        stack.run_once(connection)
    assert dovecot.flags(mail_user) == {1: set()}
    ((code, size),) = stack.query("SELECT code, size FROM quarantine")
    assert code == "too-large"
    assert size >= 300_000
    assert stack.query("SELECT kind FROM alert") == [("mail-quarantined",)]


@pytest.mark.promise("H1", "I2")
def test_a_lost_queue_is_noticed_and_filled_again(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    mails = [mail(number, 2000) for number in range(30)]
    dovecot.deliver(mail_user, mails)
    stack = build_stack(broker_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(30)
    delete_queue(broker_url, "archive")
    stack.wait(
        lambda: stack.query("SELECT min(repeats) FROM delivery") == [(1,)],
        "everything unacknowledged is published again",
    )
    stack.wait_settled(30)
    stack.stop()
    events = open_queue(broker_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(mails)
    known = {str(identifier) for (identifier,) in stack.query("SELECT id FROM message")}
    assert {event["id"] for event in events} == known


@pytest.mark.promise("H1", "M7")
def test_a_handler_without_a_queue_holds_up_no_other(
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """The one has every mail at once, and only once, while the other's queue is made anew."""
    mails = [mail(number, 2000) for number in range(12)]
    dovecot.deliver(mail_user, mails)
    stack = build_stack(broker_url)
    for name in ("archive", "crm"):
        stack.add_handler(name)
    stack.start("scheduler", "fetcher")
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: stack.count("settlement") == 0 < stack.count("message"), "all fetched")
    stack.stop()  # nobody makes a queue now
    delete_queue(broker_url, "crm")
    stack.start("decryptor")
    stack.wait(lambda: stack.count("delivery") == 12, "the mails of the one that has a queue")
    assert stack.count("outbox") == 12
    stack.start("scheduler")
    stack.wait(lambda: (stack.hurry(), stack.count("outbox"))[1] == 0, "the mails of the other")
    stack.stop()
    found = [event["data"]["sha256"] for event in open_queue(broker_url, "archive").events()]
    assert sorted(found) == digests(mails)
    # A decryptor that had them in hand while that queue was made has published them in vain.
    again = {event["data"]["sha256"] for event in open_queue(broker_url, "crm").events()}
    assert sorted(again) == digests(mails)
    assert stack.query("SELECT count(*), max(repeats) FROM delivery") == [(24, 0)]


@pytest.mark.promise("M9", "I9")
@pytest.mark.parametrize("packed", [False, True])
def test_a_recreated_folder_floods_nobody(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    packed: bool,
) -> None:
    """A backup is restored: the same mails under another UIDVALIDITY, and two new ones."""
    old = [mail(number, 2500, seed=11) for number in range(20)]
    new = [mail(number, 2500, seed=12) for number in range(2)]
    dovecot.deliver(mail_user, old)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.watch(dovecot, mail_user, folder="Orders", selection="all")
    stack.wait(lambda: state(stack, connection)[0] == "failing", "the folder is missing yet")
    dovecot.deliver(mail_user, old, folder="Orders")
    stack.hurry()
    stack.wait_settled(20)
    if packed:
        old.append(mail(20, 2500, seed=11))
        stack.execute("UPDATE connection_state SET pruned_at = now() - interval '2 days'")
        dovecot.deliver(mail_user, old[20:], folder="Orders")
        stack.hurry()
        stack.wait_settled(21)
        stack.wait(lambda: stack.count("known_content") == 0, "known mails packed")
        assert stack.count("packed_content") == 1
    with dovecot.client(mail_user) as session:
        before = session.folder_status("Orders", ["UIDVALIDITY"])[b"UIDVALIDITY"]
        session.delete_folder("Orders")
        session.create_folder("Orders")
    dovecot.deliver(mail_user, [new[0], *reversed(old), new[1]], folder="Orders")
    with dovecot.client(mail_user) as session:
        assert session.folder_status("Orders", ["UIDVALIDITY"])[b"UIDVALIDITY"] != before
    stack.hurry()
    stack.wait_settled(len(old + new))
    stack.fetch_now(connection)
    stack.stop()
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(old + new)


@pytest.mark.promise("H2")
def test_the_store_has_the_bytes_of_the_server(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    odd = [
        b"no header at all, and no line end",
        b"\r\nstarts with an empty line\r\n",
        b"Subject: nul\r\n\r\nbefore\x00after\r\n",
        b"Subject: \xff\xfe\r\nFrom: \xe4@x\r\n\r\n8-bit header\r\n",
        b"Subject: " + b"x" * 200_000 + b"\r\n\r\nlong line\r\n",
    ]
    dovecot.deliver(mail_user, odd)
    with dovecot.client(mail_user) as session:
        session.select_folder("INBOX", readonly=True)
        found = session.fetch(session.search("ALL"), ["BODY.PEEK[]"])
    on_server = sorted(sha256(data[b"BODY[]"]).hexdigest() for data in found.values())
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(len(odd))
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == on_server


@pytest.mark.promise("H3")
def test_one_correlation_id_leads_from_the_fetch_job_to_the_event(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    dovecot.deliver(mail_user, [mail(1, 2000)])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(1)
    stack.stop()
    (event,) = open_queue(redis_url, "archive").events()
    for service, told in (("fetcher", "run finished"), ("decryptor", "events published")):
        lines = [json.loads(line) for line in stack.log_of(service).read_text().splitlines()]
        with_id = {line["correlation_id"] for line in lines if line["message"] == told}
        assert event["correlationid"] in with_id, service
