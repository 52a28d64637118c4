"""What several mailboxes have ready is stored and committed at once, and each fails for itself.

For an administrator: how many go together shows in `posthouse_committed_together`; commits under a
lease that was lost count in `posthouse_lease_losses_total`.
"""

from __future__ import annotations

import imaplib
import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from services.decryptor.decrypt_job import STEPS as DECRYPT_STEPS
from shared.errors import TryAgain
from shared.mailbox.failures import Unreachable
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.storage.pool import DatabaseUnavailable
from tests.rig.forkserver import Child
from tests.rig.interruption import MAY_REPEAT
from tests.rig.mails import digests, mail
from tests.rig.queue_events import open_queue
from tests.rig.stack import Stack
from tests.rig.together import MAILS, Mailboxes
from tests.servers.dovecot import Dovecot
from tests.servers.pop3_rules import RuledPop3


@pytest.fixture
def mailboxes(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> Iterator[Mailboxes]:
    found = Mailboxes(build_stack(redis_url), dovecot, mail_user)
    with found.here.working():
        yield found


@pytest.mark.promise("I1", "I3")
def test_those_that_are_ready_together_share_one_object(mailboxes: Mailboxes) -> None:
    mailboxes.fetch()
    mailboxes.check()
    assert mailboxes.objects() == 2


@pytest.mark.promise("I4", "I5")
@pytest.mark.parametrize("owner", ["'another'", "owner"], ids=["another", "itself-later"])
def test_who_lost_the_lease_is_left_out_and_nobody_else(mailboxes: Mailboxes, owner: str) -> None:
    """To another fetcher, or to a later run of the same one after it stood still."""
    lost = mailboxes.ids[2]

    def take_over() -> None:
        mailboxes.stack.query(
            f"UPDATE lease SET fence = fence + 1, owner = {owner} WHERE until > now()"
            " AND mailbox LIKE '%%' || (SELECT username FROM connection WHERE id = %s) || '%%'"
            " RETURNING 1",
            lost,
        )

    mailboxes.fetch(take_over)
    mailboxes.check([0, 1, 3, 4])
    assert mailboxes.objects() == 2
    mailboxes.finish()


@pytest.mark.promise("I5")
def test_one_whose_row_is_locked_keeps_nobody_waiting(mailboxes: Mailboxes) -> None:
    """The others are committed while it waits."""
    database, locked = mailboxes.stack.database, mailboxes.ids[3]
    waits = threading.Event()
    beside: list[int] = []

    def hold() -> None:
        with database.transaction() as session:
            session.execute(
                "SELECT FROM connection_state WHERE connection_id = %s FOR UPDATE", (locked,)
            )
            waits.set()
            deadline = time.monotonic() + 30
            while mailboxes.stack.count("message") < len(MAILS) - 1:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)
            beside.append(mailboxes.stack.count("message"))

    holder = threading.Thread(target=hold)

    def lock() -> None:
        holder.start()
        assert waits.wait(60)

    mailboxes.fetch(lock)
    holder.join()
    assert beside == [len(MAILS) - 1]
    mailboxes.check()


@pytest.mark.promise("I1", "I5")
def test_one_whose_download_broke_off_before_is_committed_alone(
    mailboxes: Mailboxes, dovecot: Dovecot
) -> None:
    """What broke off is had then: nothing is asked for alone any more."""
    broke = 2
    with imaplib.IMAP4(dovecot.host, dovecot.imap_port) as client:
        client.login(mailboxes.users[broke], "secret")
        told = client.status("INBOX", "(UIDVALIDITY UIDNEXT)")[1][0].decode()
    numbers = dict(re.findall(r"(UID[A-Z]+) (\d+)", told))
    mailboxes.stack.execute(
        "INSERT INTO download_failure (connection_id, folder, uid_validity, native_key, first)"
        f" VALUES ({mailboxes.ids[broke]}, '', {numbers['UIDVALIDITY']},"
        f" '{int(numbers['UIDNEXT']) - 1}', true)"
    )
    mailboxes.fetch()
    mailboxes.check()
    assert mailboxes.objects() == 3
    assert mailboxes.stack.count("download_failure") == 0


@pytest.mark.promise("I2", "I5")
def test_mails_that_are_known_by_their_content_alone_do_not_come_again(
    redis_url: str,
    pop3_without_top: RuledPop3,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """Every unique id of five mailboxes changed, and headers cannot be asked for before."""
    mailboxes = Mailboxes(build_stack(redis_url), pop3_without_top, mail_user, "pop3")
    with mailboxes.here.working():
        mailboxes.fetch()
        assert mailboxes.here.had() == digests(MAILS)
        mailboxes.renew_keys()
        mailboxes.fetch()
        assert mailboxes.here.had() == digests(MAILS)
        assert mailboxes.stack.count("outbox") == len(MAILS)


@pytest.mark.promise("I2", "I5")
def test_a_broker_that_does_not_answer_keeps_no_other_mailbox_waiting(mailboxes: Mailboxes) -> None:
    """Only who sends the job waits for it: the others are committed, and settled, meanwhile."""
    dispatcher, settled = mailboxes.here.fetcher.dispatcher, list[int]()
    asked = "SELECT count(*) FROM message WHERE settled_at IS NOT NULL"

    def hand_on(ids: Sequence[uuid.UUID]) -> None:
        deadline = time.monotonic() + 20
        while not settled and time.monotonic() < deadline:
            ((count,),) = mailboxes.stack.query(asked)
            if count >= len(MAILS) - 2:  # all but those whose threads send jobs
                settled.append(count)
            time.sleep(0.01)

    dispatcher.tools = replace(dispatcher.tools, hand_on=hand_on)
    mailboxes.fetch()
    assert settled
    mailboxes.check()


@pytest.mark.promise("I1")
@pytest.mark.parametrize("error", [ValueError, Unreachable])
def test_what_fails_after_the_common_commit_commits_nothing_twice(
    error: type[Exception], mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: ImapMailbox) -> None:
        raise error("It goes wrong before anything is settled.")

    monkeypatch.setattr(ImapMailbox, "settling_is_next", fail)
    mailboxes.fetch()
    assert mailboxes.here.had() == digests(MAILS)
    assert mailboxes.stack.count("settlement") == 0


@pytest.mark.promise("I1", "I5")
def test_where_the_common_commit_fails_each_is_committed_alone(mailboxes: Mailboxes) -> None:
    failed: list[str] = []

    def fail() -> None:
        if not failed:
            failed.append("stored")
            raise TryAgain("The store did not take an object.")

    mailboxes.at["stored"] = fail
    mailboxes.fetch()
    assert failed
    mailboxes.check()
    assert mailboxes.objects() == len(MAILS)


@pytest.mark.promise("I1", "I3")
@pytest.mark.parametrize("step", ["stored", "committed"])
def test_a_database_that_goes_away_fails_each_for_itself(mailboxes: Mailboxes, step: str) -> None:
    """Before the commit, or when it is not known any more whether it came through."""

    def away() -> None:
        raise DatabaseUnavailable("Postgres broke off.")

    mailboxes.at[step] = away
    mailboxes.fetch()
    rows = mailboxes.stack.query("SELECT connection_id, error FROM connection_state")
    errors = dict(rows)
    assert errors[mailboxes.ids[0]] is None
    for connection, user in zip(mailboxes.ids[1:], mailboxes.users[1:], strict=True):
        assert errors[connection]["code"] == "database-unavailable"
        told = "\n".join(errors[connection]["log"])
        assert told
        assert [one for one in mailboxes.users if one in told] in ([], [user])
    mailboxes.finish()


@pytest.mark.promise("M7", "I1", "I3")
@pytest.mark.parametrize("step", ["stored", "committed", "handed-on", "settled"])
def test_a_fetcher_that_is_killed_with_several_in_hand_loses_and_repeats_nothing(
    step: str,
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    stack = build_stack(broker_url, tick_seconds="0.05")
    stack.add_handler()
    stack.start("scheduler", "decryptor")
    (victim,) = stack.start("fetcher", die_at=f"{step}:2")
    users = [f"{mail_user}{number}" for number in range(12)]
    ids = [stack.watch(dovecot, user, after_download="mark-read") for user in users]
    kept = "SELECT count(*) FROM connection_state WHERE affinity IS NOT NULL"
    stack.wait(lambda: stack.query(kept) == [(len(ids),)], "all sessions are kept")
    contents = [mail(number, 1000, seed=72) for number in range(len(users))]
    for user, content in zip(users, contents, strict=True):
        dovecot.deliver(user, [content])
    stack.hasten()
    _wait_for_death(stack, victim)
    stack.hasten()
    stack.start("fetcher")

    def over() -> bool:
        stack.hurry()
        (row,) = stack.query(
            "SELECT (SELECT count(*) FROM message WHERE published_at IS NOT NULL),"
            " (SELECT count(*) FROM outbox), (SELECT count(*) FROM settlement)"
        )
        return row == (len(users), 0, 0)

    stack.wait(over, "everything is published and settled", 60)
    stack.stop()
    events = open_queue(broker_url, "archive").events()
    assert sorted(event["data"]["sha256"] for event in events) == digests(contents)
    assert [r"\Seen" in flags for user in users for flags in dovecot.flags(user).values()] == [
        True
    ] * 12
    assert stack.query("SELECT DISTINCT sequence FROM message") == [(1,)]


@pytest.mark.promise("H1", "I3")
@pytest.mark.parametrize("step", DECRYPT_STEPS)
def test_a_decryptor_that_is_killed_with_several_jobs_in_hand_loses_nothing(
    step: str,
    broker_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
) -> None:
    """It works on one job, and then on those together that came meanwhile."""
    stack = build_stack(broker_url, tick_seconds="0.05", decrypt_threads="1")
    stack.add_handler()
    users = [f"{mail_user}{number}" for number in range(8)]
    contents = [mail(number, 1000, seed=73) for number in range(len(users))]
    for user, content in zip(users, contents, strict=True):
        dovecot.deliver(user, [content])
        stack.watch(dovecot, user, after_download="mark-read")
    stack.start("scheduler", "fetcher")
    stack.wait(
        lambda: (stack.count("message"), stack.count("settlement")) == (len(users), 0),
        "everything is fetched",
    )
    (victim,) = stack.start("decryptor", die_at=f"{step}:2")
    _wait_for_death(stack, victim)
    stack.hasten()
    stack.start("decryptor")

    def over() -> bool:
        stack.hurry()
        return stack.count("outbox") == 0

    stack.wait(over, "everything is published", 60)
    stack.stop()
    events = open_queue(broker_url, "archive").events()
    times = Counter(event["data"]["sha256"] for event in events)
    assert sorted(times) == digests(contents)
    assert max(times.values()) <= (2 if step in MAY_REPEAT else 1)
    assert stack.count("delivery") == len(users)
    told = [json.loads(line) for line in stack.log_of("decryptor").read_text().splitlines()]
    assert max(line["mails"] for line in told if line["message"] == "events published") > 1


def _wait_for_death(stack: Stack, victim: Child) -> None:
    stack.wait(lambda: victim.poll() is not None, "the fetcher dies")
    stack.processes.remove(victim)
