"""A POP3 server need not list in the order of arrival: Courier sorts by the names of its files.

So new mails are looked for at the top of the list only where it is certain that none is below.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import pytest

from shared.connections import Mode, Selection
from shared.storage.pool import DatabaseUnavailable
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3
from tests.servers.scripted import ScriptedServer, pop3

MAILS = [mail(number, 600 + 10 * number, seed=21) for number in range(12)]
LATER = [mail(number, 900 + 10 * number, seed=22) for number in range(3)]
#: Of one size.
EQUAL = [
    (b"Subject: equal %02d\r\n\r\n" % number).ljust(600, b".") + b"\r\n" for number in range(9)
]


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


@pytest.mark.promise("M9")
@pytest.mark.parametrize("pipelining", [True, False])
def test_a_mail_that_comes_as_one_of_its_size_vanishes_is_seen(
    pipelining: bool, here: FetcherHere
) -> None:
    """Neither the count nor the octets tell of it."""
    with RuledPop3(pipelining=pipelining) as server:
        server.deliver("alice", EQUAL[:7])
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.vanish("alice", EQUAL[2])
        server.deliver("alice", EQUAL[7:8])
        here.run_until_idle(connection)
        assert here.had() == digests(EQUAL[:8])


@pytest.mark.promise("M9")
def test_a_mail_that_comes_below_as_the_last_of_its_size_vanishes_is_fetched(
    here: FetcherHere,
) -> None:
    """What was the last mail is not below the one that is new at the top."""
    with RuledPop3(pipelining=True) as server:
        server.deliver("alice", EQUAL[:7])
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.vanish("alice", EQUAL[6])
        server.deliver_below("alice", EQUAL[7:8], 1)
        server.deliver("alice", EQUAL[8:])
        here.run_until_idle(connection)
        assert here.had() == digests(EQUAL)


@pytest.mark.promise("M9")
def test_fewer_mails_than_there_were_stop_no_run(here: FetcherHere) -> None:
    with RuledPop3(pipelining=True) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        for raw in MAILS[3:6]:
            server.vanish("alice", raw)
        here.run_until_idle(connection)
        assert here.stack.query("SELECT health, error FROM connection_state") == [("working", None)]
        server.deliver("alice", LATER)
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])


@pytest.mark.promise("I9")
def test_a_mail_whose_id_changed_as_it_was_retrieved_comes_once_though_its_run_broke_off(
    here: FetcherHere,
) -> None:
    """At the top of the others. Its content is compared with that of the id that is gone."""
    with RuledPop3(pipelining=True) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.deliver("alice", LATER[:1])
        here.fail_at("committed", lambda: DatabaseUnavailable("Postgres went away."))
        here.run(connection)
        here.stop_failing()
        server.stored("alice")[-1].uidl += ":2,S"
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER[:1]])
        assert here.stack.count("outbox") == len(MAILS) + 1


@pytest.mark.promise("M9", "I9")
@pytest.mark.parametrize(
    ("known", "handled", "new"),
    [({1, 2, 3, 4, 5, 6, 7, 9}, 8, [8]), ({1, 2, 4, 5, 6, 7, 8}, 7, [3, 9])],
    ids=["the last is released", "one below is released"],
)
def test_what_was_had_of_the_top_comes_once_and_what_is_released_below_comes(
    known: Set[int], handled: int, new: Sequence[int]
) -> None:
    """A run committed a mail and broke off, and somebody had another one fetched again."""
    mails = dict(enumerate(EQUAL, start=1))
    cursor = {"count": handled, "octets": handled * len(EQUAL[0]), "last": f"uidl-{handled}"}
    with (
        ScriptedServer(pop3(mails=mails)) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        had = KnownKeys(f"uidl-{number}" for number in known)
        listing = mailbox.list_new(had, Selection.ALL, cursor=cursor)
    assert [ref.key for ref in listing.new] == [f"uidl-{number}" for number in new]
