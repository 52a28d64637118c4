"""A mail is with one decryptor: who comes second, or lost it meanwhile, does nothing to it.

For an administrator: a mail that waits to be published is `waiting` or `retrying` on its page and
counts in the backlog of the overview; one that came twice has both deliveries on its path.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.clock import utc_now
from shared.handlers import Handler
from shared.storage import deliveries, delivering_again, handlers, ledger, outbox
from shared.storage.folder_ref import FolderRef
from shared.storage.outbox import Finished, Release
from shared.storage.pool import Database, Session
from tests.integration.queueing.conftest import eventually
from tests.integration.test_ledger import count, lease, message
from tests.rig.database_locks import waits_for_any_lock

MINE, OTHER, THIRD = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()


class Waiting:
    """A mail that waits to be published, and the one handler that takes it."""

    def __init__(self, database: Database, folder_ref: FolderRef) -> None:
        self.database = database
        mail, held = message(1), lease(database, "a")
        with database.transaction() as session:
            self.handler = handlers.insert(session, Handler(name="archive"))
            ledger.commit_batch(session, held, folder_ref, [mail])
        self.mail = mail.id

    def claim(self, token: uuid.UUID) -> list[uuid.UUID]:
        with self.database.transaction() as session:
            return [found.id for found in outbox.claim(session, [self.mail], token, 60)]

    def complete(self) -> list[uuid.UUID]:
        """Its event was confirmed to whom `MINE` stands for."""
        with self.database.autocommit() as session:
            given = [(self.mail, self.handler, "1-0")]
            return outbox.complete(session, MINE, Finished([self.mail], {}), given)

    def record(self) -> set[uuid.UUID]:
        """The same by several statements, as for a handler that had the mail before."""
        with self.database.transaction() as session:
            held = outbox.hold(session, [self.mail], MINE)
            if held:
                deliveries.record_deliveries(session, [(self.mail, self.handler, "1-0")])
            outbox.finish(session, MINE, Finished([self.mail], {}))
            return held

    def passes_to_another(self) -> None:
        """`MINE` slept for longer than its claim lasts."""
        assert self.claim(MINE) == [self.mail]
        with self.database.transaction() as session:
            session.execute("UPDATE outbox SET claimed_until = now() - interval '1 second'")
        assert self.claim(OTHER) == [self.mail]


@pytest.fixture
def waiting(database: Database, folder_ref: FolderRef) -> Waiting:
    return Waiting(database, folder_ref)


@pytest.mark.promise("I3")
def test_of_two_that_claim_a_mail_at_once_one_has_it(waiting: Waiting) -> None:
    with ThreadPoolExecutor(1) as beside:
        with waiting.database.transaction() as session:
            assert outbox.claim(session, [waiting.mail], MINE, 60)
            second = beside.submit(waiting.claim, OTHER)
            eventually(lambda: waits_for_any_lock(waiting.database))
        assert second.result(30) == []


@pytest.mark.promise("I2")
@pytest.mark.parametrize("way", [Waiting.complete, Waiting.record])
def test_what_is_taken_back_as_it_is_recorded_is_published_once_more(
    waiting: Waiting, way: Callable[[Waiting], object]
) -> None:
    """The handler's queue was lost with the event in it, and whoever refills it was first."""
    waiting.claim(MINE)
    with ThreadPoolExecutor(1) as beside:
        with waiting.database.transaction() as session:
            delivering_again.withdraw(session, waiting.handler, utc_now())
            recording = beside.submit(way, waiting)
            eventually(lambda: waits_for_any_lock(waiting.database))
        assert not recording.result(30)
    assert (count(waiting.database, "outbox"), count(waiting.database, "delivery")) == (1, 0)
    assert waiting.claim(OTHER) == [waiting.mail]


def _gives_back(session: Session, waiting: Waiting) -> None:
    outbox.release(session, MINE, [Release(waiting.mail, "too late", 0)])


def _quarantines(session: Session, waiting: Waiting) -> None:
    outbox.move_to_quarantine(session, MINE, waiting.mail, "cannot-process", "too late")


def _shortens(session: Session, waiting: Waiting) -> None:
    outbox.renew(session, [MINE], [waiting.mail], -60)


def _finishes(session: Session, waiting: Waiting) -> None:
    outbox.finish(session, MINE, Finished([waiting.mail], {}))


@pytest.mark.promise("I3")
@pytest.mark.parametrize("act", [_gives_back, _quarantines, _shortens, _finishes])
def test_who_slept_takes_a_mail_out_of_nobodys_hands(
    waiting: Waiting, act: Callable[[Session, Waiting], None]
) -> None:
    waiting.passes_to_another()
    with waiting.database.transaction() as session:
        act(session, waiting)
    assert count(waiting.database, "quarantine") == 0
    assert waiting.claim(THIRD) == [], "it is published by two"
    with waiting.database.transaction() as session:
        assert outbox.hold(session, [waiting.mail], OTHER) == {waiting.mail}


@pytest.mark.promise("I2")
def test_who_slept_says_of_no_handler_that_it_has_a_mail_once_more(waiting: Waiting) -> None:
    """Its queue was lost and the mail is wanted again: what the sleeper published went with it."""
    waiting.passes_to_another()
    with waiting.database.transaction() as session:
        session.execute("UPDATE outbox SET repeat_handlers = %s", ([waiting.handler],))
        outbox.note_repeated(session, MINE, [(waiting.mail, waiting.handler, 0)])
        found = session.execute("SELECT repeat_handlers FROM outbox").fetchall()
    assert found == [([waiting.handler],)]


@pytest.mark.promise("I2")
def test_a_mail_of_two_lost_queues_is_published_to_both(waiting: Waiting) -> None:
    with waiting.database.transaction() as session:
        second = handlers.insert(session, Handler(name="crm"))
        for handler in (waiting.handler, second):
            deliveries.record_deliveries(session, [(waiting.mail, handler, "")])
        session.execute("DELETE FROM outbox")
    for handler in (waiting.handler, second):
        with waiting.database.transaction() as session:
            delivering_again.refill(session, handler, utc_now().replace(year=2000))
    with waiting.database.transaction() as session:
        (claimed,) = outbox.claim(session, [waiting.mail], MINE, 60)
    assert claimed.repeat_handlers == {waiting.handler, second}


def test_what_the_store_lacks_is_missing_since_it_was_first_looked_for(waiting: Waiting) -> None:
    """After a day somebody has to decide: it must not begin anew with every look."""
    times = []
    for _ in range(2):
        waiting.claim(MINE)
        with waiting.database.transaction() as session:
            outbox.release(session, MINE, [Release(waiting.mail, "", 0, missing=True)])
            times += session.execute("SELECT missing_since FROM outbox").fetchall()
    assert times[0] == times[1] != (None,)
