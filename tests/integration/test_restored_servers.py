"""A mail server is restored from a backup, or moved: what is new there comes, what was had not.

The UIDs that it gave out after the backup go to other mails then, under the same UIDVALIDITY. For
an administrator there is nothing to do.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from shared.storage import connections
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot

BEFORE = [mail(number, 500, seed=61) for number in range(3)]
LOST = [mail(number, 500, seed=62) for number in range(4)]
AFTER = [mail(number, 500, seed=63) for number in range(2)]


def copied(source: Path, target: Path) -> None:
    """With its owner, as Dovecot reads no others' files."""
    if target.exists():
        shutil.rmtree(target)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


@pytest.mark.promise("I9")
@pytest.mark.parametrize(
    ("selection", "after_download"), [("all", "mark-read"), ("unread", "delete")]
)
def test_mails_under_uids_that_a_restored_server_gives_again_come(
    selection: str, after_download: str, here: FetcherHere, mail_user: str, tmp_path: Path
) -> None:
    with Dovecot() as server:
        server.deliver(mail_user, BEFORE)
        server.stop()
        copied(server.home(mail_user), tmp_path / "backup")
        server.start()
        server.deliver(mail_user, LOST)
        connection = here.stack.watch(
            server, mail_user, selection=selection, after_download=after_download
        )
        here.run_until_idle(connection)
        assert here.had() == digests([*BEFORE, *LOST])
        here.fetcher.dispatcher.sessions.drop([connection])
        server.stop()
        copied(tmp_path / "backup", server.home(mail_user))
        server.start()
        server.deliver(mail_user, AFTER)
        here.run_until_idle(connection)
        had = here.had()
        if after_download == "delete":  # the backup brings back what was deleted and forgotten
            had = sorted(set(had))
        assert had == digests([*BEFORE, *LOST, *AFTER])
        flags = server.flags(mail_user).values()
        assert all(r"\Seen" in of_one for of_one in flags)
        assert after_download != "delete" or not flags
    assert here.stack.count("settlement") == 0
    assert here.stack.query("SELECT count(DISTINCT uid_validity) FROM message") == [(1,)]


@pytest.mark.promise("I9")
@pytest.mark.parametrize("selection", ["all", "unread"])
def test_mails_that_are_copied_after_the_first_look_are_recognised(
    selection: str, here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """Who moves a mailbox switches over first and copies for hours: its old mails are no flood."""
    with dovecot.client(mail_user) as other:
        other.create_folder("Orders")
        dovecot.deliver(mail_user, BEFORE, "Orders")
        connection = here.stack.watch(dovecot, mail_user, folder="Orders", selection=selection)
        here.run_until_idle(connection)
        here.fetcher.dispatcher.sessions.drop([connection])
        other.delete_folder("Orders")
        other.create_folder("Orders")
        here.run_until_idle(connection)
        for number, part in enumerate([BEFORE[:2], [*BEFORE[2:], AFTER[0]]]):
            dovecot.deliver(mail_user, part, "Orders")
            here.run_until_idle(connection)
            assert here.had() == digests([*BEFORE, *AFTER[:number]])
        flags = dovecot.flags(mail_user, "Orders").values()
        assert len(flags) == 4 and all(r"\Seen" in of_one for of_one in flags)


@pytest.mark.promise("I9")
@pytest.mark.parametrize("step", ["committed", "settled"])
def test_mails_had_before_a_first_run_broke_off_are_recognised(
    step: str, here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """And the folder is made anew before the next run, which knows of no other one."""
    with dovecot.client(mail_user) as other:
        other.create_folder("Orders")
        dovecot.deliver(mail_user, BEFORE, "Orders")
        connection = here.stack.watch(dovecot, mail_user, folder="Orders", selection="all")
        here.fail_at(step, lambda: SystemExit(9))
        with contextlib.suppress(SystemExit):
            here.run(connection)
        here.stop_failing()
        other.delete_folder("Orders")
        other.create_folder("Orders")
        dovecot.deliver(mail_user, [*BEFORE, *AFTER], "Orders")
        here.run_until_idle(connection)
    assert here.had() == digests([*BEFORE, *AFTER])


@pytest.mark.promise("I9")
def test_mails_of_a_folder_made_anew_while_another_one_was_read_are_recognised(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """The connection reads the inbox for a while, and then the first folder again."""
    stack = here.stack
    with dovecot.client(mail_user) as other:
        other.create_folder("Orders")
        dovecot.deliver(mail_user, BEFORE, "Orders")
        dovecot.deliver(mail_user, LOST)
        connection = stack.watch(dovecot, mail_user, folder="Orders", selection="all")
        here.run_until_idle(connection)
        move(stack, connection, "")
        here.run_until_idle(connection)
        assert here.had() == digests([*BEFORE, *LOST])
        other.delete_folder("Orders")
        other.create_folder("Orders")
        dovecot.deliver(mail_user, [*BEFORE, *AFTER], "Orders")
        move(stack, connection, "Orders")
        here.run_until_idle(connection)
    assert here.had() == digests([*BEFORE, *LOST, *AFTER])


def move(stack: Stack, connection: int, folder: str) -> None:
    """It reads this folder from now on."""
    with stack.database.transaction() as session:
        before = connections.get(session, connection)
        connections.update(session, replace(before, folder=folder))
        connections.forget_folder(session, connection)


@pytest.mark.promise("I9")
def test_a_read_mail_that_is_set_unread_after_the_first_look_is_recognised(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """Where unread mails are fetched, a look at a folder made anew does not see all of them."""
    with dovecot.client(mail_user) as other:
        other.create_folder("Orders")
        dovecot.deliver(mail_user, BEFORE, "Orders")
        connection = here.stack.watch(dovecot, mail_user, folder="Orders")
        here.run_until_idle(connection)
        here.fetcher.dispatcher.sessions.drop([connection])
        other.delete_folder("Orders")
        other.create_folder("Orders")
        for raw in BEFORE:
            other.append("Orders", raw, (rb"\Seen",))
        here.run_until_idle(connection)
        here.stack.execute(
            "UPDATE connection_state SET pruned_at = pruned_at - interval '8 days',"
            " validity_changed_at = validity_changed_at - interval '8 days'"
        )
        here.run_until_idle(connection)
        other.select_folder("Orders")
        other.remove_flags(other.search(["ALL"]), [rb"\Seen"])
        here.run_until_idle(connection)
    assert here.had() == digests(BEFORE)
