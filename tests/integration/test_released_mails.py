"""A mail is released from quarantine while a run goes on that listed the mailbox before: it comes.

Nobody would look at it any more once that run had said that everything was handled.

For an administrator: nothing fails; it goes from the quarantine page to the list of mails.
"""

from __future__ import annotations

import pytest

from tests.integration.test_moved_mailboxes import ask
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3

MAILS = [mail(number, 500, seed=76) for number in range(4)]
LATER = mail(9, 500, seed=76)


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
