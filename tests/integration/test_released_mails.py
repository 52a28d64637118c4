"""A mail that is released from quarantine comes, whatever happened to it meanwhile.

Nobody would look at it any more once a run that listed the mailbox before had said that everything
was handled; and where unread mails are fetched, it is listed no more once a person has read it.

For an administrator: nothing fails; it goes from the quarantine page to the list of mails.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.test_moved_mailboxes import ask
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.pop3_rules import RuledPop3

MAILS = [mail(number, 500, seed=76) for number in range(4)]
LATER = mail(9, 500, seed=76)
LARGE = mail(8, 50_000, seed=76)


@pytest.mark.promise("H4")
def test_a_mail_that_is_released_during_a_run_comes(here: FetcherHere) -> None:
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        server.refuse = lambda stored, _: b"unreadable" if stored.raw == MAILS[1] else None
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        ((entry,),) = here.stack.query("SELECT id FROM quarantine")
        server.refuse = lambda stored, _: None
        server.deliver("alice", [LATER])

        def reached(step: str) -> None:
            if step == "listed":
                here.stop_failing()
                ask(here.stack, "POST", f"quarantine/{entry}/release")

        here.reached = reached
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, LATER])
        assert here.stack.count("quarantine") == 0


@pytest.mark.promise("H4")
def test_a_mail_of_a_folder_that_is_not_read_any_more_stays_in_quarantine(
    here: FetcherHere,
) -> None:
    """Released, it would neither be there any more nor come."""
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        server.refuse = lambda stored, _: b"unreadable" if stored.raw == MAILS[1] else None
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
    here.stack.execute("UPDATE quarantine SET folder = 'Orders'")
    ((entry,),) = here.stack.query("SELECT id FROM quarantine")
    with pytest.raises(AssertionError, match="another folder"):
        ask(here.stack, "POST", f"quarantine/{entry}/release")
    assert here.stack.count("quarantine") == 1


@pytest.fixture
def left_on_server(
    redis_url: str, dovecot: Dovecot, mail_user: str, build_stack: Callable[..., Stack]
) -> tuple[Stack, int]:
    """A connection for unread mails that had one of two: the other one was over the limit."""
    dovecot.deliver(mail_user, [MAILS[0], LARGE])
    stack = build_stack(redis_url)
    stack.add_handler()
    connection = stack.watch(dovecot, mail_user)
    with FetcherHere(stack, max_message_bytes="20000").working() as here:
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS[:1])
    return stack, connection


def release_and_run(stack: Stack, connection: int) -> list[str]:
    """What was had once the limit is higher."""
    ((entry,),) = stack.query("SELECT id FROM quarantine")
    ask(stack, "POST", f"quarantine/{entry}/release")
    with FetcherHere(stack).working() as here:
        here.run_until_idle(connection)
        assert stack.count("quarantine") == stack.count("download_failure") == 0
        assert stack.query("SELECT health, cursor IS NULL FROM connection_state") == [
            ("working", False)
        ]
        return here.had()


@pytest.mark.promise("H4")
def test_a_released_mail_that_a_person_read_comes(
    left_on_server: tuple[Stack, int], dovecot: Dovecot, mail_user: str
) -> None:
    """With another program, as the hints of the quarantine say."""
    with dovecot.client(mail_user) as person:
        person.select_folder("INBOX")
        person.add_flags(person.search("ALL"), [rb"\Seen"])
    assert release_and_run(*left_on_server) == digests([MAILS[0], LARGE])
    assert left_on_server[0].count("settlement") == 0


@pytest.mark.promise("H4")
def test_a_released_mail_of_before_the_start_comes(left_on_server: tuple[Stack, int]) -> None:
    left_on_server[0].execute("UPDATE connection_state SET start_since = now() + interval '1 day'")
    assert release_and_run(*left_on_server) == digests([MAILS[0], LARGE])


@pytest.mark.promise("H4")
def test_a_released_mail_that_a_person_removed_is_looked_for_once(
    left_on_server: tuple[Stack, int], dovecot: Dovecot, mail_user: str
) -> None:
    with dovecot.client(mail_user) as person:
        person.select_folder("INBOX")
        person.delete_messages(person.search("ALL"))
        person.expunge()
    assert release_and_run(*left_on_server) == digests(MAILS[:1])


@pytest.mark.promise("H4")
def test_a_mail_of_a_folder_that_was_made_anew_stays_in_quarantine(
    left_on_server: tuple[Stack, int],
) -> None:
    """Its number is another mail's there."""
    stack, _ = left_on_server
    stack.execute("UPDATE connection_state SET uid_validity = uid_validity + 1")
    ((entry,),) = stack.query("SELECT id FROM quarantine")
    with pytest.raises(AssertionError, match="made anew"):
        ask(stack, "POST", f"quarantine/{entry}/release")
    assert stack.count("quarantine") == 1
