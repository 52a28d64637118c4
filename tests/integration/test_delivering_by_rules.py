"""Rules and mails that came before: delivered when asked for, after a lost queue, opened later."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from cli.demo.certificate import DemoCertificate
from cli.demo.samples import encrypted
from shared.storage import delivering_again, handlers
from tests.integration.api.conftest import Api
from tests.integration.test_interruption import lose_queue
from tests.integration.test_rules import letters
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot


@pytest.mark.promise("R2", "R3")
def test_what_it_would_have_taken_is_delivered_when_asked_for(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """The decryptor decides once more: by header fields too, which no dry run can answer."""
    dovecot.deliver(mail_user, letters())
    stack = build_stack(redis_url)
    stack.add_handler("first", group="desk", position=1, rules={"accept": [{"subject": "pdf"}]})
    handler = stack.add_handler(
        "tickets", group="desk", position=2, rules={"accept": [{"subject": "plain"}]}
    )
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: stack.count("message") == 6 and stack.count("outbox") == 0, "all decided")
    stack.change_handler(
        "tickets",
        rules={"accept": [{"header": "X-Loop"}, {"subject": "pdf"}, {"subject": "plain"}]},
    )
    with Api(stack.database_url, stack.store, secret_keys=tuple(stack.secret_keys)) as api:
        asked = {"since": "2020-01-01"}
        answer = api.http.post(f"handlers/{handler}/deliver-since", json=asked)
        assert answer.json() == {"count": 4, "next": None}, answer.text
        stack.wait(lambda: stack.count("outbox") == 0, "all is decided anew")
        again = api.http.post(f"handlers/{handler}/deliver-since", json=asked)
        assert again.json()["count"] == 3  # those in doubt
        stack.wait(lambda: stack.count("outbox") == 0, "all is decided anew")
        stack.change_handler("first", enabled=False)  # it keeps what it has
        again = api.http.post(f"handlers/{handler}/deliver-since", json=asked)
        assert again.json()["count"] == 3
        stack.wait(lambda: stack.count("outbox") == 0, "all is decided anew")
    stack.stop()
    subjects = [e["data"]["headers"]["subject"] for e in open_queue(redis_url, "tickets").events()]
    assert subjects == ["plain", "machine"]  # once each, and not what the other of its group has
    left = stack.query("SELECT m.subject FROM message AS m WHERE m.unwanted ORDER BY 1")
    assert left == [("large",), ("secret",), ("signed",)]


def with_two_in_archive(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> Stack:
    """Services that gave two mails to the one handler there was."""
    dovecot.deliver(mail_user, letters()[:2])
    stack = build_stack(redis_url)
    stack.add_handler("archive")
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(2)
    return stack


@pytest.mark.promise("R3")
def test_delivered_again_to_all_a_mail_asks_the_rules_of_handlers_that_never_had_it(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    stack = with_two_in_archive(redis_url, dovecot, mail_user, build_stack)
    stack.add_handler("new", rules={"accept": [{"subject": "pdf"}]})
    ids = [row[0] for row in stack.query("SELECT id FROM message")]
    with stack.database.transaction() as session:
        delivering_again.deliver_again(session, ids)
    stack.wait(lambda: stack.count("outbox") == 0, "all is delivered again")
    stack.stop()
    assert len(open_queue(redis_url, "archive").events()) == 4
    (event,) = open_queue(redis_url, "new").events()
    assert event["data"]["headers"]["subject"] == "pdf"


@pytest.mark.promise("I3")
def test_who_has_a_mail_once_more_gets_no_other_while_one_waits_that_cannot(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """Events for `new` cannot be signed. Each attempt for it gave `archive` one more."""
    stack = with_two_in_archive(redis_url, dovecot, mail_user, build_stack)
    new = stack.add_handler("new")
    ids = [row[0] for row in stack.query("SELECT id FROM message")]
    with stack.database.transaction() as session:
        handlers.write_signing_keys(session, new, b"unreadable", None)
        delivering_again.deliver_again(session, ids)

    def given_back() -> bool:
        waiting = "SELECT count(*) FROM outbox WHERE error <> '' AND next_attempt_at > now()"
        return stack.query(waiting) == [(2,)]

    stack.wait(given_back, "it was tried")
    stack.execute("UPDATE outbox SET error = '', next_attempt_at = now()")
    stack.wait(given_back, "it was tried once more")
    stack.stop()
    assert len(open_queue(redis_url, "archive").events()) == 4


@pytest.mark.promise("R1", "I3")
def test_who_is_disabled_or_deleted_once_it_has_a_mail_keeps_its_place_in_its_group(
    broker_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """The mail is tried again for `slow`, whose events could not be signed. Nobody else of a group
    that has it gets it then."""
    dovecot.deliver(mail_user, letters()[:2])
    stack = build_stack(broker_url)
    stack.add_handler("disabled", group="desk", position=1)
    stack.add_handler("next", group="desk", position=2)
    deleted = stack.add_handler("deleted", group="shop", position=1)
    stack.add_handler("after", group="shop", position=2)
    slow = stack.add_handler("slow")
    ((key,),) = stack.query("SELECT signing_key FROM handler WHERE id = %s", slow)
    with stack.database.transaction() as session:
        handlers.write_signing_keys(session, slow, b"unreadable", None)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    # A queue that is not there yet takes nothing: RabbitMQ's are made one after the other.
    stack.wait(lambda: (stack.hurry(), stack.count("delivery"))[1] == 4, "both have both")
    stack.change_handler("disabled", enabled=False)
    with stack.database.transaction() as session:
        handlers.delete(session, deleted)
        handlers.write_signing_keys(session, slow, key, None)
    stack.hurry()
    stack.wait_settled(2)
    stack.stop()
    names = ("disabled", "next", "deleted", "after", "slow")
    had = {name: len(open_queue(broker_url, name).events()) for name in names}
    assert had == {"disabled": 2, "next": 0, "deleted": 2, "after": 0, "slow": 2}


@pytest.mark.promise("R1", "I2")
def test_a_lost_queue_is_filled_with_what_was_for_its_handler_and_nothing_else(
    broker_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """Although the rules are others by then, and another of the group would have it."""
    dovecot.deliver(mail_user, letters())
    stack = build_stack(broker_url)
    stack.add_handler("first", group="desk", position=1, rules={"accept": [{"subject": "p"}]})
    stack.add_handler("second", group="desk", position=2)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(6)
    before = sorted(e["id"] for e in open_queue(broker_url, "first").events())
    stack.change_handler("first", rules={"accept": [{"subject": "large"}]})
    lose_queue(stack, broker_url, "first")
    stack.wait(lambda: (stack.hurry(), stack.count("outbox"))[1] == 0, "all is published")
    stack.stop()
    after = {name: open_queue(broker_url, name).events() for name in ("first", "second")}
    assert sorted(event["id"] for event in after["first"]) == before
    assert {event["id"] for event in after["second"]}.isdisjoint(before)
    assert len(after["second"]) == 6 - len(before)


def test_a_mail_that_is_opened_later_is_decided_anew(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    """Its parts were not known before; who had it already has it again, opened."""
    certificate = DemoCertificate.of(tmp_path / "keys")
    plain = message_from_bytes(letters()[1], policy=policy.SMTP)
    assert isinstance(plain, EmailMessage)
    sample = encrypted(plain, certificate)
    dovecot.deliver(mail_user, [sample])
    stack = build_stack(redis_url)
    stack.add_handler("pictures", rules={"accept": [{"part": "image/*"}]})
    stack.add_handler("secrets", rules={"accept": [{"subject": "nothing"}, {"size": "< 10"}]})
    stack.add_handler("opened", rules={"reject": [{"part": "application/pkcs7-mime"}]})
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.watch(dovecot, mail_user)
    stack.wait_settled(1)
    # In doubt it went to who might want it.
    assert len(open_queue(redis_url, "pictures").events()) == 1
    assert open_queue(redis_url, "opened").events() == []
    stack.add_certificate(certificate, connection)
    (message_id,) = stack.query("SELECT id FROM message")[0]
    with stack.database.transaction() as session:
        delivering_again.deliver_again(session, [message_id])
        delivering_again.reopen(session, [message_id])
    stack.wait(lambda: stack.count("outbox") == 0, "it is opened")
    stack.stop()
    (event,) = open_queue(redis_url, "opened").events()
    assert event["data"]["security"]["status"] == "decrypted"
    assert len(open_queue(redis_url, "pictures").events()) == 2
    assert open_queue(redis_url, "secrets").events() == []
