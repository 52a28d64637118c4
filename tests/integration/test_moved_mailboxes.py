"""A mailbox is moved to another server, whose ids of mails are by chance those of the old one.

Servers that count from one are such: what is new there comes, what was had does not, and nothing is
deleted there for what was still to be told to the old one.

For an administrator: nothing fails, so that neither page nor alert tells of it; a run that an edit
ended counts in `posthouse_lease_losses_total`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shared.storage.pool import DatabaseUnavailable
from tests.integration.test_folder_identity import Folder
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import ADMIN_TOKEN, Stack
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD
from tests.servers.pop3_rules import RuledPop3, Stored
from tests.servers.processes import free_port
from tests.servers.scripted import MAILS, Conversation, ScriptedServer, imap

OLD = [mail(number, 500, seed=64) for number in range(3)]
NEW = [mail(number, 500, seed=65) for number in range(3)]


def numbered() -> Callable[[Stored], str]:
    """Unique ids as of a server that counts its mails."""
    numbers = itertools.count(1)
    return lambda _: str(next(numbers))


def ask(stack: Stack, method: str, path: str, **body: Any) -> None:
    """As an administrator does, over the API."""
    port = free_port()
    stack.start("admin", settings={"port": str(port)})
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}/api/v1/",
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        timeout=30,
    ) as person:

        def done() -> bool:
            try:
                answer = person.request(method, path, json=body or None)
            except httpx.TransportError:
                return False
            assert answer.is_success, answer.text
            return True

        stack.wait(done, "it is changed")


def edit(stack: Stack, connection: int, **fields: Any) -> None:
    changes = {"password": "secret", "acknowledged": True, **fields}
    ask(stack, "PATCH", f"connections/{connection}", **changes)


@pytest.mark.promise("I9")
def test_uids_of_another_imap_server_name_other_mails(here: FetcherHere) -> None:
    old, new = Folder(dict(enumerate(OLD, 1))), Folder(dict(enumerate([OLD[1], *NEW], 1)))
    with ScriptedServer(old.script) as left, ScriptedServer(new.script) as server:
        connection = here.stack.add_plain_connection(
            left.port, name="moved", mode="imap", selection="all"
        )
        here.run_until_idle(connection)
        assert here.had() == digests(OLD)
        edit(here.stack, connection, host="127.0.0.1", port=server.port)
        here.run_until_idle(connection)
        assert here.had() == digests([*OLD, *NEW])
    assert here.stack.count("settlement") == 0


@pytest.mark.promise("I9")
def test_mails_of_every_server_before_are_known(here: FetcherHere) -> None:
    """Moved twice in a week, and all of them had the same UIDs."""
    folders = [OLD, NEW, [mail(9, 500, seed=65), *OLD, *NEW]]
    with contextlib.ExitStack() as stack:
        first, second, third = (
            stack.enter_context(ScriptedServer(Folder(dict(enumerate(mails, 1))).script))
            for mails in folders
        )
        connection = here.stack.add_plain_connection(
            first.port, name="moved", mode="imap", selection="all"
        )
        here.stack.execute("UPDATE connection_state SET pruned_at = now()")  # nothing is packed
        here.run_until_idle(connection)
        for server, had in ((second, [*OLD, *NEW]), (third, folders[2])):
            edit(here.stack, connection, host="127.0.0.1", port=server.port)
            here.run_until_idle(connection)
            assert here.had() == digests(had)


@pytest.mark.promise("I9")
@pytest.mark.parametrize(("after_download", "top"), [("delete", True), ("mark-read", False)])
def test_unique_ids_of_another_pop3_server_name_other_mails(
    after_download: str, top: bool, here: FetcherHere
) -> None:
    with RuledPop3(top=top) as left, RuledPop3(top=top) as server:
        for one, mails in ((left, OLD), (server, [OLD[1], *NEW])):
            one.deliver("alice", mails)
            one.rename("alice", numbered())
        connection = here.stack.add_plain_connection(
            left.pop3_port,
            name="moved",
            mode="pop3",
            username="alice",
            after_download=after_download,
        )
        # What is safe here, and the old server was not told any more.
        here.fail_at("committed", lambda: DatabaseUnavailable("Postgres went away."))
        here.run(connection)
        here.stop_failing()
        edit(here.stack, connection, host="127.0.0.1", port=server.pop3_port)
        here.run_until_idle(connection)
        assert here.had() == digests([*OLD, *NEW])
        assert len(server.left("alice")) == (0 if after_download == "delete" else 4)


@pytest.mark.promise("M15", "M7")
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_a_run_deletes_nothing_once_somebody_chose_to_keep_the_mails(
    mode: str, dovecot: Dovecot, mail_user: str, redis_url: str, build_stack: Callable[..., Stack]
) -> None:
    """In the middle of a run; the next one takes the rest and marks them read."""
    stack = build_stack(redis_url, batch_mails="2")
    stack.add_handler()
    dovecot.deliver(mail_user, [*OLD, *NEW])
    with FetcherHere(stack).working() as here:
        connection = stack.watch(dovecot, mail_user, mode=mode, after_download="delete")

        def reached(step: str) -> None:
            if step == "committed":
                here.stop_failing()
                edit(stack, connection, password=PASSWORD, after_download="mark-read")

        here.reached = reached
        here.run_until_idle(connection)
        assert here.had() == digests([*OLD, *NEW])
        assert len(dovecot.flags(mail_user)) == len([*OLD, *NEW])
    assert stack.count("settlement") == 0


@pytest.mark.promise("M15", "M7")
def test_a_run_deletes_nothing_once_its_connection_was_deleted(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    stack = here.stack
    dovecot.deliver(mail_user, NEW)
    connection = stack.watch(dovecot, mail_user, after_download="delete")

    def reached(step: str) -> None:
        if step == "committed":
            here.stop_failing()
            stack.execute("DELETE FROM outbox")  # its handler has them
            ask(stack, "DELETE", f"connections/{connection}")

    here.reached = reached
    here.run(connection)
    assert stack.count("connection") == 0
    assert len(dovecot.flags(mail_user)) == len(NEW)


@pytest.mark.promise("M15", "M7")
def test_a_pop3_server_that_deletes_what_was_retrieved_is_not_told_that_it_may(
    here: FetcherHere,
) -> None:
    """`EXPIRE 0`: who disables a connection in the middle of a run wants no mail to go, and QUIT
    would let all go that were retrieved, also where they are to be marked read."""
    with RuledPop3(expire=0) as server:
        server.deliver("alice", NEW)
        connection = here.stack.add_plain_connection(
            server.pop3_port, name="kept", mode="pop3", username="alice"
        )

        def reached(step: str) -> None:
            if step == "committed":
                here.stop_failing()
                edit(here.stack, connection, enabled=False)

        here.reached = reached
        here.run(connection)
        assert here.had() == digests(NEW)
        assert len(server.left("alice")) == len(NEW)


@pytest.mark.promise("M15")
def test_a_run_that_fails_at_the_old_server_says_nothing_of_the_new_one(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """Somebody mends the host while a run waits for the old one, which then gives no answer."""
    stack = here.stack
    dovecot.deliver(mail_user, NEW)

    def mended_meanwhile(talk: Conversation) -> None:
        edit(stack, connection, host="127.0.0.1", port=dovecot.imap_port, password=PASSWORD)

    with ScriptedServer(mended_meanwhile) as left:
        connection = stack.watch(dovecot, mail_user, port=left.port)
        here.run(connection)
    state = "SELECT health, error, failures, lane, due_at <= now() FROM connection_state"
    assert stack.query(state) == [("pending", None, 0, "fetch", True)]
    assert stack.count("alert") == 0
    here.run(connection)
    assert here.had() == digests(NEW)


@pytest.mark.promise("M15", "M19")
def test_a_run_that_fails_with_the_old_password_says_nothing_of_the_new_one(
    here: FetcherHere,
) -> None:
    """Somebody mends it while a run logs in: that leaves neither a reason nor a back-off behind."""
    stack, correct = here.stack, "another password"

    def log_in(talk: Conversation, tag: bytes, rest: bytes) -> None:
        if correct.encode() in rest:
            talk.ok(tag)
            return
        edit(stack, connection, password=correct)
        talk.send(tag + b" NO [AUTHENTICATIONFAILED] Invalid credentials\r\n")

    with ScriptedServer(imap({"LOGIN": log_in})) as server:
        connection = stack.add_plain_connection(server.port, name="mended", mode="imap")
        here.run(connection)
        state = "SELECT health, error, failures, lane, due_at <= now() FROM connection_state"
        assert stack.query(state) == [("pending", None, 0, "fetch", True)]
        assert stack.count("alert") == 0
        here.run(connection)
        assert here.had() == digests(list(MAILS.values()))
    # The history has both.
    runs = "SELECT error->>'code', downloaded FROM fetch_run ORDER BY id"
    assert stack.query(runs) == [("login-refused", 0), (None, 3)]
