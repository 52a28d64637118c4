"""POP3 servers whose unique ids only say where in the list a mail stands.

Some give the number of a mail in the session as its id, or one id to several mails; where there is
no UIDL, mails with one header and one size share a key. Once a mail is removed, those behind it
have the keys of others: they are told by what they hold.

For an administrator: there is nothing to do, as every mail comes, and once.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.storage import connections
from tests.integration.test_pop3_confirming import watch
from tests.integration.test_pop3_rebinding import Counting
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3, Stored
from tests.servers.scripted import Conversation

pytestmark = pytest.mark.promise("I9", "M9")

MAILS = [mail(number, 600, seed=61) for number in range(6)]
LATER = [mail(number, 600, seed=62) for number in range(4)]


class Numbering(RuledPop3):
    """Gives the number of each mail in the session as its unique id."""

    def _snapshot(self, user: str) -> list[Stored]:
        shown = super()._snapshot(user)
        for number, one in enumerate(shown, 1):
            one.uidl = str(number)
        return shown


class Sharing(RuledPop3):
    """Has one unique id for all mails."""

    def _snapshot(self, user: str) -> list[Stored]:
        shown = super()._snapshot(user)
        for one in shown:
            one.uidl = "whqtswO00WBw418f9t5JxYwZ"  # the example of RFC 1939 section 7
        return shown


class Nameless(RuledPop3):
    """Has no UIDL."""

    def _capabilities(self, *, logged_in: bool) -> bytes:
        return super()._capabilities(logged_in=logged_in).replace(b"UIDL\r\n", b"")

    def _serve(self, talk: Conversation, user: str) -> None:
        line = talk.line

        def known_line() -> bytes:
            while (asked := line()).startswith(b"UIDL"):
                talk.send(b"-ERR unknown command\r\n")
            return asked

        talk.line = known_line  # type: ignore[method-assign]
        super()._serve(talk, user)


def alarm(number: int) -> bytes:
    """As a device writes it: one header, one size."""
    return b"From: plant@example.org\r\nSubject: Alarm\r\n\r\nPump %d\r\n" % number


@pytest.mark.parametrize(
    "rules",
    [Numbering, lambda: Numbering(pipelining=True), lambda: Numbering(top=False), Sharing],
    ids=["numbers", "pipelined", "without TOP", "one id"],
)
def test_no_mail_is_lost_or_comes_twice_as_others_are_removed(
    rules: Callable[[], RuledPop3], here: FetcherHere
) -> None:
    with rules() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        for removed, came in ((MAILS[1], LATER[0]), (MAILS[3], LATER[1]), (LATER[1], LATER[2])):
            server.vanish("alice", removed)
            server.deliver("alice", [came])
            here.run_until_idle(connection)
        server.vanish("alice", MAILS[0])
        here.run_until_idle(connection)
        server.deliver("alice", [LATER[3]])
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, *LATER])
        assert here.stack.count("outbox") == len(MAILS) + len(LATER)


def test_the_top_of_a_list_of_numbers_proves_nothing(here: FetcherHere) -> None:
    """It has one mail more, of as many octets, and behind one whose id is known."""
    with Numbering(pipelining=True, top=False) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        came = MAILS[1].replace(b"<61.1.", b"<61.9.")  # of the size of the one that goes
        server.vanish("alice", MAILS[1])
        server.deliver("alice", [came, LATER[0]])
        here.run_until_idle(connection)
        assert here.had() == digests([*MAILS, came, LATER[0]])


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_mail_that_comes_as_one_of_its_size_goes_is_seen(
    pipelining: bool, here: FetcherHere
) -> None:
    with Numbering(pipelining=pipelining) as server:
        server.deliver("alice", [alarm(number) for number in range(4)])
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.vanish("alice", alarm(1))
        server.deliver("alice", [alarm(7)])
        here.run_until_idle(connection)
        assert here.had() == digests([alarm(number) for number in (0, 1, 2, 3, 7)])


@pytest.mark.parametrize("rules", [Numbering, Counting, Nameless])
def test_a_device_that_writes_one_header_into_all_mails_loses_none(
    rules: Callable[[], RuledPop3], here: FetcherHere
) -> None:
    with rules() as server:
        server.add_user("alice")
        connection = watch(here, server, "delete")
        for number in range(0, 8, 2):
            server.deliver("alice", [alarm(number), alarm(number + 1)])
            here.run_until_idle(connection)
            assert here.had() == digests([alarm(one) for one in range(number + 2)])
        assert server.left("alice") == []


def test_a_mail_that_is_the_same_to_the_last_octet_stays_on_its_server(here: FetcherHere) -> None:
    """Under the key of one that was deleted: it may be that one, or as good as it."""
    with Counting() as server:
        server.add_user("alice")
        connection = watch(here, server, "delete")
        for _ in range(2):
            server.deliver("alice", [alarm(1)])
            here.run_until_idle(connection)
        assert here.had() == digests([alarm(1)])
        assert server.left("alice") == [alarm(1)]


def test_mails_of_one_header_that_move_up_do_not_come_again(here: FetcherHere) -> None:
    with Numbering() as server:
        server.deliver("alice", [alarm(number) for number in range(6)])
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.vanish("alice", alarm(1))
        server.deliver("alice", [alarm(7)])
        here.run_until_idle(connection)
        assert here.had() == digests([alarm(number) for number in (0, 1, 2, 3, 4, 5, 7)])


def test_what_was_passed_over_stays_so_and_what_comes_is_seen(here: FetcherHere) -> None:
    with Numbering() as server:
        server.deliver("alice", [*MAILS, alarm(1), alarm(2)])
        connection = watch(here, server, "mark-read")
        with here.stack.database.transaction() as session:
            connections.start_from(session, connection, since=None, skip_existing=True)
        here.run_until_idle(connection)
        server.deliver("alice", LATER[:1])
        here.run_until_idle(connection)
        server.vanish("alice", MAILS[0])
        server.deliver("alice", LATER[1:2])
        here.run_until_idle(connection)
        assert here.had() == digests(LATER[:2])
