"""The ledger under Postgres: leases and fences, what is known, what is to be published."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from shared.clock import new_id
from shared.errors import LeaseLost
from shared.handlers import Handler
from shared.mail.summary import MailHeaders
from shared.mail_security import PLAIN
from shared.messages import NewMessage, RawRef
from shared.storage import (
    deliveries,
    delivering_again,
    handlers,
    known_sets,
    leases,
    ledger,
    messages,
    outbox,
    settlements,
)
from shared.storage.folder_ref import FolderRef
from shared.storage.known_sets import KnownMails
from shared.storage.ledger import LeftOnServer
from shared.storage.outbox import Finished
from shared.storage.outbox_claims import ClaimedRow
from shared.storage.pool import Database
from shared.storage.queries import Queries
from shared.storage.settlements import Settled
from tests.rig.leasing import acquire


def message(key: int, content: str = "") -> NewMessage:
    return NewMessage(
        id=new_id(),
        native_key=str(key),
        size=10,
        sha256=sha256(str(key).encode()).digest(),
        raw=RawRef("raw/x", 10 * key, 10),
        headers=MailHeaders(message_id=f"<{key}@x>", to=("a@x", "b@x")),
        header_digest=sha256((content or str(key)).encode()).digest()[:16],
        arrived_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def lease(database: Database, owner: str, ttl: float = 60) -> leases.Lease:
    with database.transaction() as session:
        (taken,) = acquire(session, ["box"], owner, ttl)
        return taken


def count(database: Database, table: str) -> int:
    with database.transaction() as session:
        row = session.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        return int(row[0]) if row else 0


@pytest.mark.promise("I4")
def test_only_one_holds_a_mailbox_and_the_fence_rises(database: Database) -> None:
    first = lease(database, "a", ttl=0)
    second = lease(database, "b")
    assert second.fence > first.fence
    with database.transaction() as session:
        assert acquire(session, ["box"], "c", 60) == []
        leases.release(session, [second])
    assert lease(database, "c").fence > second.fence


@pytest.mark.promise("I4")
def test_a_lease_that_was_given_back_is_not_renewed(database: Database) -> None:
    """Its run ended after somebody looked which are held: nobody could have it for a minute."""
    given_back = lease(database, "a")
    with database.transaction() as session:
        assert leases.release(session, [given_back]) == {given_back}
        assert leases.renew(session, [given_back], 60) == set()
    lease(database, "b")


@pytest.mark.promise("I4")
def test_who_lost_the_lease_commits_nothing(database: Database, folder_ref: FolderRef) -> None:
    stale = lease(database, "sleeper", ttl=0)
    lease(database, "successor")
    with pytest.raises(LeaseLost), database.transaction() as session:
        ledger.commit_batch(session, stale, folder_ref, [message(1)])
    assert (count(database, "message"), count(database, "known_uid")) == (0, 0)
    with database.transaction() as session:
        assert leases.renew(session, [stale], 60) == set()


@pytest.mark.promise("I3", "I9")
def test_what_was_committed_is_known_and_waits_for_both_ends(
    database: Database, folder_ref: FolderRef
) -> None:
    held = lease(database, "a")
    with database.transaction() as session:
        ledger.commit_batch(
            session,
            held,
            folder_ref,
            [message(5), message(6)],
            [LeftOnServer(key=9, code="too-large", reason="big", size=1)],
        )
    mails = KnownMails(database, folder_ref.connection_id, "", 100)
    assert mails.missing([4, 5, 6, 7, 9, 10]) == [4, 7, 10]
    assert KnownMails(database, folder_ref.connection_id, "", 101).missing([5]) == [5]
    with database.transaction() as session:
        assert sorted(settlements.unsettled(session, folder_ref, 10)) == [5, 6]
        settlements.record_settled(session, [Settled(folder_ref, [5], deleted=False)])
        assert settlements.unsettled(session, folder_ref, 10) == [6]
    assert count(database, "outbox") == 2


def test_digests_of_other_keys_vanish_slowly(database: Database, folder_ref: FolderRef) -> None:
    pop = FolderRef(folder_ref.connection_id, "", None)
    with database.transaction() as session:
        known_sets.add_known(session, pop.connection_id, "", None, ["a", "b", "c"])
        known_sets.prune(session, pop.connection_id, "", None, ["a"])
    mails = KnownMails(database, pop.connection_id, "", None)
    assert mails.count() == 1
    assert mails.missing(["a", "b", "d"]) == ["d"], "a server that hides mails for an hour"
    with database.transaction() as session:
        session.execute(
            "UPDATE known_key SET vanished_on = current_date - 40 WHERE vanished_on IS NOT NULL"
        )
        known_sets.prune(session, pop.connection_id, "", None, ["a"])
    assert mails.missing(["a", "b"]) == ["b"]


def test_asking_for_keys_looks_each_up_whatever_plan_is_cached(database: Database) -> None:
    """A listing of 50,000 known mails else takes most of a minute from the eleventh time on."""
    asked = Queries("ledger")["known_keys"]
    for number, name in enumerate(("digests", "connection_id", "folder"), 1):
        asked = asked.replace(f"%({name})s", f"${number}")
    with database.transaction() as session:
        session.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        session.execute(f"PREPARE asked(bytea[], bigint, text) AS {asked}".encode())
        plan = [line for (line,) in session.execute("EXPLAIN EXECUTE asked('{a,b}', 1, '')")]
        session.execute("DEALLOCATE asked")
    conditions = [line for line in plan if "Index Cond" in line]
    assert any("digest = asked.digest" in line for line in conditions), plan


def test_letting_go_of_keys_does_not_compare_each_with_each(
    database: Database, folder_ref: FolderRef
) -> None:
    """A table that just grew by thousands: what Postgres believes about it is long out of date."""
    pop = FolderRef(folder_ref.connection_id, "", None)
    keys = [f"uidl-{number}" for number in range(5000)]
    with database.transaction() as session:
        known_sets.add_known(session, pop.connection_id, "", None, keys)
        known_sets.prune(session, pop.connection_id, "", None, keys[:-1])
        ((vanished,),) = session.execute(
            "SELECT count(*) FROM known_key WHERE vanished_on IS NOT NULL"
        ).fetchall()
        assert vanished == 1
        known_sets.prune(session, pop.connection_id, "", None, keys)
        plan = "\n".join(
            line
            for (line,) in session.execute(
                "EXPLAIN " + Queries("ledger")["prune_keys"],
                {
                    "connection_id": pop.connection_id,
                    "folder": "",
                    "digests": [known_sets.key_digest(key) for key in keys],
                },
            )
        )
    assert "hashed SubPlan" in plan
    assert "Nested Loop" not in plan


@pytest.mark.promise("I9")
def test_each_old_mail_recognises_one_new_one(database: Database, folder_ref: FolderRef) -> None:
    held = lease(database, "a")
    twins = [message(1, "same"), message(2, "same"), message(3, "other")]
    with database.transaction() as session:
        ledger.commit_batch(session, held, folder_ref, twins)
    digest = twins[0].header_digest
    with database.transaction() as session:
        recognised = known_sets.rebind(
            session,
            folder_ref.connection_id,
            "",
            200,
            {11: digest, 12: digest, 13: digest, 14: b"\x00" * 16},
        )
    assert recognised == {11, 12}
    assert KnownMails(database, folder_ref.connection_id, "", 200).missing([11, 12, 13, 14]) == [
        13,
        14,
    ]
    with database.transaction() as session:
        assert settlements.unsettled(session, folder_ref, 10) == [3]
        moved = settlements.unsettled(session, replace(folder_ref, uid_validity=200), 10)
        assert sorted(moved) == [11, 12]


@pytest.mark.promise("I3")
def test_a_mail_is_claimed_by_one_and_published_by_who_still_holds_it(
    database: Database, folder_ref: FolderRef
) -> None:
    held = lease(database, "a")
    mail = message(1)
    with database.transaction() as session:
        handler = handlers.insert(session, Handler(name="archive"))
        ledger.commit_batch(session, held, folder_ref, [mail])
    first, second = uuid.uuid4(), uuid.uuid4()
    with database.transaction() as session:
        (claimed,) = outbox.claim(session, [mail.id], first, 60)
        assert claimed.headers.to == ("a@x", "b@x")
        assert outbox.claim(session, [mail.id], second, 60) == []
    with database.transaction() as session:
        session.execute("UPDATE outbox SET claimed_until = now() - interval '1 s'")
    with database.transaction() as session:
        assert not deliveries.recorded(session, [mail.id], first, []).mine
        assert len(outbox.claim(session, [mail.id], second, 60)) == 1
        deliveries.record_deliveries(session, [(mail.id, handler, "1-0")])
        outbox.finish(session, first, Finished([mail.id], {}))
    assert count(database, "outbox") == 1, "only its holder finishes it"
    with database.transaction() as session:
        outbox.finish(session, second, Finished([mail.id], {}))
    assert count(database, "outbox") == 0


def test_what_is_claimed_is_read_by_the_names_of_its_columns(database: Database) -> None:
    nothing: dict[str, object] = {"ids": [], "claim": uuid.uuid4(), "ttl": 60}
    with database.transaction() as session:
        columns = session.execute(Queries("outbox")["claim"], nothing).description
    assert tuple(column.name for column in columns or ()) == ClaimedRow._fields


@pytest.mark.promise("I2")
def test_a_lost_queue_is_refilled_from_its_watermark(
    database: Database, folder_ref: FolderRef
) -> None:
    held = lease(database, "a")
    mails = [message(1), message(2), message(3)]
    with database.transaction() as session:
        handler = handlers.insert(session, Handler(name="archive"))
        ledger.commit_batch(session, held, folder_ref, mails)
        session.execute("DELETE FROM outbox")
    for minute, mail in enumerate(mails):
        with database.transaction() as session:
            deliveries.record_deliveries(session, [(mail.id, handler, "")])
            session.execute(
                "UPDATE delivery SET published_at = make_timestamptz(2026, 1, 1, 0, %s, 0, 'UTC')"
                " WHERE message_id = %s",
                (minute, mail.id),
            )
    with database.transaction() as session:
        again = delivering_again.refill(session, handler, datetime(2026, 1, 1, 0, 1, tzinfo=UTC))
    assert set(again) == {mails[1].id, mails[2].id}
    with database.transaction() as session:
        claimed = outbox.claim(session, again, uuid.uuid4(), 60)
    assert {item.repeat_handlers for item in claimed} == {frozenset({handler})}
    assert not any(item.initial for item in claimed)


def test_what_a_plain_mail_is_takes_no_room_in_its_row(
    database: Database, folder_ref: FolderRef
) -> None:
    """Nearly all are plain: 232 of 817 octets of a row said that of each, word by word."""
    held = lease(database, "a")
    mail, token = message(1), uuid.uuid4()
    with database.transaction() as session:
        handler = handlers.insert(session, Handler(name="archive"))
        ledger.commit_batch(session, held, folder_ref, [mail])
        (fresh,) = outbox.claim(session, [mail.id], token, 60)
        assert fresh.outcome is None, "not looked into yet"
        deliveries.record_deliveries(session, [(mail.id, handler, "1-0")])
        outbox.finish(session, token, Finished([mail.id], {}))
        (kept,) = session.execute("SELECT pg_column_size(security) FROM message").fetchall()
        assert kept[0] < 10
        assert messages.get(session, mail.id).message.security == PLAIN
        delivering_again.refill(session, handler, datetime(2026, 1, 1, tzinfo=UTC))
        (again,) = outbox.claim(session, [mail.id], token, 60)
    assert again.outcome is not None
    assert again.outcome.security == PLAIN
