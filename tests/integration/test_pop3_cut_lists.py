"""A POP3 server that names fewer mails than it counts: a list that is cut, or has gaps.

For an administrator: there is nothing to do, so that page, alerts and metrics say that all is well
(test_what_is_told.py); the test of a connection and the estimate warn of a server that counts none.
The transcript of a session notes what was cut; a count that no mailbox has fails the run with these
words, as any nonsense of a server does.
"""

from __future__ import annotations

import pytest

from shared.connections import Mode, Selection
from shared.mailbox.failures import SessionLost
from tests.contract.recorders import KnownKeys
from tests.integration.mail_sessions import connection_to, opened
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3
from tests.servers.scripted import MAILS as SCRIPTED
from tests.servers.scripted import ScriptedServer, pop3

MAILS = [mail(number, 600 + 10 * number, seed=31) for number in range(8)]
LATER = [mail(number, 900 + 10 * number, seed=32) for number in range(3)]


@pytest.mark.promise("M9", "M26", "M7")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
@pytest.mark.parametrize("names_alone", [True, False], ids=["by number", "by header"])
def test_what_the_list_leaves_out_is_not_stranded(
    names_alone: bool, after_download: str, here: FetcherHere
) -> None:
    server = RuledPop3(pipelining=True, listed_by_uidl=3, names_alone=names_alone)
    with server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, after_download)
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)
        server.deliver("alice", LATER)
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])
        assert server.left("alice") == ([] if after_download == "delete" else [*MAILS, *LATER])


@pytest.mark.promise("M9", "M7")
@pytest.mark.parametrize(
    ("counts_first", "after_download"),
    [(True, "mark-read"), (False, "mark-read"), (False, "delete")],
)
def test_mails_come_where_the_server_counts_none(
    counts_first: bool, after_download: str, here: FetcherHere
) -> None:
    """From the first look on, or once it counted some."""
    with RuledPop3(pipelining=True, counts=lambda there: there if counts_first else 0) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, after_download)
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)
        server.counts = lambda there: 0
        for have in range(1, len(LATER) + 1):
            server.deliver("alice", LATER[have - 1 : have])
            here.run_until_idle(connection)
            assert here.had() == digests([*MAILS, *LATER[:have]])
        assert server.left("alice") == ([] if after_download == "delete" else [*MAILS, *LATER])


@pytest.mark.promise("M9")
def test_an_empty_mailbox_is_asked_for_its_list_once() -> None:
    with RuledPop3(pipelining=True) as server:
        server.add_user("alice")
        with opened(connection_to(server.pop3_port, Mode.POP3, username="alice")) as mailbox:
            cursor = mailbox.open("").cursor
            for _ in range(3):
                assert mailbox.changed_since("", cursor) is None
            assert not mailbox.capabilities.miscounts
        assert server.heard.count(b"UIDL") == 1


@pytest.mark.promise("M9")
def test_a_mail_that_is_counted_and_not_there_stops_no_other() -> None:
    script = pop3({"STAT": b"+OK 5 900\r\n"})
    with (
        ScriptedServer(script) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        assert mailbox.open("").total == 5
        listing = mailbox.list_new(KnownKeys(), Selection.ALL)
        assert [ref.key for ref in listing.new] == [f"uidl-{number}" for number in SCRIPTED]
        assert mailbox.changed_since("", listing.cursor) is None


@pytest.mark.promise("I6")
@pytest.mark.parametrize("count", [10**7, 10**18])
def test_a_count_that_no_mailbox_has_fills_no_memory(count: int) -> None:
    script = pop3({"STAT": b"+OK %d 900\r\n" % count})
    with (
        ScriptedServer(script) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
        pytest.raises(SessionLost, match="counts"),
    ):
        mailbox.open("")
        mailbox.list_new(KnownKeys(), Selection.ALL)


@pytest.mark.promise("M9")
def test_mails_that_are_counted_as_new_and_not_there_stop_no_look() -> None:
    """The top of the list, where new mails are looked for first, is empty."""
    octets = sum(map(len, SCRIPTED.values()))
    cursor = {"count": 7, "octets": octets, "last": "uidl-3"}
    known = KnownKeys(f"uidl-{number}" for number in SCRIPTED)
    with (
        ScriptedServer(pop3({"STAT": b"+OK 9 %d\r\n" % (octets + 60)})) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        listing = mailbox.list_new(known, Selection.ALL, cursor=cursor)
        assert listing.new == ()
        assert listing.listed == [f"uidl-{number}" for number in SCRIPTED]


@pytest.mark.promise("M9")
@pytest.mark.parametrize("words", [b"", b" mailbox is fine", b" 3"])
def test_a_stat_without_numbers_is_no_empty_mailbox(words: bytes) -> None:
    """Who took it for one would forget what was had, and hand it over twice."""
    with (
        ScriptedServer(pop3({"STAT": b"+OK" + words + b"\r\n"})) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
        pytest.raises(SessionLost, match="without numbers"),
    ):
        mailbox.open("")


@pytest.mark.promise("I5")
def test_a_sum_of_octets_below_zero_stops_no_run() -> None:
    """As servers count in 32 bits: beyond 2 GiB."""
    with (
        ScriptedServer(pop3({"STAT": b"+OK 3 -2147483000\r\n"})) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        assert len(mailbox.list_new(KnownKeys(), Selection.ALL).new) == len(SCRIPTED) == 3


@pytest.mark.promise("I5")
def test_a_count_that_is_far_too_high_is_not_asked_for_to_its_end() -> None:
    with (
        ScriptedServer(pop3({"STAT": b"+OK 20000 900\r\n"})) as server,
        opened(connection_to(server.port, Mode.POP3)) as mailbox,
    ):
        mailbox.open("")
        assert len(mailbox.list_new(KnownKeys(), Selection.ALL).new) == len(SCRIPTED)
        assert sum(line.startswith(b"UIDL ") for line in server.heard) < 3000
