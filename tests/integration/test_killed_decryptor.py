"""A decryptor that is killed while it opens a mail stops nobody, and leaves no plaintext."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.demo.certificate import DemoCertificate
from cli.demo.samples import compose, encrypted
from services.decryptor.opening_batches import SPOOLED
from tests.rig.mails import digests
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

#: Signed, as a mail without any protection is not opened; larger than what goes through memory.
LARGE = (
    b"From: a@example.org\r\nTo: b@example.org\r\nSubject: large\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;'
    b' boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n'
    + b"A line of a large mail that goes through a file.\r\n"
    * 20_000
    + b"\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nMAA=\r\n--b--\r\n"
)


@pytest.mark.promise("I5")
def test_a_large_mail_is_opened_after_its_decryptor_was_killed(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    spool = tmp_path / "spool-of-decryptors"
    dovecot.deliver(mail_user, [LARGE])
    stack = build_stack(redis_url, spool_dir=str(spool))
    stack.add_handler()
    stack.start("scheduler", "fetcher")
    (victim,) = stack.start("decryptor", die_at=SPOOLED)
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: victim.poll() is not None, "it dies with the mail in hand")
    stack.processes.remove(victim)
    stack.hasten()
    stack.start("decryptor")
    stack.wait_settled(1)
    (event,) = open_queue(redis_url, "archive").events()
    assert [event["data"]["sha256"]] == digests([LARGE])
    stack.stop()
    assert list(spool.iterdir()) == []


@pytest.mark.promise("C2", "I3")
@pytest.mark.parametrize("step", ["opened", "kept", "recorded"])
def test_what_was_opened_is_in_the_store_before_it_is_known_to_be_opened(
    step: str,
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    certificate = DemoCertificate.of(tmp_path / "keys")
    plain = compose("a@example.org", "b@example.org", "Secret", "Hello.\n")
    dovecot.deliver(mail_user, [encrypted(plain, certificate)])
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = stack.watch(dovecot, mail_user)
    stack.add_certificate(certificate, connection)
    stack.start("scheduler", "fetcher")
    (victim,) = stack.start("decryptor", die_at=step)
    stack.wait(lambda: victim.poll() is not None, f"it dies at {step}")
    stack.processes.remove(victim)
    stack.hasten()
    stack.start("decryptor")
    stack.wait_settled(1)
    stack.stop()
    (event,) = open_queue(redis_url, "archive").events()
    assert event["data"]["security"]["status"] == "decrypted"
    ((key, size),) = stack.query("SELECT opened_key, opened_size FROM message")
    assert (stack.store / key).stat().st_size == size
