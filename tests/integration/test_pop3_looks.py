"""POP3 servers that let go of what was retrieved and want time between logins: TOP blocks nothing.

Whether TOP counts as a retrieval is not known, so QUIT is not said of a mail that was only looked
into. Who logs in once more for that would be refused, in every run.

For an administrator: waiting is no failure; the page of the connection's test warns of both.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.storage import connections
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.pop3_rules import RuledPop3

MAILS = [mail(number, 500, seed=77) for number in range(3)]
EARLY = [mail(number, 500, seed=78).replace(b" 2026 ", b" 2019 ") for number in range(2)]
LATER = [mail(number, 500, seed=79) for number in range(6)]
DELAY_S = 600


@pytest.fixture(params=["told", "not told"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RuledPop3:
    """With LOGIN-DELAY among its capabilities, or only in its refusals."""
    slow = RuledPop3(expire=0, login_delay=DELAY_S, top_retrieves=True)
    if request.param == "not told":
        monkeypatch.setattr(slow, "_capabilities", RuledPop3(expire=0)._capabilities)
    return slow


def run(here: FetcherHere, server: RuledPop3, connection: int, times: int = 1) -> None:
    for _ in range(times):
        server.pass_time(DELAY_S + 1)
        here.run(connection)


@pytest.mark.promise("M4", "I9")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_mails_come_after_a_look_at_an_empty_mailbox(
    after_download: str, here: FetcherHere, server: RuledPop3
) -> None:
    """As it always is there: nothing says that all keys changed."""
    with server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, after_download)
        run(here, server, connection, 2)
        assert here.stack.query("SELECT validity_changed_at FROM connection_state") == [(None,)]
        for number, later in enumerate(LATER[:2], 1):
            server.deliver("alice", [later])
            run(here, server, connection)
            assert here.had() == digests([*MAILS, *LATER[:number]])
        # And where new ones stand there as soon as the others are gone.
        for number, later in enumerate(LATER[2:], 3):
            server.deliver("alice", [later])
            before = server.logins
            run(here, server, connection)
            assert here.had() == digests([*MAILS, *LATER[:number]])
            assert server.logins == before + 1
        assert server.left("alice") == []
        assert here.stack.count("settlement") == 0


@pytest.mark.promise("M4", "M17", "M7")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_mails_come_and_go_beside_such_that_are_only_looked_into(
    after_download: str, here: FetcherHere, server: RuledPop3
) -> None:
    """Those of before a date, which stay."""
    with server:
        server.deliver("alice", EARLY)
        connection = watch(here, server, after_download)
        with here.stack.database.transaction() as session:
            connections.start_from(
                session, connection, since=datetime(2026, 1, 1, tzinfo=UTC), skip_existing=False
            )
        for number in range(1, 4):
            server.deliver("alice", MAILS[number - 1 : number])
            run(here, server, connection)
            assert here.had() == digests(MAILS[:number])
            run(here, server, connection)
        assert server.left("alice") == EARLY
        assert here.stack.count("settlement") == 0
    assert here.stack.query("SELECT failures, error FROM connection_state") == [(0, None)]


@pytest.mark.promise("M4", "M7")
@pytest.mark.parametrize("after_download", ["mark-read", "delete"])
def test_mails_go_although_each_run_looks_into_others(
    after_download: str, here: FetcherHere, server: RuledPop3
) -> None:
    """What an earlier run had is let go of before that, as no session says QUIT after it."""
    early = [mail(n, 500, seed=80).replace(b" 2026 ", b" 2019 ") for n in range(6)]
    with server:
        connection = watch(here, server, after_download)
        with here.stack.database.transaction() as session:
            connections.start_from(
                session, connection, since=datetime(2026, 1, 1, tzinfo=UTC), skip_existing=False
            )
        for number in range(3):
            server.deliver("alice", [early[2 * number], MAILS[number]])
            run(here, server, connection)
            server.deliver("alice", [early[2 * number + 1]])
            run(here, server, connection)
        assert here.had() == digests(MAILS)
        assert server.left("alice") == early
        assert here.stack.count("settlement") == 0
