"""A full mailbox at Debian's Cyrus, which lets one user log in over POP3 once a minute only.

For an administrator: waiting is no failure, so no page turns red, no alert is raised and no failed
run counts. What is to be seen is the warning `login-delay` on the page of the connection's test,
with the seconds (test_what_is_told.py looks at all of it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.servers.cyrus import Cyrus

pytestmark = pytest.mark.rooted

MANY = [mail(number, 1_000, seed=21) for number in range(1_100)]
LATER = [mail(number, 1_000, seed=22) for number in range(3)]


@pytest.fixture(scope="module")
def slow_cyrus() -> Iterator[Cyrus]:
    with Cyrus(login_delay=1) as server:
        yield server


@pytest.mark.long
@pytest.mark.promise("M4", "M19", "M27")
@pytest.mark.parametrize("after_download", ["delete", "mark-read"])
def test_eleven_hundred_mails_where_logins_are_a_minute_apart(
    after_download: str,
    slow_cyrus: Cyrus,
    redis_url: str,
    build_stack: Callable[..., Stack],
) -> None:
    user = f"user{after_download[0]}"
    slow_cyrus.add_user(user)
    slow_cyrus.deliver(user, MANY)
    stack = build_stack(redis_url)
    stack.add_handler()
    stack.start("scheduler", "fetcher", "decryptor")
    stack.watch(slow_cyrus, user, mode="pop3", after_download=after_download, interval_minutes=1)
    seen: set[tuple[object, ...]] = set()

    def all_settled(mails: int) -> bool:
        """Looks on the way at how the connection is said to be."""
        seen.update(stack.query("SELECT health, failures, error IS NULL FROM connection_state"))
        asked = (
            "SELECT count(*) FROM message WHERE published_at IS NOT NULL AND settled_at IS NOT NULL"
        )
        return stack.query(asked) == [(mails,)]

    stack.wait(lambda: all_settled(1_100), "all are finished", seconds=240)
    # A person who is impatient, and new mails: the next login is waited for.
    slow_cyrus.deliver(user, LATER)
    stack.hurry()
    stack.wait(lambda: all_settled(1_103), "those that came later are finished", seconds=240)
    stack.stop()
    assert seen <= {("pending", 0, True), ("working", 0, True)}, "it was failing meanwhile"
    events = open_queue(redis_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(MANY + LATER)
    assert len(slow_cyrus.flags(user)) == (0 if after_download == "delete" else 1_103)
    assert stack.count("quarantine") == 0
    assert stack.query("SELECT kind FROM alert") == []
