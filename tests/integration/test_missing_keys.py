"""A secret that one replica cannot open is left to those that can: no connection fails by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.demo.certificate import DemoCertificate
from cli.demo.samples import compose, encrypted
from services.scheduler import alerting
from shared.alerts.connections import ConnectionRecovered
from shared.alerts.raised import Template
from shared.clock import utc_now
from shared.storage import alerts, webhooks
from shared.storage.pool import Database
from shared.vault import SecretPath, Vault, new_key
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot


def logged(stack: Stack, service: str, words: str) -> Callable[[], bool]:
    return lambda: stack.log_of(service).exists() and words in stack.log_of(service).read_text()


@pytest.mark.promise("I5", "I7")
def test_a_password_that_this_fetcher_cannot_open_is_left_to_others(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    old = stack.secret_keys[0]
    stack.start("scheduler", "decryptor")
    (without,) = stack.start("fetcher")
    stack.secret_keys = [new_key(), old]  # an admin service that is rolled already
    connection = stack.watch(dovecot, mail_user)
    dovecot.deliver(mail_user, [b"Subject: new\r\n\r\nmail\r\n"])
    stack.wait(logged(stack, "fetcher", "run left to other fetchers"), "it is left")
    stack.wait(
        lambda: bool(
            stack.query("SELECT FROM service WHERE name = 'fetcher' AND failing ? 'keys'")
        ),
        "the overview says which key is missing",
    )
    assert stack.query("SELECT health, failures FROM connection_state") == [("pending", 0)]
    # Which of two gets it next is luck, and each time that it is this one takes longer.
    stack.kill(without)
    stack.hasten()
    stack.start("fetcher")
    stack.fetch_now(connection)
    stack.wait_settled(1)
    assert stack.query("SELECT health, failures FROM connection_state") == [("working", 0)]
    assert stack.count("fetch_run WHERE error IS NOT NULL") == 0
    assert stack.count("alert WHERE subject LIKE 'connection/%%'") == 0


@pytest.mark.promise("I5", "I7")
def test_a_private_key_that_this_decryptor_cannot_open_is_left_to_others(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    """The mail is neither handed over unopened nor blamed, and other mails pass."""
    certificate = DemoCertificate.of(tmp_path / "certificate")
    sealed = compose("a@example.org", "b@example.org", "Sealed", "The text.\n")
    dovecot.deliver(mail_user, [b"Subject: plain\r\n\r\nmail\r\n", encrypted(sealed, certificate)])
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = stack.watch(dovecot, mail_user)
    old = stack.secret_keys
    both = [new_key(), *old]
    stack.secret_keys = both
    stack.add_certificate(certificate, connection)
    stack.secret_keys = old
    # Only now: a mail that is opened before its certificate is there is handed over unopened.
    stack.start("scheduler", "fetcher")
    (without,) = stack.start("decryptor")
    stack.wait(
        logged(stack, "decryptor", "mails left to decryptors that have the key"), "it is left"
    )
    queue = open_queue(redis_url, "archive")
    stack.wait(lambda: len(queue.events()) == 1, "the plain mail passes")
    assert stack.query("SELECT attempts FROM outbox") == [(0,)]
    stack.secret_keys = both
    stack.kill(without)
    stack.hasten()
    stack.start("decryptor")
    stack.wait_settled(2)
    (opened,) = [e for e in queue.events() if e["data"]["headers"]["subject"] == "Sealed"]
    assert opened["data"]["security"]["status"] == "decrypted"
    assert stack.count("quarantine") == 0


def test_an_alert_whose_receiver_cannot_be_read_yet_is_left_and_not_counted(
    database_url: str,
) -> None:
    new = Vault.from_settings([new_key()])
    with Database(database_url, size=3) as database:
        with database.transaction() as session:
            webhooks.create_webhook(
                session,
                name="chat",
                url="http://127.0.0.1:9/",
                secret="",
                template=Template.JSON,
                enabled=True,
                seal=lambda column, row, text: new.seal(
                    text.encode(), SecretPath(webhooks.WEBHOOK_TABLE, column, str(row))
                ),
            )
            alerts.raise_transition(
                session, ConnectionRecovered(connection_id=1, name="support", failures=1)
            )
        alerting.deliver_due(database, Vault.from_settings([new_key()]), utc_now())
        with database.transaction() as session:
            left = session.execute("SELECT attempts, next_attempt_at > now() FROM alert").fetchall()
            told = session.execute("SELECT count(*) FROM alert_delivery").fetchone()
    assert left == [(0, True)]
    assert told == (0,)
