"""Rules of handlers: who gets a mail, who does not and why, and that it is decided once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest

from services.decryptor.decrypt_job import STEPS
from shared.rules.conditions import FIELDS
from shared.storage import delivering_again, message_search, messages, quarantine
from shared.storage.message_filter import MessageFilter
from tests.rig.interruption import MAILS, MAY_REPEAT, SETTINGS
from tests.rig.mails import digests
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot


def letter(subject: str, sender: str = "ann@example.org", **fields: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = sender, subject
    mail["To"] = fields.pop("to", "support@example.net")
    mail["Message-ID"] = f"<{subject}@example.org>"
    for name, value in fields.items():
        mail[name.replace("_", "-")] = value
    mail.set_content("Hello.")
    return mail


def letters() -> list[bytes]:
    plain = letter("plain")
    pdf = letter("pdf", "bob@sub.example.com", Delivered_To="support+billing@example.net")
    pdf.add_attachment(b"%PDF-1.4", maintype="application", subtype="pdf", filename="a.pdf")
    machine = letter("machine", Auto_Submitted="auto-replied", X_Loop="yes", to="all@example.com")
    large = letter("large")
    large.add_attachment(b"x" * 40_000, maintype="application", subtype="zip", filename="a.zip")
    secret = EmailMessage()
    for name, value in letter("secret").items():
        if name in ("From", "To", "Subject", "Message-ID"):
            secret[name] = value
    secret["Content-Type"] = 'application/pkcs7-mime; smime-type="enveloped-data"; name="smime.p7m"'
    secret["Content-Transfer-Encoding"] = "base64"
    secret.set_payload("MIAGCSqGSIb3DQEHA6CAMIACAQAxAAAA\r\n")
    signed = EmailMessage()
    for name, value in letter("signed").items():
        if name in ("From", "To", "Subject", "Message-ID"):
            signed[name] = value
    signed["Content-Type"] = (
        'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary="b"'
    )
    signed.set_payload(
        "--b\r\nContent-Type: text/plain\r\n\r\nHello.\r\n--b\r\n"
        "Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        "MAA=\r\n--b--\r\n"
    )
    return [bytes(one) for one in (plain, pdf, machine, large, secret, signed)]


#: For each fact: a value, and the mails that it fits (+: and that it cannot be answered for).
FITTING: dict[str, list[tuple[Any, set[str]]]] = {
    "recipient": [
        ("all@example.com", {"machine"}),
        ("@example.com", {"machine"}),
        ("support+billing@example.net", {"pdf"}),
        ("nobody@example.net", set()),
    ],
    "tag": [("Billing", {"pdf"}), ("sales", set())],
    "sender": [
        ("ANN@example.org", {"plain", "machine", "large", "secret", "signed"}),
        ("@*.example.com", {"pdf"}),
        ("example.com", set()),
    ],
    "subject": [("LAI", {"plain"}), ("nothing", set())],
    "header": [("X-Loop", {"machine"}), ("x-loop: YES", {"machine"}), ("X-Loop: no", set())],
    "kind": [
        ("auto-reply", {"machine"}),
        (["bounce", "person"], {"plain", "pdf", "large", "secret", "signed"}),
        ("receipt", set()),
    ],
    "size": [("> 20 kB", {"large"}), ("> 1 MB", set())],
    # What is in a mail that stays encrypted is not known: it is given in doubt.
    "part": [("application/pdf", {"pdf", "secret"}), ("image/*", {"secret"})],
    "folder": [("inbox", {"plain", "pdf", "machine", "large", "secret", "signed"}), ("X", set())],
    "connection": [
        ("The MAILBOX", {"plain", "pdf", "machine", "large", "secret", "signed"}),
        ("another", set()),
    ],
    "authentication": [
        ("dmarc=pass", set()),
        ("dmarc=none", {"plain", "pdf", "machine", "large", "secret", "signed"}),
    ],
    "signature": [("invalid", {"signed"}), ("valid", set())],
    "encrypted": [(True, {"secret"}), (False, {"plain", "pdf", "machine", "large", "signed"})],
}
EXPRESSIONS: list[tuple[str, set[str]]] = [
    ('kind == "person" && size > 20000', {"large"}),
    ('sender.endsWith("@sub.example.com") || "x-loop" in headers', {"pdf", "machine"}),
    ('tags.exists(tag, tag == "billing")', {"pdf"}),
    # A field that most mails do not have: no answer, hence in doubt.
    ('headers["x-loop"][0] == "no"', {"plain", "pdf", "large", "secret", "signed"}),
]


def deliver_again(stack: Stack, message_id: Any, *handlers: int) -> None:
    with stack.database.transaction() as session:
        delivering_again.deliver_again(session, [message_id], handlers)


@pytest.mark.promise("R1", "R3")
def test_each_fact_is_answered_by_what_real_mails_say(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    assert FITTING.keys() == FIELDS.keys()
    mails = letters()
    dovecot.deliver(mail_user, mails)
    stack = build_stack(redis_url)
    stack.add_handler()
    wanted: dict[str, set[str]] = {}
    for field, values in FITTING.items():
        for number, (value, subjects) in enumerate(values):
            wanted[f"takes-{field}-{number}"] = subjects
            stack.add_handler(f"takes-{field}-{number}", rules={"accept": [{field: value}]})
    for number, (expression, subjects) in enumerate(EXPRESSIONS):
        wanted[f"expert-{number}"] = subjects
        stack.add_handler(f"expert-{number}", rules={"expression": expression})
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user, name="The mailbox")
    stack.wait_settled(len(mails))
    stack.stop()
    rows = stack.query(
        "SELECT h.name, m.subject FROM delivery AS d JOIN message AS m ON m.id = d.message_id"
        " JOIN handler AS h ON h.id = d.handler_id"
    )
    had: dict[str, set[str]] = {name: set() for name in wanted}
    for name, subject in rows:
        had.setdefault(name, set()).add(subject)
    assert len(had.pop("archive")) == len(mails)
    assert had == wanted
    # Who got one in doubt, and everybody who did not get one: the path says why.
    notes = stack.query(
        "SELECT h.name, m.subject, d.note FROM delivery AS d"
        " JOIN message AS m ON m.id = d.message_id JOIN handler AS h ON h.id = d.handler_id"
        " WHERE d.note <> ''"
    )
    doubts = {(name, subject): note for name, subject, note in notes}
    assert doubts["takes-part-1", "secret"] == "a rule that accepts could not be answered"
    assert doubts["expert-3", "plain"].startswith("the expression has no answer")
    assert len(doubts) == 2 + 5
    missing = sum(len(mails) - len(subjects) for subjects in wanted.values())
    assert stack.count("filtered") == missing


@pytest.mark.promise("R1", "I3")
def test_in_a_group_exactly_one_handler_has_each_mail(
    broker_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    mails = letters()
    dovecot.deliver(mail_user, mails)
    stack = build_stack(broker_url)
    # The order is that of the positions, not of the handlers' age.
    stack.add_handler("rest", group="desk", position=3)
    stack.add_handler(
        "machines", group="desk", position=1, rules={"accept": [{"kind": "auto-reply"}]}
    )
    stack.add_handler("people", group="desk", position=2, rules={"accept": [{"subject": "pdf"}]})
    stack.add_handler("outside")
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait_settled(len(mails))
    stack.stop()
    had = {
        name: sorted(e["data"]["headers"]["subject"] for e in open_queue(broker_url, name).events())
        for name in ("rest", "machines", "people", "outside")
    }
    assert had["machines"] == ["machine"]
    assert had["people"] == ["pdf"]
    assert had["rest"] == ["large", "plain", "secret", "signed"]
    assert len(had["outside"]) == len(mails)


#: Where a handler has rules or a group.
STEPS_WITH_RULES = (*STEPS[:4], "decided", *STEPS[4:])


@pytest.mark.promise("R1", "R3", "I3")
@pytest.mark.parametrize("step", STEPS_WITH_RULES)
def test_killed_at_any_step_while_the_rules_change_each_mail_has_one_handler_of_a_group(
    step: str,
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """The decryptor dies with mails in hand, the rules are turned round, another one goes on."""
    dovecot.deliver(mail_user, MAILS)
    stack = build_stack(broker_url, **SETTINGS)
    stack.add_handler("first", group="desk", position=1, rules={"reject": [{"subject": "zzz"}]})
    stack.add_handler("second", group="desk", position=2)
    stack.add_handler("none", rules={"accept": [{"subject": "zzz"}]})
    stack.start("scheduler", "fetcher")
    (victim,) = stack.start("decryptor", die_at=step)
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: victim.poll() is not None, f"it dies at {step}")
    stack.processes.remove(victim)
    stack.change_handler("first", rules={"accept": [{"subject": "zzz"}]})
    stack.hasten()
    stack.start("decryptor")
    stack.wait_settled(len(MAILS))
    stack.stop()
    had = {name: open_queue(broker_url, name).events() for name in ("first", "second", "none")}
    assert had["none"] == []
    times = Counter(event["id"] for event in had["first"] + had["second"])
    assert max(times.values()) <= (2 if step in MAY_REPEAT else 1)
    in_first = {event["data"]["sha256"] for event in had["first"]}
    in_second = {event["data"]["sha256"] for event in had["second"]}
    assert in_first.isdisjoint(in_second)
    assert sorted(in_first | in_second) == digests(MAILS)
    if STEPS_WITH_RULES.index(step) >= STEPS_WITH_RULES.index("decided"):
        assert in_first  # what was decided under the old rules stands
    # Each mail is final for each handler: delivered, or left out with a reason.
    rows = stack.query(
        "SELECT message_id, handler_id FROM delivery UNION ALL"
        " SELECT message_id, handler_id FROM filtered"
    )
    assert len(rows) == len(set(rows)) == 3 * len(MAILS)


@pytest.mark.promise("R1", "H4")
def test_what_was_decided_stands_for_a_mail_that_crashed_its_decryptor_into_quarantine(
    broker_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    """It was published to the first of a group when its decryptor died for the last time."""
    dovecot.deliver(mail_user, [bytes(letter("hello"))])
    stack = build_stack(broker_url, **SETTINGS, decrypt_attempts="1")
    stack.add_handler("first", group="desk", position=1)
    stack.add_handler("second", group="desk", position=2)
    stack.start("scheduler", "fetcher")
    (victim,) = stack.start("decryptor", die_at="published")
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: victim.poll() is not None, "it dies with the event out")
    stack.processes.remove(victim)
    stack.change_handler("first", rules={"reject": [{"subject": "hello"}]})
    stack.hasten()
    stack.start("decryptor")
    stack.wait(lambda: stack.count("quarantine") == 1, "it is quarantined")
    ((entry,),) = stack.query("SELECT id FROM quarantine")
    with stack.database.transaction() as session:
        quarantine.publish_anew(session, entry)
    stack.wait_settled(1)
    stack.stop()
    had = {name: open_queue(broker_url, name).events() for name in ("first", "second")}
    assert had["second"] == []
    assert {event["id"] for event in had["first"]} == {str(entry)}


@pytest.mark.promise("R3")
def test_a_mail_that_no_handler_wants_is_shown_with_its_reasons_and_delivered_on_purpose(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    dovecot.deliver(mail_user, [bytes(letter("auto", Auto_Submitted="auto-replied"))])
    stack = build_stack(redis_url)
    rules = {"accept": [{"recipient": "@example.net"}], "reject": [{"kind": "auto-reply"}]}
    handler = stack.add_handler("tickets", rules=rules)
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(dovecot, mail_user)
    stack.wait(lambda: stack.query("SELECT FROM message WHERE unwanted") != [], "it is decided")
    with stack.database.transaction() as session:
        (found,) = message_search.search(session, MessageFilter(filtered_by=handler)).items
        detail = messages.get(session, found.id)
        assert not messages.handler_may_read(session, handler, found.id)
    assert found.state == "unwanted"
    assert "Not for tickets: rule 2, auto-reply" in [stop.text for stop in detail.path]
    # Again to all: the rules stand. On purpose: it goes.
    deliver_again(stack, found.id)
    stack.wait(lambda: stack.count("outbox") == 0, "it is looked at again")
    assert open_queue(redis_url, "tickets").events() == []
    deliver_again(stack, found.id, handler)
    stack.wait_settled(1)
    stack.stop()
    (event,) = open_queue(redis_url, "tickets").events()
    assert event["data"]["headers"]["subject"] == "auto"
    with stack.database.transaction() as session:
        detail = messages.get(session, found.id)
    assert detail.message.state == "published"
    # In the queue of the handler, whose program has not taken it yet.
    assert [stop.what for stop in detail.path if "tickets" in stop.text][-1] == "waiting"


@pytest.mark.promise("R1")
def test_a_changed_rule_delivers_nothing_by_itself(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    dovecot.deliver(mail_user, letters())
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.add_handler("tickets", rules={"accept": [{"subject": "pdf"}]})
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.watch(dovecot, mail_user)
    stack.wait_settled(6)
    stack.change_handler("tickets", rules={})
    stack.run_once(connection)
    stack.stop()
    assert stack.count("outbox") == 0
    (event,) = open_queue(redis_url, "tickets").events()
    assert event["data"]["headers"]["subject"] == "pdf"


@pytest.mark.promise("R3", "H5")
def test_people_are_told_of_mails_that_no_handler_wants_where_they_ask_for_it(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> None:
    dovecot.deliver(mail_user, letters())
    stack = build_stack(redis_url, alert_unwanted="true")
    stack.add_handler("tickets", rules={"accept": [{"subject": "plain"}]})
    stack.start("scheduler", "fetcher", "decryptor")
    connection = stack.watch(dovecot, mail_user, name="Desk")
    stack.wait(lambda: stack.count("message") == 6 and stack.count("outbox") == 0, "all decided")
    stack.stop()
    rows = stack.query("SELECT data FROM alert WHERE kind = 'mail-unwanted' ORDER BY id")
    assert sum(row[0]["count"] for row in rows) == 5
    assert len(rows) <= 2  # told together
    assert {(row[0]["name"], row[0]["connection_id"]) for row in rows} == {("Desk", connection)}
