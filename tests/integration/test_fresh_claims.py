"""A mail that comes alone is claimed with the handlers that get it, and nothing is asked again.

Only where nobody began to publish it: what was recorded of it meanwhile could not be seen.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from services.decryptor.choosing_handlers import Standing, standing_of
from shared.handlers import Handler
from shared.rules.ruleset import read_rules
from shared.storage import deliveries, handlers, ledger, outbox
from shared.storage.folder_ref import FolderRef
from shared.storage.outbox import Release
from shared.storage.outbox_claims import Claimed
from shared.storage.pool import Database, Session
from tests.integration.queueing.conftest import eventually
from tests.integration.rows import add_connection
from tests.integration.test_ledger import lease, message

TOKEN = uuid.uuid4()
OTHER = uuid.uuid4()


@pytest.fixture
def mail_id(database: Database, folder_ref: FolderRef) -> uuid.UUID:
    """A mail that was just committed, and `archive`, a handler that takes it."""
    held, one = lease(database, "a"), message(1)
    with database.transaction() as session:
        handlers.insert(session, Handler(name="archive"))
        ledger.commit_batch(session, held, folder_ref, [one])
    return one.id


def claimed(database: Database, *ids: uuid.UUID, token: uuid.UUID = TOKEN) -> Claimed:
    with database.autocommit() as session:
        return outbox.claim(session, ids, token, 60)[0]


def asked(database: Database, mail: Claimed) -> Standing:
    return standing_of(database, [mail._replace(fresh=None)], TOKEN)


def test_a_claim_says_of_the_handlers_what_would_be_asked(
    database: Database, folder_ref: FolderRef, mail_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as session:
        theirs = (add_connection(session, "theirs"),)
        ours = (folder_ref.connection_id,)
        handlers.insert(session, Handler(name="disabled", enabled=False))
        handlers.insert(session, Handler(name="theirs", connection_ids=theirs))
        chosen = handlers.insert(
            session,
            Handler(
                name="chosen",
                connection_ids=ours,
                rules=read_rules({"accept": [{"subject": 'a "b" é'}]}),
                group="desk",
                position=3,
            ),
        )
        handlers.write_signing_keys(session, chosen, bytes(range(256)), b"\x00former")
    mail = claimed(database, mail_id)
    wanted = asked(database, mail)
    monkeypatch.setattr(deliveries, "recorded", None)
    assert mail.fresh is not None
    at_once = mail._replace(fresh=mail.fresh._replace(until=math.inf))
    known = standing_of(database, [at_once], TOKEN)
    assert [one.name for one in known.targets] == ["archive", "chosen"]
    assert known.targets == [replace(one, connections=None) for one in wanted.candidates(mail)]
    assert known.candidates(mail) == known.targets
    assert (known.mine, known.is_asked) == ({mail_id}, True) == (wanted.mine, wanted.is_asked)


def _release(database: Database, mail_id: uuid.UUID) -> None:
    claimed(database, mail_id)
    with database.transaction() as session:
        outbox.release(session, TOKEN, [Release(mail_id, "", 0)])


def _deliver(database: Database, mail_id: uuid.UUID) -> None:
    with database.transaction() as session:
        (handler,) = session.execute("SELECT id FROM handler").fetchall()
        deliveries.record_deliveries(session, [(mail_id, handler[0], "1-0")])


def _change(column: str) -> Callable[[Database, uuid.UUID], None]:
    def change(database: Database, mail_id: uuid.UUID) -> None:
        with database.transaction() as session:
            session.execute(f"UPDATE outbox SET {column}".encode())

    return change


#: After each of them it has to be asked what is recorded of a mail.
TOUCHED: dict[str, Callable[[Database, uuid.UUID], None]] = {
    "given back": _release,
    "delivered to somebody, and released from quarantine": _deliver,
    "claimed by a decryptor that died": _change("attempts = 1"),
    "wanted once more by a handler": _change("repeat_handlers = '{1}'"),
    "wanted by another handler": _change("asked_handlers = '{1}'"),
    "had under another label": _change("had_handlers = '{1}'"),
    "decided before": _change("chosen = '{1}'"),
    "for named handlers only": _change("initial = false"),
}


@pytest.mark.promise("I3")
@pytest.mark.parametrize("how", TOUCHED)
def test_what_somebody_began_with_is_asked_for(
    database: Database, mail_id: uuid.UUID, how: str
) -> None:
    TOUCHED[how](database, mail_id)
    assert claimed(database, mail_id).fresh is None


def test_of_several_at_once_and_of_one_that_nobody_takes_it_is_asked(
    database: Database, folder_ref: FolderRef, mail_id: uuid.UUID
) -> None:
    with database.transaction() as session:
        session.execute("UPDATE handler SET enabled = false")
    mail = claimed(database, mail_id)
    assert mail.fresh is None
    assert standing_of(database, [mail], TOKEN).targets == []
    with database.transaction() as session:
        session.execute("UPDATE handler SET enabled = true")
        session.execute("UPDATE outbox SET claimed_until = NULL, attempts = 0")
    assert claimed(database, mail_id, uuid.uuid4()).fresh is None


@pytest.mark.promise("I3")
def test_a_decryptor_that_stalled_asks_whether_the_mail_is_still_its_own(
    database: Database, mail_id: uuid.UUID
) -> None:
    mail = claimed(database, mail_id)
    assert mail.fresh is not None
    late = mail._replace(fresh=mail.fresh._replace(until=mail.fresh.until - 60))
    assert standing_of(database, [late], TOKEN).mine == {mail_id}
    with database.transaction() as session:
        session.execute("UPDATE outbox SET claimed_until = now() - interval '1 second'")
    claimed(database, mail_id, token=OTHER)
    assert standing_of(database, [late], TOKEN).mine == set()


@pytest.mark.promise("I3")
def test_what_a_claim_says_is_as_old_as_its_question(
    database: Database, mail_id: uuid.UUID
) -> None:
    """However long it waited for the row, or its process slept with the answer."""
    found: list[Claimed] = []
    waits = threading.Thread(target=lambda: found.append(claimed(database, mail_id)))
    with database.transaction() as session:
        session.execute("SELECT FROM outbox FOR UPDATE")
        waits.start()
        eventually(lambda: _is_waited_for(database))
        released = time.monotonic()
    waits.join(30)
    assert found[0].fresh is not None
    assert found[0].fresh.until < released + outbox._FRESH_S


@pytest.mark.promise("I3")
def test_who_waited_for_a_mail_asks_who_got_it_meanwhile(
    database: Database, mail_id: uuid.UUID
) -> None:
    """One of two handlers' queues took the event; the holder records that and gives the mail back
    in one transaction, for which the next one waits: it cannot see the delivery in its claim."""
    claimed(database, mail_id, token=OTHER)
    found: list[Claimed] = []
    waits = threading.Thread(target=lambda: found.append(claimed(database, mail_id)))
    with database.transaction() as session:
        assert outbox.hold(session, [mail_id], OTHER) == {mail_id}
        session.execute("UPDATE outbox SET claimed_until = now() - interval '1 second'")
    with database.transaction() as session:
        assert outbox.hold(session, [mail_id], OTHER) == {mail_id}
        ((handler,),) = session.execute("SELECT id FROM handler").fetchall()
        waits.start()
        eventually(lambda: _is_waited_for(database))
        deliveries.record_deliveries(session, [(mail_id, handler, "1-0")])
        outbox.release(session, OTHER, [Release(mail_id, "crm: full", 0)])
    waits.join(30)
    assert (found[0].attempts, found[0].fresh) == (1, None)
    assert set(asked(database, found[0]).delivered_to(found[0])) == {handler}


def test_a_claim_waits_for_no_disk_and_nothing_after_it_does_without(
    database: Database, mail_id: uuid.UUID
) -> None:
    def waits(session: Session) -> bool:
        return session.execute("SHOW synchronous_commit").fetchall() == [("on",)]

    with database.transaction() as session:
        session.execute("SET synchronous_commit = on")  # as it is by default; not of these tests
        session.commit()
        assert outbox.claim(session, [mail_id], TOKEN, 60)
        assert not waits(session)
        session.commit()
        assert waits(session)
        session.execute("RESET synchronous_commit")


def _is_waited_for(database: Database) -> bool:
    with database.transaction() as session:
        rows: list[Any] = session.execute(
            "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        ).fetchall()
    return bool(rows)
