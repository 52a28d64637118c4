"""Malformed mails go through the whole pipe: each ends delivered or quarantined.

`ODD_MAILS=10000` in the environment makes it a long run.
"""

from __future__ import annotations

import base64
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


def der(tag: int, *content: bytes) -> bytes:
    octets = b"".join(content)
    size = len(octets)
    return bytes((tag, size) if size < 128 else (tag, 0x82, *size.to_bytes(2))) + octets


def sealed_for(common_name: bytes) -> bytes:
    """A mail that is encrypted for a certificate whose issuer has this name (RFC 5652 section 6).

    Its key and content are zeros, as nobody here opens it.
    """
    name = der(0x30, der(0x31, der(0x30, der(6, b"\x55\x04\x03"), common_name)))
    rsa = der(0x30, der(6, bytes.fromhex("2a864886f70d010101")), b"\x05\0")
    recipient = der(0x30, b"\x02\x01\0", der(0x30, name, b"\x02\x01\x07"), rsa, der(4, bytes(256)))
    aes = der(0x30, der(6, bytes.fromhex("60864801650304012a")), der(4, bytes(16)))
    content = der(0x30, der(6, bytes.fromhex("2a864886f70d010701")), aes, der(0x80, bytes(32)))
    enveloped = der(0x30, b"\x02\x01\0", der(0x31, recipient), content)
    info = der(0x30, der(6, bytes.fromhex("2a864886f70d010703")), der(0xA0, enveloped))
    return (
        b"From: a@example.org\r\nContent-Type: application/pkcs7-mime; name=smime.p7m\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(info)
    )


@pytest.mark.promise("H4", "C4")
def test_names_in_a_certificate_that_postgres_takes_in_no_text(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """NUL in a UTF8String, half of a surrogate pair in a BMPString: no attempt is lost to them."""
    names = [der(0x0C, b"a\0b"), der(0x1E, b"\0a\xd8\0\0b")]
    dovecot.deliver(mail_user, [sealed_for(name) for name in names])
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: stack.count("message") == 2 and stack.count("outbox") == 0, "both delivered")
    assert stack.count("quarantine") == 0
    security = [one["data"]["security"] for one in open_queue(redis_url, "archive").events()]
    assert [one["status"] for one in security] == ["no_recipient"] * 2
    named = [one["recipients"][0] for one in security]
    assert "CN=ab, serial 7" in named
    assert not any("\0" in one for one in named)
