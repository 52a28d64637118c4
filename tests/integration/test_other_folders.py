"""A connection is changed to another folder or mailbox: everything that was asked for comes.

What was passed over in the old one says nothing of the new one, and what was still to be told of
the old one is, once the connection reads it again.

For an administrator: nothing fails, so that no page, alert or metric tells of it.
"""

from __future__ import annotations

import pytest

from shared.storage import connections
from shared.storage.pool import DatabaseUnavailable
from tests.integration.test_moved_mailboxes import edit
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD
from tests.servers.pop3_rules import RuledPop3

OLD = [mail(number, 500, seed=73) for number in range(3)]
OTHER = [mail(number, 500, seed=74) for number in range(3)]
LATER = [mail(number, 500, seed=75) for number in range(2)]


def from_now_on(here: FetcherHere, connection: int) -> None:
    with here.stack.database.transaction() as session:
        connections.start_from(session, connection, since=None, skip_existing=True)


@pytest.mark.promise("M17", "M7")
def test_mails_of_another_folder_come_and_the_old_one_is_settled_later(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """They lay there before "from now on" was chosen for the first folder."""
    with dovecot.client(mail_user) as other:
        other.create_folder("Support")
    dovecot.deliver(mail_user, OLD)
    dovecot.deliver(mail_user, OTHER, "Support")
    connection = here.stack.watch(dovecot, mail_user)
    from_now_on(here, connection)
    here.run_until_idle(connection)
    assert here.had() == []
    dovecot.deliver(mail_user, LATER[:1])
    here.fail_at("committed", lambda: DatabaseUnavailable("Postgres went away."))
    here.run(connection)
    here.stop_failing()
    edit(here.stack, connection, folder="Support", password=PASSWORD)
    here.run_until_idle(connection)
    assert here.had() == digests([*OTHER, LATER[0]])
    # Nothing of the old folder makes each poll a look, and it comes to its end all the same.
    asked = "SELECT validity_changed_at, cursor IS NOT NULL FROM connection_state"
    assert here.stack.query(asked) == [(None, True)]
    dovecot.deliver(mail_user, LATER[1:])
    edit(here.stack, connection, folder="", password=PASSWORD)
    here.run_until_idle(connection)
    assert here.had() == digests([*OTHER, *LATER])
    seen = [r"\Seen" in flags for flags in dovecot.flags(mail_user).values()]
    assert seen == [False, False, False, True, True]
    assert here.stack.count("settlement") == 0


@pytest.mark.promise("I9")
def test_a_folder_that_was_made_anew_while_another_one_was_read_is_recognised(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    with dovecot.client(mail_user) as other:
        other.create_folder("Orders")
        dovecot.deliver(mail_user, OLD, "Orders")
        dovecot.deliver(mail_user, OTHER)
        connection = here.stack.watch(dovecot, mail_user, folder="Orders", selection="all")
        here.run_until_idle(connection)
        edit(here.stack, connection, folder="", password=PASSWORD)
        here.run_until_idle(connection)
        other.delete_folder("Orders")
        other.create_folder("Orders")
        dovecot.deliver(mail_user, [*OLD, *LATER], "Orders")
        edit(here.stack, connection, folder="Orders", password=PASSWORD)
        here.run_until_idle(connection)
    assert here.had() == digests([*OLD, *OTHER, *LATER])


@pytest.mark.promise("M17")
def test_mails_of_another_pop3_mailbox_come(here: FetcherHere) -> None:
    """While mails of the first one are recognised, as it was cleared."""
    with RuledPop3() as server:
        server.deliver("alice", OLD)
        server.deliver("bob", OTHER)
        connection = watch(here, server, "mark-read")
        from_now_on(here, connection)
        here.run_until_idle(connection)
        server.remove("alice")
        here.run_until_idle(connection)
        edit(here.stack, connection, username="bob")
        here.run_until_idle(connection)
        assert here.had() == digests(OTHER)
