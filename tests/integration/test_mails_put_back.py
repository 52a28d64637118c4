"""A mail that somebody moves out of a mailbox and back in comes again, in every kind of mailbox.

For an administrator: its path has two events, and nothing fails.
"""

from __future__ import annotations

import pytest

from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3

MAILS = [mail(number, 600, seed=97) for number in range(12)]


@pytest.mark.promise("I9", "M9")
@pytest.mark.parametrize("goes", [MAILS[:0], MAILS[1:2]], ids=["alone", "as another one goes"])
def test_it_has_another_id(goes: list[bytes], here: FetcherHere) -> None:
    """Single ids that change are told by mails that went just now, and not by earlier ones."""
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.vanish("alice", MAILS[0])
        here.run_until_idle(connection)
        for gone in goes:
            server.vanish("alice", gone)
        server.deliver("alice", [MAILS[0]])
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, MAILS[0]])
