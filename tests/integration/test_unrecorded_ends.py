"""Runs that Postgres keeps from beginning, or whose end it does not take: their mailboxes are free
again, and due as soon as it is back.

A lease that nobody works with and that was renewed all the same kept everybody from the mailbox for
as long as that fetcher lived.

For an administrator: the service says that Postgres does not answer, and mailboxes are overdue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import pytest

from services.fetcher import run_phases
from services.fetcher.run import Run
from services.fetcher.session_opening import HostBusy
from shared.clock import new_id
from shared.errors import SecretKeyMissing
from shared.mailbox.failures import LoginTooSoon, Unreachable
from shared.mailbox.wait_budget import ServerTooSlow
from shared.storage import alerts, begun_runs, connections, ended_runs
from shared.storage.folder_ref import FolderRef
from shared.storage.pool import Database, DatabaseUnavailable, Session
from shared.storage.settlements import Settled
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests
from tests.rig.stack import Stack
from tests.servers.scripted import MAILS, ScriptedServer, imap


class Once(Event):
    """Lets a thread of the fetcher do its work once, and end."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def is_set(self) -> bool:
        self.turns += 1
        return self.turns > 1

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


def away(*_: object, **__: object) -> None:
    raise DatabaseUnavailable("Postgres does not answer.")


class Away(Database):
    """Gives no connection."""

    def __init__(self) -> None:
        pass

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        away()
        yield  # type: ignore[misc]


def raising(error: Exception) -> Callable[[Run], None]:
    """A run that the server ends like this, after it had confirmed something."""

    def fetch(run: Run) -> None:
        folder_ref = FolderRef(run.connection.id, run.connection.folder, 7)
        run.report.confirmed.append(Settled(folder_ref, [], deleted=False))
        raise error

    return fetch


ENDS: dict[str, Callable[[Run], None] | None] = {
    "no session at the host": raising(HostBusy("The server takes no more sessions.")),
    "too soon": raising(LoginTooSoon("Wait.", retry_after=60)),
    "for other fetchers": raising(SecretKeyMissing("The key is not here.")),
    "for the slow lane": raising(ServerTooSlow(30)),
    "a failure": raising(Unreachable("The server does not answer.")),
    "a good end": None,
    "a good end that is not written": None,
}
HELD = "SELECT count(*) FROM lease WHERE until > now()"


@pytest.mark.promise("I2", "I5")
@pytest.mark.parametrize("end", ENDS)
def test_its_mailbox_is_free_again(
    end: str,
    redis_url: str,
    build_stack: Callable[..., Stack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack = build_stack(redis_url)
    stack.add_handler()
    fetch = ENDS[end]
    with ScriptedServer(imap()) as server, FetcherHere(stack).working() as here:
        number = stack.add_plain_connection(server.port, name="inbox", mode="imap")
        dispatcher = here.fetcher.dispatcher
        with monkeypatch.context() as patched, contextlib.suppress(DatabaseUnavailable):
            if end == "a good end":  # it is asked whether an alert of before is to be taken back
                patched.setattr(alerts, "is_failing", away)
            elif fetch is None:
                patched.setattr(ended_runs, "record", away)
            else:
                patched.setattr(run_phases, "fetch", fetch)
                patched.setattr(dispatcher.ends, "database", Away())
            dispatcher.run_job([number], str(new_id()))
        assert stack.query(HELD) == [(1,)], "its end is not recorded"
        stack.execute("UPDATE connection_state SET due_at = now() + interval '1 hour'")
        here.fetcher.kept_session_runs.listen(Once())
        assert stack.query("SELECT due_at < now() + interval '6 s' FROM connection_state") == [
            (True,)
        ]
        # Its time runs out, unless somebody goes on renewing it.
        stack.execute("UPDATE lease SET until = now() - interval '1 second'")
        dispatcher.renewer.run(Once())
        stack.hurry()
        dispatcher.run_job([number], str(new_id()))
        assert here.had() == digests(list(MAILS.values()))
        assert stack.query("SELECT health FROM connection_state") == [("working",)]


@pytest.mark.promise("I2", "I5")
def test_a_mailbox_is_free_again_whose_run_did_not_begin(
    here: FetcherHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had its lease, and Postgres went away as that of another one of its job was asked for."""
    stack, dispatcher = here.stack, here.fetcher.dispatcher
    with ScriptedServer(imap(live=dict(MAILS), settles=True)) as server:
        first = stack.add_plain_connection(server.port, name="first", mode="imap")
        here.run(first)
        second = stack.add_plain_connection(server.port, name="second", username="bob", mode="imap")
        stack.hasten()
        with monkeypatch.context() as patched, pytest.raises(DatabaseUnavailable):
            patched.setattr(connections, "get_many", away)
            dispatcher.run_job([first, second], str(new_id()))
        assert stack.query(HELD) == [(1,)], "over its open session it has begun"
        stack.execute("UPDATE lease SET until = now() - interval '1 second'")
        dispatcher.renewer.run(Once())
        assert stack.query(HELD) == [(0,)]


def test_what_was_announced_while_postgres_was_away_is_fetched_once_it_is_back(
    here: FetcherHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session listens on: its server does not say it again."""
    mails = dict(MAILS)
    runs = here.fetcher.kept_session_runs
    with ScriptedServer(imap(live=mails)) as server:
        number = here.stack.add_plain_connection(server.port, name="inbox", mode="imap")
        here.run(number)
        mails[4] = b"Subject: four\r\n\r\nfourth\r\n"
        runs.push_events.announced(number)
        with monkeypatch.context() as patched:
            patched.setattr(begun_runs, "announced", away)
            runs.listen(Once())
        runs.listen(Once())
        runs.executor.shutdown(wait=True)
        assert here.had() == digests(list(mails.values()))
