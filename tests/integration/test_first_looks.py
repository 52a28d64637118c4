"""What is noted when a folder is opened for the first time.

Where a mail comes twice, or a lease is lost, the mail's page and the log say so; nothing here fails
by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.errors import LeaseLost
from shared.storage import folder_identity, known_sets
from shared.storage.folder_identity import FolderHistory
from shared.storage.leases import Lease
from shared.storage.pool import Database, Session
from tests.integration.rows import add_connection
from tests.rig.leasing import acquire

pytestmark = pytest.mark.promise("M1", "I2")
VALIDITY = 7


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with Database(database_url) as database, database.autocommit() as opened:
        yield opened


@pytest.fixture
def connection(session: Session) -> int:
    return add_connection(session)


@pytest.fixture
def lease(session: Session) -> Lease:
    return acquire(session, ["mailbox"], "fetcher", 60)[0]


def noted(session: Session, connection: int) -> tuple[object, ...]:
    row = session.execute(
        "SELECT uid_validity, pruned_at IS NOT NULL FROM connection_state WHERE connection_id = %s",
        (connection,),
    ).fetchone()
    assert row is not None
    return row


def record(session: Session, lease: Lease, connection: int) -> FolderHistory:
    return folder_identity.record_first_uid_validity(session, lease, connection, "INBOX", VALIDITY)


def test_where_nothing_is_known_there_is_nothing_to_prune_for_a_day(
    session: Session, connection: int, lease: Lease
) -> None:
    assert record(session, lease, connection) == FolderHistory(
        knows_earlier=False, nothing_known=True
    )
    assert noted(session, connection) == (VALIDITY, True)


@pytest.mark.parametrize(("validity", "earlier"), [(VALIDITY, False), (VALIDITY - 1, True)])
def test_what_is_known_of_another_folder_is_compared(
    session: Session, connection: int, lease: Lease, validity: int, earlier: bool
) -> None:
    """Known by an earlier folder of the name, or by this one before others were read."""
    known_sets.add_known(session, connection, "INBOX", validity, [1, 2])
    assert record(session, lease, connection) == FolderHistory(earlier, nothing_known=False)
    assert noted(session, connection) == (None if earlier else VALIDITY, False)


def test_nothing_is_noted_for_who_lost_the_lease(
    session: Session, connection: int, lease: Lease
) -> None:
    session.execute("UPDATE lease SET fence = fence + 1")
    with pytest.raises(LeaseLost):
        record(session, lease, connection)
    assert noted(session, connection) == (None, False)
