"""A POP3 server need not list in the order of arrival: Courier sorts by the names of its files.

So new mails are looked for at the top of the list only where it is certain that none is below.
"""

from __future__ import annotations

import pytest

from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3

MAILS = [mail(number, 600 + 10 * number, seed=21) for number in range(12)]
LATER = [mail(number, 900 + 10 * number, seed=22) for number in range(3)]


@pytest.mark.promise("M9", "M26")
@pytest.mark.parametrize("above", [1, 4, 11])
@pytest.mark.parametrize("vanishing", [0, 1, 2, 3])
def test_mails_that_come_below_others_are_fetched_whatever_vanished(
    vanishing: int, above: int, here: FetcherHere
) -> None:
    with RuledPop3(pipelining=True) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.deliver_below("alice", LATER[:2], above)
        server.deliver("alice", LATER[2:])
        for raw in MAILS[:vanishing]:
            server.vanish("alice", raw)
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])


@pytest.mark.promise("M9")
def test_as_many_that_come_as_vanish_are_no_reason_to_see_nothing(here: FetcherHere) -> None:
    with RuledPop3(pipelining=True) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        for number, raw in enumerate(LATER):
            server.deliver_below("alice", [raw], 5)
            server.vanish("alice", MAILS[number])
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])


def test_a_list_in_order_is_read_from_its_top(here: FetcherHere) -> None:
    with RuledPop3(pipelining=True) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        before = len(server.heard)
        server.deliver("alice", LATER)
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])
        assert b"UIDL" not in server.heard[before:], "the whole list was asked for"
