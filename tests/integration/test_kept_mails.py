"""Mails that were kept on their server on purpose stay there, whatever happens to their keys.

A connection marked read what it fetched, and was changed to delete: only what comes from then on is
deleted, and what was deleted before and is back.

For an administrator: nothing fails, so that no page, alert or metric tells of it; the path of a
mail says what was done with it on its server.
"""

from __future__ import annotations

import itertools

import pytest

from shared.storage import connections
from shared.storage.pool import DatabaseUnavailable
from tests.integration.test_moved_mailboxes import edit
from tests.integration.test_pop3_confirming import watch
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import PASSWORD
from tests.servers.pop3_rules import RuledPop3, Stored, gmail_rules

KEPT = [mail(number, 500, seed=71) for number in range(6)]
LATER = [mail(number, 500, seed=72) for number in range(2)]


def renamed(stored: Stored) -> str:
    return "of-another-format-" + stored.uidl[-12:]


def deletes_from_now_on(here: FetcherHere) -> None:
    here.stack.execute("UPDATE connection SET after_download = 'delete'")
    here.stack.execute("UPDATE connection_state SET cursor = NULL")


def commits_and_breaks_off(here: FetcherHere, connection: int) -> None:
    here.fail_at("committed", lambda: DatabaseUnavailable("Postgres went away."))
    here.run(connection)
    here.stop_failing()
    here.fetcher.dispatcher.sessions.drop([connection])


@pytest.mark.promise("M7")
@pytest.mark.parametrize("top", [True, False])
def test_an_empty_list_makes_nothing_to_be_deleted(top: bool, here: FetcherHere) -> None:
    """A POP3 server shows an empty mailbox once, and lists all of it again."""
    with RuledPop3(top=top) as server:
        server.deliver("alice", KEPT)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        deletes_from_now_on(here)
        server.remove("alice")
        here.run_until_idle(connection)
        server.deliver("alice", [*KEPT, *LATER])
        here.run_until_idle(connection)
        assert server.left("alice") == KEPT
        assert here.had() == digests([*KEPT, *LATER])


@pytest.mark.promise("M7", "I9")
@pytest.mark.parametrize(
    ("change", "top"),
    [
        ("ids", True),
        ("ids", False),
        ("server", True),
        ("server", False),
        # Without TOP single mails are not recognised.
        ("some ids", True),
        ("ids that change back", True),
    ],
)
def test_changed_ids_make_nothing_to_be_deleted(change: str, top: bool, here: FetcherHere) -> None:
    with RuledPop3(top=top) as left, RuledPop3(top=top) as other:
        left.deliver("alice", KEPT)
        connection = watch(here, left, "mark-read")
        here.run_until_idle(connection)
        server = left
        if change == "ids":
            deletes_from_now_on(here)
            server.rename("alice", renamed)
        elif change == "some ids":
            deletes_from_now_on(here)
            server.rename("alice", lambda one: renamed(one) if one.raw in KEPT[:2] else one.uidl)
        elif change == "ids that change back":
            before = {renamed(one): one.uidl for one in server.stored("alice")[:2]}
            server.rename("alice", renamed)
            here.run_until_idle(connection)
            deletes_from_now_on(here)
            server.rename("alice", lambda one: before.get(one.uidl, one.uidl))
        else:
            server = other
            server.deliver("alice", KEPT)
            numbers = itertools.count(1)
            server.rename("alice", lambda _: str(next(numbers)))
            edit(
                here.stack,
                connection,
                host="127.0.0.1",
                port=server.pop3_port,
                after_download="delete",
            )
        server.deliver("alice", LATER)
        here.run_until_idle(connection)
        assert server.left("alice") == KEPT
        assert here.had() == digests([*KEPT, *LATER])


@pytest.mark.promise("M7", "I9")
@pytest.mark.parametrize("ids", ["the same", "others"])
def test_what_we_deleted_and_is_back_goes_and_what_was_kept_stays(
    ids: str, here: FetcherHere
) -> None:
    """A backup was restored. A deletion that the server refuses then is done later."""
    with RuledPop3() as server:
        server.deliver("alice", KEPT[:3])
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        deletes_from_now_on(here)
        server.deliver("alice", KEPT[3:])
        here.run_until_idle(connection)
        assert server.left("alice") == KEPT[:3]
        server.deliver("alice", KEPT[3:])
        if ids == "others":
            server.rename("alice", renamed)
        server.refuse_deletion = lambda stored: True
        here.run_until_idle(connection)
        assert server.left("alice") == KEPT
        server.refuse_deletion = lambda stored: False
        here.run_until_idle(connection)
        assert server.left("alice") == KEPT[:3]
        assert here.had() == digests(KEPT)


@pytest.mark.promise("M7", "I9")
def test_what_was_to_be_deleted_is_deleted_at_the_new_pop3_server(here: FetcherHere) -> None:
    with RuledPop3() as left, RuledPop3() as server:
        left.deliver("alice", KEPT)
        connection = watch(here, left, "delete")
        left.refuse_deletion = lambda stored: stored.raw in KEPT[:2]
        here.fail_at("finished", lambda: DatabaseUnavailable("Postgres went away."))
        here.run(connection)
        here.stop_failing()
        server.deliver("alice", KEPT[:2])
        edit(here.stack, connection, host="127.0.0.1", port=server.pop3_port)
        here.run_until_idle(connection)
        assert server.left("alice") == []
        assert here.had() == digests(KEPT)


@pytest.mark.promise("M7", "I9")
def test_a_folder_made_anew_makes_nothing_to_be_deleted(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """What was still to be deleted is, also where it is copied later than the others."""
    with dovecot.client(mail_user) as other:
        other.create_folder("Orders")
        dovecot.deliver(mail_user, KEPT, "Orders")
        connection = here.stack.watch(dovecot, mail_user, folder="Orders", selection="all")
        here.run_until_idle(connection)
        deletes_from_now_on(here)
        dovecot.deliver(mail_user, LATER, "Orders")
        here.fail_at("committed", lambda: DatabaseUnavailable("Postgres went away."))
        here.run(connection)
        here.stop_failing()
        here.fetcher.dispatcher.sessions.drop([connection])
        other.delete_folder("Orders")
        other.create_folder("Orders")
        dovecot.deliver(mail_user, [*KEPT, LATER[0]], "Orders")
        here.run_until_idle(connection)
        assert len(dovecot.flags(mail_user, "Orders")) == len(KEPT)
        dovecot.deliver(mail_user, LATER[1:], "Orders")
        here.run_until_idle(connection)
        assert len(dovecot.flags(mail_user, "Orders")) == len(KEPT)
    assert here.had() == digests([*KEPT, *LATER])


@pytest.mark.promise("M7", "I9")
def test_another_imap_server_makes_nothing_to_be_deleted(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """But what was still to be deleted at the old one."""
    with Dovecot() as server:
        dovecot.deliver(mail_user, KEPT)
        connection = here.stack.watch(dovecot, mail_user, selection="all")
        here.run_until_idle(connection)
        deletes_from_now_on(here)
        dovecot.deliver(mail_user, LATER)
        here.fail_at("committed", lambda: DatabaseUnavailable("Postgres went away."))
        here.run(connection)
        here.stop_failing()
        server.add_user(mail_user)
        server.deliver(mail_user, [*KEPT, *LATER])
        edit(here.stack, connection, host="127.0.0.1", port=server.imap_port, password=PASSWORD)
        here.run_until_idle(connection)
        assert len(server.flags(mail_user)) == len(KEPT)
    assert here.had() == digests([*KEPT, *LATER])


@pytest.mark.promise("M7", "M15")
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_what_was_still_to_be_marked_read_is_not_deleted(
    mode: str, here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """A run broke off, or a right was missing; then somebody chooses delete."""
    dovecot.deliver(mail_user, KEPT)
    connection = here.stack.watch(dovecot, mail_user, mode=mode)
    commits_and_breaks_off(here, connection)
    assert here.stack.count("settlement") == len(KEPT)
    edit(here.stack, connection, password=PASSWORD, after_download="delete")
    dovecot.deliver(mail_user, LATER)
    here.run_until_idle(connection)
    assert here.had() == digests([*KEPT, *LATER])
    assert len(dovecot.flags(mail_user)) == len(KEPT)
    assert here.stack.count("settlement") == 0
    ways = "SELECT settled_as, count(*) FROM message GROUP BY 1 ORDER BY 1"
    assert here.stack.query(ways) == [("deleted", len(LATER)), ("nothing", len(KEPT))]


@pytest.mark.promise("M7", "I9")
@pytest.mark.parametrize("mode", ["imap", "pop3"])
def test_what_was_still_to_be_marked_read_is_not_deleted_at_another_server(
    mode: str, here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """Moved and changed to delete, at once or one after the other; then its mails are copied."""
    with Dovecot() as server:
        dovecot.deliver(mail_user, KEPT)
        connection = here.stack.watch(dovecot, mail_user, mode=mode)
        commits_and_breaks_off(here, connection)
        server.add_user(mail_user)
        port = server.imap_port if mode == "imap" else server.pop3_port
        moved = {"host": "127.0.0.1", "port": port, "password": PASSWORD}
        if mode == "pop3":
            edit(here.stack, connection, **moved)
            here.run_until_idle(connection)
        edit(here.stack, connection, **moved, after_download="delete")
        server.deliver(mail_user, [*KEPT, *LATER])
        here.run_until_idle(connection)
        assert len(server.flags(mail_user)) == len(KEPT)
    assert here.had() == digests([*KEPT, *LATER])


@pytest.mark.promise("M7", "I9")
@pytest.mark.parametrize("ids", ["as before", "others"])
def test_a_window_that_shows_old_mails_again_moves_on(ids: str, here: FetcherHere) -> None:
    """Somebody enables POP3 "for all mail" at Gmail once more."""
    with gmail_rules(window=4) as server:
        server.deliver("alice", KEPT)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        here.run_until_idle(connection)
        assert server.listed("alice") == []
        for stored in server.stored("alice"):
            stored.hidden = False
            stored.uidl += "" if ids == "as before" else "+"
        server.deliver("alice", LATER)
        for _ in range(3):
            here.run_until_idle(connection)
        assert here.had() == digests([*KEPT, *LATER])
        assert len(server.left("alice")) == len([*KEPT, *LATER])


@pytest.mark.promise("I9", "M7")
@pytest.mark.parametrize("action", ["mark-read", "delete"])
@pytest.mark.parametrize("top", ["none", "refused"])
def test_a_key_that_another_program_freed_may_name_a_new_mail(
    top: str, action: str, here: FetcherHere
) -> None:
    """Without the header only its octets tell: it comes, and a mail of before stays where it is."""
    with RuledPop3(top=top != "none") as server:
        server.deliver("alice", KEPT)
        connection = watch(here, server, "mark-read")
        here.run_until_idle(connection)
        if action == "delete":
            deletes_from_now_on(here)
        freed = [stored.uidl for stored in server.stored("alice")[:2]]
        for one in KEPT[:2]:
            server.vanish("alice", one)
        here.run_until_idle(connection)
        server.deliver("alice", [LATER[0], KEPT[1]])
        for stored, uidl in zip(server.stored("alice")[-2:], freed, strict=True):
            stored.uidl = uidl
        if top == "refused":
            server.refuse_top = lambda mail: b"not now" if mail.uidl in freed else None
        here.run_until_idle(connection)
        assert here.had() == digests([*KEPT, LATER[0]])
        taken = LATER[:1] if action == "mark-read" else []
        assert server.left("alice") == [*KEPT[2:], *taken, KEPT[1]]


@pytest.mark.promise("M17", "M7")
def test_a_mail_that_was_skipped_and_is_back_stays(here: FetcherHere) -> None:
    """It is known by its id and its date alone, and another program had moved it for a while."""
    with RuledPop3() as server:
        server.deliver("alice", [*KEPT, *LATER])
        connection = watch(here, server, "delete")
        with here.stack.database.transaction() as session:
            connections.start_from(session, connection, since=None, skip_existing=True)
        here.run_until_idle(connection)
        away = server.stored("alice").pop()
        here.run_until_idle(connection)
        server.stored("alice").append(away)
        here.run_until_idle(connection)
        assert here.had() == []
        assert server.left("alice") == [*KEPT, *LATER]
