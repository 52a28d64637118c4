"""A server that wants time between two logins: that is waited for, and not for ever.

For an administrator: a mailbox that waits is well; one at which another program logs in whenever
Posthouse may is overdue (its page, `connections-overdue`, `posthouse_connections_overdue`).
"""

from __future__ import annotations

import pytest

from shared.connections import Health
from shared.storage import connections
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import mail
from tests.servers.pop3_rules import RuledPop3

MAILS = [mail(number, 500, seed=55) for number in range(2)]
WORDS = b"[LOGIN-DELAY] Logins must be at least 15 minutes apart"


def minutes_pass(here: FetcherHere, minutes: float) -> None:
    moments = ("last_success_at", "last_run_at", "awaited_since", "due_at", "emitted_at")
    earlier = [f"{one} = {one} - interval '{minutes} min'" for one in (*moments, "put_off_until")]
    here.stack.execute(f"UPDATE connection_state SET {', '.join(earlier)}")


def health(here: FetcherHere, connection: int) -> Health:
    with here.stack.database.transaction() as session:
        return connections.statuses(session, [connection])[connection].health


@pytest.mark.promise("T3", "M19")
@pytest.mark.parametrize("minutes", [1, 4, 10, 14.5, 15])
def test_a_mailbox_whose_server_wants_time_is_not_overdue(
    here: FetcherHere, minutes: float
) -> None:
    with RuledPop3(login_delay=900) as server:
        server.deliver("alice", MAILS)
        connection = here.stack.add_plain_connection(server.pop3_port, name="slow", mode="pop3")
        here.run(connection)
        minutes_pass(here, minutes)
        assert health(here, connection) is Health.WORKING
        minutes_pass(here, 17)
        assert health(here, connection) is Health.OVERDUE, "nobody took its turn"


@pytest.mark.promise("T3", "M19")
def test_a_mailbox_at_which_another_program_is_always_first_is_overdue(here: FetcherHere) -> None:
    refused = [False]
    with RuledPop3(login_words=lambda: WORDS if refused[0] else None) as server:
        server.deliver("alice", MAILS)
        connection = here.stack.add_plain_connection(server.pop3_port, name="slow", mode="pop3")
        here.run(connection)
        refused[0] = True
        seen = []
        for minutes in (1, 15, 15, 15):
            minutes_pass(here, minutes)
            here.run(connection)
            seen.append(health(here, connection))
        assert seen == [*[Health.WORKING] * 3, Health.OVERDUE]
        refused[0] = False
        here.run(connection)
        assert health(here, connection) is Health.WORKING
