"""A run whose lease was taken away in its middle changes nothing of what is known of its mailbox.

An edit does so, and a mail that is released from quarantine: the next run goes on from what these
left, and not from what an earlier one made of ids that may name other mails by then.

For an administrator: nothing fails, so no page and no alert; `posthouse_lease_losses_total` counts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import md5

import pytest

from shared.clock import new_id
from shared.storage import connections
from tests.integration.test_folder_identity import Folder
from tests.integration.test_pop3_confirming import watch
from tests.integration.test_pop3_rebinding import Counting
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import mail
from tests.servers.pop3_rules import RuledPop3, Stored
from tests.servers.scripted import Conversation, ScriptedServer, imap

pytestmark = pytest.mark.promise("I4", "I9")

MAILS = [mail(number, 400, seed=91) for number in range(4)]
LATER = [mail(number, 400, seed=92) for number in range(2)]
TABLES = ("known_key", "known_uid", "known_content", "settlement")


def known(here: FetcherHere) -> list[object]:
    asked = "SELECT row_to_json(t)::text FROM {} AS t ORDER BY 1"
    return [here.stack.query(asked.format(table)) for table in TABLES]


def all_ids_changed(here: FetcherHere, server: RuledPop3, connection: int) -> None:
    here.run_until_idle(connection)
    server.rename("alice", lambda one: md5(one.uidl.encode()).hexdigest())


def one_id_changed(here: FetcherHere, server: RuledPop3, connection: int) -> None:
    here.run_until_idle(connection)
    server.rename("alice", lambda one: "other" if one.raw == MAILS[-1] else one.uidl)
    server.deliver("alice", LATER)


def ids_given_again(here: FetcherHere, server: RuledPop3, connection: int) -> None:
    here.run_until_idle(connection)
    assert server.left("alice") == []
    server.deliver("alice", LATER)


def ids_given_again_before_settling(here: FetcherHere, server: RuledPop3, connection: int) -> None:
    here.fail_at("committed", lambda: SystemExit(9))
    with suppress(SystemExit):
        here.run(connection)
    here.stop_failing()
    server.vanish("alice", MAILS[0])
    server.deliver("alice", LATER)


@pytest.mark.parametrize(
    ("change", "after_download"),
    [
        (all_ids_changed, "mark-read"),
        (one_id_changed, "mark-read"),
        (ids_given_again, "delete"),
        (ids_given_again_before_settling, "delete"),
    ],
)
def test_as_mails_are_compared_by_their_headers(
    change: Callable[[FetcherHere, RuledPop3, int], None], after_download: str, here: FetcherHere
) -> None:
    with (Counting if after_download == "delete" else RuledPop3)() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, after_download)
        change(here, server, connection)
        before, shown = known(here), []

        def edited(stored: Stored) -> None:
            shown.append(stored.raw)
            here.take_leases_away()

        server.refuse_top = edited
        here.run(connection)
        assert shown
        assert known(here) == before


def test_as_mails_that_are_gone_are_forgotten(here: FetcherHere) -> None:
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        server.vanish("alice", MAILS[0])
        before = known(here)

        def edited(step: str) -> None:
            if step == "listed":
                here.take_leases_away()

        here.reached = edited
        here.run(connection)
        assert known(here) == before


def test_as_what_is_there_is_passed_over(here: FetcherHere) -> None:
    """From now on was chosen, and somebody chooses all of it while the first run looks."""
    with RuledPop3() as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        with here.stack.database.transaction() as session:
            connections.start_from(session, connection, since=None, skip_existing=True)
        before = known(here)
        server.login_words = here.take_leases_away
        here.run(connection)
        assert known(here) == before
        assert here.stack.query("SELECT skip_existing FROM connection_state") == [(True,)]


@pytest.mark.promise("M7", "M15")
def test_as_mails_of_an_earlier_run_are_let_go_of(here: FetcherHere) -> None:
    """That one was killed before QUIT. Who disables the connection wants no mail to go."""
    with RuledPop3(expire=0) as server:
        server.deliver("alice", MAILS)
        connection = watch(here, server, "mark-read")
        here.fail_at("committed", lambda: SystemExit(9))
        with suppress(SystemExit):
            here.run(connection)
        here.stop_failing()
        server.login_words = here.take_leases_away
        here.run(connection)
        assert server.logins == 2
        assert server.left("alice") == MAILS


def test_as_mails_of_a_folder_made_anew_are_compared(here: FetcherHere) -> None:
    served = Folder(dict(enumerate(MAILS, 1)))
    with ScriptedServer(served.script) as server:
        connection = here.stack.add_plain_connection(
            server.port, name="anew", mode="imap", selection="all"
        )
        here.run_until_idle(connection)
        served.validity += 1
        before, shown = known(here), []

        def edited(uids: set[int]) -> bytes:
            shown.append(uids)
            here.take_leases_away()
            return b""

        served.refuse_headers = edited
        here.run(connection)
        assert shown
        assert known(here) == before


@pytest.mark.promise("M15")
def test_as_its_server_fails(here: FetcherHere) -> None:
    """The mailbox is not failing, and is due at once: a run that has the lease may be well."""

    def log_in(talk: Conversation, tag: bytes, rest: bytes) -> None:
        here.take_leases_away()
        talk.send(tag + b" NO [AUTHENTICATIONFAILED] Invalid credentials\r\n")

    with ScriptedServer(imap({"LOGIN": log_in})) as server:
        connection = here.stack.add_plain_connection(server.port, name="taken", mode="imap")
        before = here.stack.query("SELECT row_to_json(s)::text FROM connection_state AS s")
        here.fetcher.dispatcher.run_job([connection], str(new_id()))
        assert here.stack.query("SELECT row_to_json(s)::text FROM connection_state AS s") == before
        assert any(b"LOGIN" in line for line in server.heard)
    assert here.stack.count("alert") == 0
    assert here.stack.count("fetch_run") == 0
