"""What is committed under a lease: all of it or nothing, and only while the lease is held.

For an administrator: commits under a lease that was lost count in `posthouse_lease_losses_total`
(PosthouseLeasesLost); a Postgres without space is the check `database` on the overview.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from shared.errors import LeaseLost
from shared.storage import leases, ledger
from shared.storage.folder_ref import FolderRef
from shared.storage.known_sets import KnownMails
from shared.storage.leases import Lease
from shared.storage.ledger import Batch, LeftOnServer
from shared.storage.pool import Database, DatabaseCannotWrite, Session
from tests.integration.test_ledger import count, lease, message
from tests.rig.leasing import acquire

Use = Callable[[Session, Lease, FolderRef], None]


def _commits(session: Session, held: Lease, folder_ref: FolderRef) -> None:
    ledger.commit_batch(session, held, folder_ref, [message(1)])


def _commits_many(session: Session, held: Lease, folder_ref: FolderRef) -> None:
    ledger.commit_batch(session, held, folder_ref, [message(key) for key in range(ledger.FEW + 1)])


def _relies_on_it(session: Session, held: Lease, folder_ref: FolderRef) -> None:
    leases.assert_held(session, held)


USES = pytest.mark.parametrize("use", [_commits, _commits_many, _relies_on_it])


def _edited(database: Database, held: Lease) -> None:
    with database.transaction() as session:
        leases.take_away(session, held.mailbox)


def _restored(database: Database, held: Lease) -> None:
    """Postgres is as it was before: another fetcher counts from there, to the same number."""
    with database.transaction() as session:
        session.execute("DELETE FROM lease")
    assert lease(database, "another").fence == held.fence


@pytest.mark.promise("I4")
@pytest.mark.parametrize("lose", [_edited, _restored])
@USES
def test_nothing_is_done_under_a_lease_that_was_lost(
    database: Database, folder_ref: FolderRef, use: Use, lose: Callable[[Database, Lease], None]
) -> None:
    held = lease(database, "me")
    lose(database, held)
    with pytest.raises(LeaseLost), database.transaction() as session:
        use(session, held, folder_ref)
    assert (count(database, "message"), count(database, "known_uid")) == (0, 0)


@pytest.mark.promise("I4")
@USES
def test_nobody_takes_a_mailbox_over_while_something_is_committed(
    database: Database, folder_ref: FolderRef, use: Use
) -> None:
    """Both would have the same mails: the one knows nothing yet of what the other commits."""
    held = lease(database, "me", ttl=0)
    locked = "SELECT mailbox FROM lease FOR UPDATE SKIP LOCKED"
    with database.transaction() as session:
        use(session, held, folder_ref)
        with database.transaction() as other:
            assert other.execute(locked).fetchall() == []
    with database.transaction() as other:
        assert other.execute(locked).fetchall() == [("box",)]


@pytest.mark.promise("I4")
@pytest.mark.parametrize("lose", [_edited, _restored])
def test_who_lost_a_lease_neither_prolongs_nor_gives_back_that_of_another(
    database: Database, lose: Callable[[Database, Lease], None]
) -> None:
    stale = lease(database, "me")
    lose(database, stale)
    with database.transaction() as session:
        acquire(session, ["box"], "another", 60)
        before = session.execute("SELECT owner, fence, until FROM lease").fetchall()
        assert leases.renew(session, [stale], 600) == set()
        assert leases.release(session, [stale]) == set()
        assert session.execute("SELECT owner, fence, until FROM lease").fetchall() == before
        assert [row[0] for row in before] == ["another"]


@pytest.mark.promise("I9")
@pytest.mark.parametrize("more", [1, ledger.FEW + 1], ids=["few", "many"])
def test_what_was_had_before_a_batch_is_known_after_it(
    database: Database, folder_ref: FolderRef, more: int
) -> None:
    held = lease(database, "me")
    with database.transaction() as session:
        ledger.commit_batch(session, held, folder_ref, [message(1)])
    with database.transaction() as session:
        later = [message(10 + number) for number in range(more)]
        ledger.commit_batch(session, held, folder_ref, later)
    known = KnownMails(database, folder_ref.connection_id, "", 100)
    assert known.missing([1, 2, 10]) == [2]


@pytest.mark.promise("I9")
@pytest.mark.parametrize("uid_validity", [100, None], ids=["imap", "pop3"])
@pytest.mark.parametrize("more", [0, ledger.FEW], ids=["few", "many"])
def test_a_key_that_was_given_again_keeps_no_batch_from_being_committed(
    database: Database, folder_ref: FolderRef, uid_validity: int | None, more: int
) -> None:
    """What was to be settled under it is still open: the commit would fail each time."""
    where = FolderRef(folder_ref.connection_id, folder_ref.folder, uid_validity)
    held = lease(database, "me")
    for content in ("first", "second"):
        others = [message(10 + number) for number in range(more)]
        with database.transaction() as session:
            ledger.commit_batch(session, held, where, [message(1, content), *others])
    assert count(database, "message") == count(database, "outbox") == 2 * (1 + more)


@pytest.mark.promise("I3")
def test_what_stands_in_the_way_of_another_is_done_once_more(
    database: Database, database_url: str, folder_ref: FolderRef
) -> None:
    """Events were confirmed by then: what is not recorded comes twice."""
    locked, tries = "SELECT FROM connection_state FOR UPDATE NOWAIT", []
    with psycopg.connect(database_url) as other:
        other.execute(locked)

        def work(session: Session) -> int:
            tries.append(session)
            if len(tries) == 2:
                other.rollback()
            return len(session.execute(locked).fetchall())

        assert database.perform(work) == 1
    assert len(tries) == 2


LEFT = LeftOnServer(key=9, code="too-large", reason="big", size=1)


@pytest.mark.promise("I3", "H4")
@pytest.mark.parametrize(
    ("uid_validity", "refused", "table"),
    [(100, [LEFT], "quarantine"), (None, [], "known_key")],
    ids=["a mail over the limit", "keys of POP3"],
)
def test_a_batch_is_committed_whole_or_not_at_all(
    database: Database,
    folder_ref: FolderRef,
    uid_validity: int | None,
    refused: list[LeftOnServer],
    table: str,
) -> None:
    """Postgres has no space left in the middle: what was written of it would come twice, or be
    known and in no quarantine."""
    where = FolderRef(folder_ref.connection_id, folder_ref.folder, uid_validity)
    batch = Batch(lease(database, "me"), where, [message(1)], refused)
    with database.transaction() as session:
        session.execute(
            "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        session.execute(
            f"CREATE TRIGGER no_space BEFORE INSERT ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION no_space()".encode()
        )
    with pytest.raises(DatabaseCannotWrite):
        database.perform(
            lambda session: ledger.commit_batches(session, [batch]),
            single=ledger.is_one_statement(batch),
        )
    for written in ("message", "outbox", "settlement", "known_uid"):
        assert count(database, written) == 0, written
