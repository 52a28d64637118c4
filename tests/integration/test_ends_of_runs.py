"""What a run leaves behind, whatever its end is: for the next one, and for other fetchers.

For an administrator: a run that failed says why (the connection's page), and nothing that its mail
server has confirmed counts in `posthouse_settlements_pending`.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace

import pytest

from shared.clock import new_id
from shared.errors import TryAgain
from shared.store import FileStore
from shared.store_identity import ForeignStore
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests
from tests.servers.scripted import (
    MAILS,
    Conversation,
    ScriptedServer,
    body_response,
    imap,
    read_set,
)

HELD = "SELECT count(*) FROM lease WHERE until > now()"


@pytest.mark.promise("M7")
def test_what_a_run_settled_that_failed_later_is_not_settled_again(here: FetcherHere) -> None:
    with ScriptedServer(imap(settles=True)) as server:
        connection = here.stack.add_plain_connection(server.port, name="inbox", mode="imap")
        failed = here.fail_at("finished", lambda: TryAgain("It fails at its end."))
        here.run(connection)
        assert failed
        assert here.stack.query("SELECT health FROM connection_state") == [("failing",)]
        assert here.stack.count("settlement") == 0
        here.stop_failing()
        here.run(connection)
        assert here.stack.query("SELECT health FROM connection_state") == [("working",)]
        assert sum(b"UID STORE" in line for line in server.heard) == 1


@pytest.mark.promise("I4")
def test_a_process_that_ends_leaves_the_other_mailboxes_of_its_job(here: FetcherHere) -> None:
    """Without a login, and without waiting for a lease to run out."""
    ends = threading.Event()
    dispatcher = here.fetcher.dispatcher
    dispatcher.tools = replace(dispatcher.tools, stopping=ends.is_set)
    here.reached = lambda step: ends.set() if step == "finished" else None
    with ScriptedServer(imap(settles=True)) as server:
        both = [
            here.stack.add_plain_connection(server.port, name=user, mode="imap", username=user)
            for user in ("alice", "bob")
        ]
        here.stack.hasten()
        dispatcher.run_job(both, str(new_id()))
        assert server.connections == 1
    assert here.had() == digests(list(MAILS.values()))
    assert here.stack.query(HELD) == [(0,)]
    waiting = (
        "SELECT due_at < now() + interval '6 s' FROM connection_state WHERE last_run_at IS NULL"
    )
    assert here.stack.query(waiting) == [(True,)]


@pytest.mark.promise("I5")
def test_a_fetcher_whose_store_is_found_wrong_is_not_sent_its_mailboxes_again(
    here: FetcherHere,
) -> None:
    """Its open sessions keep them no longer."""
    mails = dict(MAILS)
    kept_by = "SELECT affinity IS NOT NULL FROM connection_state"
    with ScriptedServer(imap(live=mails, settles=True)) as server:
        connection = here.stack.add_plain_connection(server.port, name="inbox", mode="imap")
        here.run(connection)
        assert here.stack.query(kept_by) == [(True,)]
        FileStore(here.stack.store).mark(uuid.uuid4())
        with pytest.raises(ForeignStore):
            here.fetcher.dispatcher.tools.store.verify(anew=True)
        mails[4] = b"Subject: four\r\n\r\nfourth\r\n"
        here.run(connection)
    assert here.stack.query(kept_by) == [(False,)]
    assert here.stack.query(HELD) == [(0,)]
    assert here.stack.count("message") == len(MAILS)


@pytest.mark.promise("M27")
def test_why_a_server_stops_giving_mails_is_told_where_settling_fails_after_it(
    here: FetcherHere,
) -> None:
    """The delay that it states is kept, too."""

    def fetch(talk: Conversation, tag: bytes, rest: bytes) -> None:
        first = min(read_set(rest.split(b" ")[0], len(MAILS)))
        talk.send(body_response(first, MAILS[first]))
        talk.send(tag + b" NO [OVERQUOTA] Account exceeded command or bandwidth limits.\r\n")

    def store(talk: Conversation, tag: bytes, rest: bytes) -> None:
        talk.hang_up()

    with ScriptedServer(imap({"UID FETCH": fetch, "UID STORE": store})) as server:
        connection = here.stack.add_plain_connection(server.port, name="busy", mode="imap")
        here.run(connection)
        assert any(b"UID STORE" in line for line in server.heard)
    assert here.stack.count("message") == here.stack.count("settlement") == 1
    told = "SELECT error ->> 'code', due_at > now() + interval '50 min' FROM connection_state"
    assert here.stack.query(told) == [("throttled", True)]
