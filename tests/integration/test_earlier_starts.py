"""An earlier start is chosen for a connection: what came before the first one comes, too.

For an administrator: the number of mails that is asked about before is what comes; nothing fails.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.storage import connections
from tests.integration.test_moved_mailboxes import edit
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD

EARLY = [mail(number, 500, seed=93).replace(b" 2026 ", b" 2019 ") for number in range(2)]
LATER = [mail(number, 500, seed=94) for number in range(3)]
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.promise("M17")
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_mails_of_before_come_where_everything_is_chosen_later(
    mode: str, here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    with dovecot.client(mail_user) as person:
        for raw in EARLY:
            person.append("INBOX", raw, flags=(r"\Seen",), msg_time=START - timedelta(days=300))
    dovecot.deliver(mail_user, LATER)
    chosen = {"selection": "all"} if mode == "imap" else {}
    connection = here.stack.watch(dovecot, mail_user, mode=mode, **chosen)
    with here.stack.database.transaction() as session:
        connections.start_from(session, connection, since=START, skip_existing=False)
    here.run_until_idle(connection)
    assert here.had() == digests(LATER)
    edit(here.stack, connection, password=PASSWORD, enabled=False)
    edit(here.stack, connection, password=PASSWORD, enabled=True, start_from="everything")
    here.run_until_idle(connection)
    assert here.had() == digests([*EARLY, *LATER])
