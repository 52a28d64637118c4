"""Past mails: what a dry run says, the button delivers, in groups and outside, mail for mail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.storage import connections, delivering_again, handlers, messages
from tests.integration.api.conftest import Api
from tests.integration.test_rules import letter
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

FRUITS = ("apple", "banana", "cherry", "date")
#: Of a mailbox whose connection was deleted since.
GONE = ("elder", "fig")
SINCE = "2020-01-01"


def of(*subjects: str) -> dict[str, Any]:
    """Rules that take the mails with these subjects."""
    return {"accept": [{"subject": list(subjects or ("nothing",))}]}


@dataclass(frozen=True)
class Case:
    """Handlers by name in their order, with the rules by which they had the mails; `changes` of
    them since then (None: deleted); and of `asked`, the subjects of the mails that it gets now, and
    how many it had of those its rules take, how many of them others hold, and are in doubt."""

    members: dict[str, dict[str, Any]]
    changes: dict[str, dict[str, Any] | None]
    asked: str
    gets: set[str]
    had: int = 0
    held: int = 0
    unsure: int = 0
    is_group: bool = True
    on_purpose: dict[str, str] = field(default_factory=dict)


CASES = {
    "outside": Case(
        {"one": of("apple")}, {"one": {"rules": of("apple", "banana")}}, "one",
        {"banana"}, had=1, is_group=False,
    ),
    "other": Case(
        {"one": of("apple")}, {"one": {"rules": of("cherry")}}, "one",
        {"cherry"}, is_group=False,
    ),
    "purpose": Case(
        {"one": of("apple")}, {"one": {"rules": of(*FRUITS)}}, "one",
        {"cherry", "date"}, had=2, is_group=False, on_purpose={"one": "banana"},
    ),
    "gone": Case(
        {"one": of("elder")}, {"one": {"rules": of(*GONE)}}, "one", {"fig"}, had=1, is_group=False,
    ),
    "doubt": Case(
        {"one": of()},
        {"one": {"rules": {"accept": [{"kind": "person", "subject": ["banana", "date"]}]}}},
        "one", {"banana", "date"}, unsure=1, is_group=False,
    ),
    "first": Case(
        {"a": of("apple"), "b": of("banana")}, {"a": {"rules": of(*FRUITS)}}, "a",
        {"cherry", "date"}, had=1, held=1,
    ),
    "middle": Case(
        {"a": of("apple"), "b": of("banana"), "c": of("cherry")}, {"b": {"rules": of(*FRUITS)}},
        "b", {"date"}, had=1, held=2,
    ),
    # What one before it would take today it takes, where that one never had it.
    "last": Case(
        {"a": of("apple"), "b": of("banana")}, {"a": {"rules": {}}, "b": {"rules": of(*FRUITS)}},
        "b", {"cherry", "date"}, had=1, held=1,
    ),
    "order": Case(
        {"a": of("apple"), "b": of("banana")},
        {"a": {"position": 9}, "b": {"position": 1, "rules": of(*FRUITS)}}, "b",
        {"cherry", "date"}, had=1, held=1,
    ),
    "behind": Case(
        {"a": of("apple"), "b": of("banana")},
        {"a": {"position": 9, "rules": of("apple", "banana", "date")}, "b": {"rules": {}}}, "a",
        {"date"}, had=1, held=1,
    ),
    "disabled": Case(
        {"a": of("apple"), "b": of("banana")},
        {"a": {"enabled": False}, "b": {"rules": of(*FRUITS)}}, "b",
        {"cherry", "date"}, had=1, held=1,
    ),
    "deleted": Case(
        {"a": of("apple"), "b": of("apple", "banana")},
        {"a": None, "b": {"rules": of(*FRUITS)}}, "b",
        {"cherry", "date"}, had=1, held=1,
    ),
    "elsewhere": Case(
        {"a": of("apple"), "b": of("banana")},
        {"a": {"connections": []}, "b": {"rules": of(*FRUITS)}}, "b",
        {"cherry", "date"}, had=1, held=1,
    ),
    "left": Case(
        {"a": of("apple"), "b": of("apple", "banana")},
        {"b": {"group": "", "rules": of(*FRUITS)}}, "b",
        {"apple", "cherry", "date"}, had=1,
    ),
    "members-of-gone": Case(
        {"a": of("elder"), "b": of("apple")}, {"b": {"rules": of("apple", *GONE)}}, "b",
        {"fig"}, had=1, held=1,
    ),
}  # fmt: skip


def subjects_of(stack: Stack, handler: int) -> list[str]:
    """What was delivered to it, by the ledger."""
    rows = stack.query(
        "SELECT m.subject FROM delivery AS d JOIN message AS m ON m.id = d.message_id"
        " WHERE d.handler_id = %s ORDER BY 1",
        handler,
    )
    return [row[0] for row in rows]


@pytest.fixture
def stack(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> Stack:
    dovecot.deliver(mail_user, [bytes(letter(subject)) for subject in FRUITS])
    made = build_stack(redis_url)
    made.start("scheduler", "fetcher", "decryptor")
    return made


@pytest.fixture
def api(stack: Stack) -> Iterator[Api]:
    with Api(stack.database_url, stack.store, secret_keys=tuple(stack.secret_keys)) as made:
        yield made


def tried(api: Api, handler: int, **changes: Any) -> dict[str, Any]:
    body = {"since": SINCE, "listed": 100, **changes}
    answer = api.http.post(f"handlers/{handler}/rules/dry-run", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["complete"]
    assert found["taken"] == found["had"] + found["to_deliver"] == len(found["listed"])
    return found


def to_get(found: dict[str, Any]) -> set[str]:
    return {mail["subject"] for mail in found["listed"] if not mail["had"]}


def deliver(api: Api, handler: int) -> int:
    answer = api.http.post(f"handlers/{handler}/deliver-since", json={"since": SINCE}).json()
    assert answer["next"] is None
    return int(answer["count"])


def change(stack: Stack, numbers: dict[str, int], case: str) -> None:
    for member, fields in CASES[case].changes.items():
        if fields is None:
            with stack.database.transaction() as session:
                handlers.delete(session, numbers[f"{case}-{member}"])
        else:
            stack.change_handler(f"{case}-{member}", **fields)


def published(stack: Stack, mails: int) -> None:
    stack.wait(
        lambda: stack.count("message") == mails and stack.count("outbox") == 0,
        f"{mails} mails are decided about",
    )


def await_all_tried(stack: Stack) -> None:
    """Until each mail was tried, in vain for one of its handlers, and waits to be tried again."""
    waiting = "SELECT count(*) FROM outbox WHERE error <> '' AND next_attempt_at > now()"
    stack.wait(lambda: stack.query(waiting) == [(len(FRUITS),)], "all were tried")


@pytest.mark.promise("R1", "R2")
def test_what_a_dry_run_counts_is_delivered_mail_for_mail(
    stack: Stack, api: Api, dovecot: Dovecot, mail_user: str, redis_url: str
) -> None:
    numbers: dict[str, int] = {}
    for name, case in CASES.items():
        for place, (member, rules) in enumerate(case.members.items(), 2):
            group = {"group": name, "position": place} if case.is_group else {}
            numbers[f"{name}-{member}"] = stack.add_handler(
                f"{name}-{member}", rules=rules, **group
            )
    stack.watch(dovecot, mail_user)
    other = f"{mail_user}-gone"
    deleted = stack.watch(dovecot, other)
    dovecot.deliver(other, [bytes(letter(subject)) for subject in GONE])
    stack.fetch_now(deleted)
    published(stack, len(FRUITS + GONE))
    stack.wait(lambda: stack.count("settlement") == 0, "all is marked on the server")
    with stack.database.transaction() as session:
        connections.delete(session, deleted)
        for name, case in CASES.items():
            for member, subject in case.on_purpose.items():
                mail = session.execute("SELECT id FROM message WHERE subject = %s", (subject,))
                ids = [row[0] for row in mail]
                delivering_again.deliver_again(session, ids, [numbers[f"{name}-{member}"]])
    published(stack, len(FRUITS + GONE))
    stack.execute("UPDATE message SET facts = NULL WHERE subject = 'banana'")

    for name, case in CASES.items():
        change(stack, numbers, name)
        asked = numbers[f"{name}-{case.asked}"]
        found = tried(api, asked)
        said = (to_get(found), found["had"], found["held"], found["unsure"])
        assert said == (case.gets, case.had, case.held, case.unsure), name
        held = [one["reason"] for one in found["left_out"] if "of the group" in one["reason"]]
        assert len(held) == case.held, name
    before = {name: subjects_of(stack, number) for name, number in numbers.items()}
    for name, case in CASES.items():
        asked = numbers[f"{name}-{case.asked}"]
        assert deliver(api, asked) == len(case.gets), name
    published(stack, len(FRUITS + GONE))

    for name, case in CASES.items():
        for member in case.members:
            number = numbers[f"{name}-{member}"]
            gets = case.gets if member == case.asked else set()
            after = subjects_of(stack, number)
            assert after == sorted([*before[f"{name}-{member}"], *gets]), (name, member)
            events = open_queue(redis_url, f"{name}-{member}").events()
            if case.changes.get(member, {}) is not None:  # the queue of a deleted one goes, too
                got = sorted(event["data"]["headers"]["subject"] for event in events)
                assert got == after, (name, member)
        asked = numbers[f"{name}-{case.asked}"]
        again = tried(api, asked)
        assert (again["to_deliver"], again["taken"]) == (0, case.had + len(case.gets)), name
        assert deliver(api, asked) == 0, name


@pytest.mark.promise("R1", "R2")
def test_of_mails_that_wait_only_what_was_decided_is_delivered_as_past_mails(
    stack: Stack, api: Api, dovecot: Dovecot, mail_user: str, redis_url: str
) -> None:
    """Events for `stuck` cannot be signed, so that the mails stay open; `apples` got its own."""
    stuck = stack.add_handler("stuck")
    ((key,),) = stack.query("SELECT signing_key FROM handler WHERE id = %s", stuck)
    with stack.database.transaction() as session:
        handlers.write_signing_keys(session, stuck, b"unreadable", None)
    apples = stack.add_handler("apples", rules=of("apple"))
    first = stack.add_handler("first", group="desk", position=1, rules=of("apple", "banana"))
    second = stack.add_handler("second", group="desk", position=2, rules=of("banana", "cherry"))
    stack.watch(dovecot, mail_user)
    await_all_tried(stack)
    late = stack.add_handler("late", rules=of("date"))

    everything = of(*FRUITS)
    assert to_get(tried(api, apples, rules=everything)) == {"banana", "cherry", "date"}
    found = tried(api, second, rules=everything)
    assert (to_get(found), found["had"], found["held"]) == ({"date"}, 1, 2)
    # Of the new one nothing was decided: it gets its mails without any button.
    found = tried(api, late)
    assert found["taken"] == 0
    assert {one["reason"].partition(":")[0] for one in found["left_out"]} == {
        "it waits to be published"
    }
    stack.change_handler("apples", rules=everything)
    stack.change_handler("second", rules=everything)
    for one, count in ((apples, 3), (second, 1), (late, 0), (first, 0)):
        assert deliver(api, one) == count
        # A mail that is asked for while it is published for another one is published once more.
        await_all_tried(stack)
    with stack.database.transaction() as session:
        handlers.write_signing_keys(session, stuck, key, None)
    stack.wait(lambda: (stack.hurry(), stack.count("outbox"))[1] == 0, "all are published")
    had = {
        name: sorted(e["data"]["headers"]["subject"] for e in open_queue(redis_url, name).events())
        for name in ("stuck", "apples", "first", "second", "late")
    }
    assert had == {
        "stuck": list(FRUITS),
        "apples": list(FRUITS),
        "first": ["apple", "banana"],
        "second": ["cherry", "date"],
        "late": ["date"],
    }


@pytest.mark.promise("R3")
def test_the_path_of_a_mail_keeps_each_decision_about_a_place_in_a_group(
    stack: Stack, dovecot: Dovecot, mail_user: str
) -> None:
    """The first one has no queue to sign for, is disabled, and the next one has its place."""
    first = stack.add_handler("first", group="desk", position=1)
    ((key,),) = stack.query("SELECT signing_key FROM handler WHERE id = %s", first)
    with stack.database.transaction() as session:
        handlers.write_signing_keys(session, first, b"unreadable", None)
    stack.add_handler("second", group="desk", position=2)
    stack.add_handler("third", group="desk", position=3)
    stack.watch(dovecot, mail_user)
    await_all_tried(stack)
    stack.change_handler("first", enabled=False)
    stack.wait(lambda: (stack.hurry(), stack.count("outbox"))[1] == 0, "all are published")
    with stack.database.transaction() as session:
        handlers.write_signing_keys(session, first, key, None)
        ((mail,),) = session.execute("SELECT id FROM message WHERE subject = 'apple'").fetchall()
        path = [stop.text for stop in messages.get(session, mail).path]
    decided = [text for text in path if text.startswith(("Not for", "Published to"))]
    assert sorted(decided) == [
        "Not for second: first of the group desk has it",
        "Not for third: first of the group desk has it",
        "Not for third: second of the group desk has it",
        "Published to second",
    ]


@pytest.mark.promise("R2")
def test_what_was_in_doubt_and_is_decided_is_not_counted_again(
    stack: Stack, api: Api, dovecot: Dovecot, mail_user: str, redis_url: str
) -> None:
    """Header fields are not kept: only the mail itself says that no mail here has this one."""
    rules = {"accept": [{"header": "X-Ripe", "subject": ["apple", "date"]}]}
    ripe = stack.add_handler("ripe", rules=of())
    stack.watch(dovecot, mail_user)
    published(stack, len(FRUITS))

    found = tried(api, ripe, rules=rules)
    assert (found["to_deliver"], found["to_deliver_unsure"], found["unsure"]) == (2, 2, 2)
    stack.change_handler("ripe", rules=rules)
    assert deliver(api, ripe) == 2
    published(stack, len(FRUITS))
    assert subjects_of(stack, ripe) == []
    # As if that were decided a while after they were saved: until then it may be by those before.
    stack.execute("UPDATE filtered SET decided_at = decided_at + interval '1 minute'")

    again = tried(api, ripe)
    assert (again["to_deliver"], again["unsure"], again["taken"]) == (0, 0, 0)
    assert {one["reason"] for one in again["left_out"]} == {"no rule accepts it"}
    assert deliver(api, ripe) == 0
    # Other rules did not decide it.
    other = {"accept": [{"header": "X-Sweet", "subject": "apple"}]}
    assert to_get(tried(api, ripe, rules=other)) == {"apple"}
    stack.execute("UPDATE filtered SET decided_at = decided_at - interval '1 minute'")
    stack.change_handler("ripe", rules=other)
    assert to_get(tried(api, ripe)) == {"apple"}
