"""POP3 servers that show another header in answer to TOP than to RETR.

Filters write a field into one of them. Who compares mails by TOP takes each for another one.

For an administrator: there is nothing to do, as no mail comes twice.
"""

from __future__ import annotations

import pytest

from tests.integration.test_keys_by_place import Numbering
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers import pop3_rules
from tests.servers.pop3_rules import RuledPop3

pytestmark = pytest.mark.promise("I9", "M9")

MAILS = [mail(number, 600, seed=66) for number in range(6)]


@pytest.fixture(autouse=True)
def a_filter_writes_into_what_top_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = pop3_rules.top
    monkeypatch.setattr(
        pop3_rules, "top", lambda raw, lines: b"X-Scanned: yes\r\n" + shown(raw, lines)
    )


def test_mails_that_are_still_to_be_deleted_come_once(here: FetcherHere) -> None:
    """The fetcher was killed before it said QUIT."""
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "delete")
        here.fail_at("committed", lambda: SystemExit(9))
        with pytest.raises(SystemExit):
            here.run(connection)
        here.stop_failing()
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)
        assert server.left("alice") == []


def test_mails_that_move_up_in_a_list_of_numbers_come_once(here: FetcherHere) -> None:
    with Numbering() as server:
        server.deliver("alice", MAILS[:5])
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.vanish("alice", MAILS[1])
        server.deliver("alice", MAILS[5:])
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)


def test_a_mail_that_was_away_for_a_while_comes_once(here: FetcherHere) -> None:
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        stored = [*server.stored("alice")]
        server.vanish("alice", MAILS[1])
        here.run_until_idle(connection)
        server.stored("alice")[:] = stored
        here.run_until_idle(connection)
        assert here.had() == digests(MAILS)
