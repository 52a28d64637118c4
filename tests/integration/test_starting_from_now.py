"""From now on means from the choice on, and not from the first time that the server answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.storage import connections
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.servers.dovecot import Dovecot

OLD, NEW, LATER = (mail(number, 1000) for number in range(3))


@pytest.mark.promise("M17")
@pytest.mark.parametrize("selection", ["unread", "all"])
def test_what_arrives_while_the_server_is_away_is_not_passed_over(
    selection: str, here: FetcherHere, mail_user: str
) -> None:
    chosen = datetime.now(UTC) - timedelta(minutes=10)
    with Dovecot() as server:
        with server.client(mail_user) as session:
            session.append("INBOX", OLD, msg_time=chosen - timedelta(hours=1))
        connection = here.stack.watch(server, mail_user, selection=selection)
        with here.stack.database.transaction() as transaction:
            connections.start_from(transaction, connection, since=chosen, skip_existing=True)
        server.stop()
        here.run(connection)
        assert here.stack.query("SELECT health FROM connection_state") == [("failing",)]
        server.start()
        with server.client(mail_user) as session:
            session.append("INBOX", NEW, msg_time=chosen + timedelta(minutes=5))
        here.run_until_idle(connection)
        assert here.had() == digests([NEW])
        # Later ones whatever their date, as it is with a mail that somebody moves into the folder.
        with server.client(mail_user) as session:
            session.append("INBOX", LATER, msg_time=chosen - timedelta(days=1))
        here.run_until_idle(connection)
        assert here.had() == digests([NEW, LATER])
        assert len(server.flags(mail_user)) == 3


@pytest.mark.promise("M17")
def test_a_date_that_is_to_come_is_not_that_of_an_arrival(
    here: FetcherHere, dovecot: Dovecot, mail_user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail that was copied into the folder with a wrong date was there, too: it is not taken."""
    today = datetime.now(UTC)
    monkeypatch.setattr("services.fetcher.run_phases.utc_now", lambda: today - timedelta(days=1))
    dovecot.deliver(mail_user, [OLD])  # dated tomorrow, for who lives a day earlier
    connection = here.stack.watch(dovecot, mail_user, after_download="delete")
    with here.stack.database.transaction() as transaction:
        chosen = today - timedelta(days=1)
        connections.start_from(transaction, connection, since=chosen, skip_existing=True)
    here.run_until_idle(connection)
    assert here.had() == []
    assert len(dovecot.flags(mail_user)) == 1


@pytest.mark.promise("M17", "M10", "I9")
@pytest.mark.parametrize("action", ["mark-read", "delete"])
def test_an_old_mail_that_is_moved_in_comes_some_days_after_a_folder_was_made_anew(
    action: str, here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """The skipped mails are told by their dates while they are copied to the new folder, and by
    their UIDs from then on: they stay untouched, those that were read as well."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    old = [mail(number, 500, seed=83) for number in range(4)]
    with dovecot.client(mail_user) as person:
        person.create_folder("Orders")
        person.append("Orders", old[0], msg_time=yesterday)
        number = here.stack.watch(dovecot, mail_user, folder="Orders", after_download=action)
        with here.stack.database.transaction() as session:
            connections.start_from(session, number, since=None, skip_existing=True)
        here.run_until_idle(number)
        person.delete_folder("Orders")
        person.create_folder("Orders")
        person.append("Orders", old[0], msg_time=yesterday)
        person.append("Orders", old[1], (rb"\Seen",), msg_time=yesterday)
        here.run_until_idle(number)
        here.stack.execute(
            "UPDATE connection_state SET pruned_at = pruned_at - interval '8 days',"
            " validity_changed_at = validity_changed_at - interval '8 days'"
        )
        here.run_until_idle(number)
        assert here.had() == []
        for later in old[2:]:
            person.append("Orders", later, msg_time=yesterday)
            here.run_until_idle(number)
        person.select_folder("Orders")
        (read,) = person.search(["SEEN", "UID", "1:2"])
        person.remove_flags([read], [rb"\Seen"])
        here.run_until_idle(number)
    assert here.had() == digests(old[2:])
    left = list(dovecot.flags(mail_user, "Orders").values())
    assert [r"\Seen" in flags for flags in left] == [False, False] + [True, True] * (
        action == "mark-read"
    )


@pytest.mark.promise("M17")
def test_an_old_mail_comes_though_it_is_looked_for_anew_after_a_folder_was_made_anew(
    here: FetcherHere, dovecot: Dovecot, mail_user: str
) -> None:
    """As after a mail was released from quarantine, or other mails were chosen: only how far the
    folder was looked at is forgotten then."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    skipped, moved_in = (mail(number, 500, seed=84) for number in range(2))
    with dovecot.client(mail_user) as person:
        person.create_folder("Orders")
        person.append("Orders", skipped, msg_time=yesterday)
        number = here.stack.watch(dovecot, mail_user, folder="Orders")
        with here.stack.database.transaction() as session:
            connections.start_from(session, number, since=None, skip_existing=True)
        here.run_until_idle(number)
        person.delete_folder("Orders")
        person.create_folder("Orders")
        person.append("Orders", skipped, msg_time=yesterday)
        here.run_until_idle(number)
        here.stack.execute(
            "UPDATE connection_state SET pruned_at = pruned_at - interval '8 days',"
            " validity_changed_at = validity_changed_at - interval '8 days'"
        )
        here.run_until_idle(number)
        with here.stack.database.transaction() as session:
            connections.forget_cursor(session, number)
        person.append("Orders", moved_in, msg_time=yesterday)
        here.run_until_idle(number)
    assert here.had() == digests([moved_in])
