"""A mail that comes alone is committed, claimed and finished by one statement each.

For an administrator: such mails are most of what many mailboxes give, and what Postgres pays for.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from services.decryptor.known_connections import KnownConnections
from shared.connections import Connection
from shared.messages import NewMessage
from shared.storage import (
    begun_runs,
    connections,
    deliveries,
    ended_runs,
    ledger,
    outbox,
    single_statement_commit,
)
from shared.storage.folder_ref import FolderRef
from shared.storage.ledger import Batch
from shared.storage.pool import Database, Session
from shared.storage.queries import Queries
from tests.integration.test_ledger import lease, message

#: What is written of a mail when it is committed.
TABLES: Mapping[str, str] = {
    "message": "id",
    "outbox": "message_id",
    "settlement": "message_id",
    "known_content": "message_id",
    "known_uid": "connection_id",
    "known_key": "digest",
}
STATEMENTS = (
    (single_statement_commit._SQL, "commit"),
    (ended_runs._SQL, "end_runs"),
    (begun_runs._SQL, "announced"),
    (begun_runs._SQL, "due"),
    (outbox._SQL, "claim"),
    (outbox._SQL, "complete"),
    (deliveries._SQL, "standing"),
)
#: Tables that grow with the installation.
LARGE = "message|delivery|outbox|settlement|lease|connection_state|connection|known_uid"


def written(database: Database) -> dict[str, list[object]]:
    """All rows, without the times at which they were written."""
    with database.transaction() as session:
        return {
            table: [
                row[0]
                for row in session.execute(
                    f"SELECT to_jsonb(t) - 'downloaded_at' - 'next_attempt_at' FROM {table} AS t"
                    f" ORDER BY {order}".encode()
                )
            ]
            for table, order in TABLES.items()
        }


def said(key: int) -> NewMessage:
    """A mail with something in each column."""
    plain = message(key)
    return plain._replace(
        headers=plain.headers._replace(
            sender="é@x", subject='a "quoted" \\ \t line', cc=("c@x",), cc_names=("C, D",)
        ),
        gmail_id=None if key % 2 else -key,
        thread=str(key),
        labels=("{odd}", "two, words", ""),
    )


@pytest.mark.parametrize("uid_validity", [100, None], ids=["imap", "pop3"])
def test_few_mails_are_committed_as_many_are(
    database: Database,
    folder_ref: FolderRef,
    uid_validity: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = lease(database, "a")
    where = FolderRef(folder_ref.connection_id, folder_ref.folder, uid_validity)
    batch = Batch(held, where, [said(1), said(2), said(4)])
    found = []
    for few in (0, 32):
        monkeypatch.setattr(ledger, "FEW", few)
        with database.transaction() as session:
            session.execute("UPDATE connection_state SET sequence = 7")
            assert ledger.commit_batches(session, [batch]) == [True]
        found.append(written(database))
        with database.transaction() as session:
            for table in TABLES:
                session.execute(f"DELETE FROM {table}".encode())
    assert found[0]["message"]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", [name for _, name in STATEMENTS])
def test_for_one_no_table_is_read_whole_by_a_plan_that_is_kept(
    database: Database, name: str
) -> None:
    """Made while the ledger of the day is empty, such a plan is used when it has thousands."""
    queries = next(queries for queries, one in STATEMENTS if one == name)
    with database.transaction() as session:
        plan = kept_plan(session, queries, name)
    whole = re.findall(rf"Seq Scan on ((?:{LARGE})\w*)", plan)
    assert not [table for table in whole if table != "message_history"], plan


def kept_plan(session: Session, queries: Queries, name: str) -> str:
    parameters: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[1] not in parameters:
            parameters.append(match[1])
        return f"${parameters.index(match[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", numbered, queries.of(name, 1)).rstrip(";")
    session.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    session.execute(f"PREPARE asked AS {text}".encode(), prepare=False)
    values = ", ".join("NULL" for _ in parameters)
    lines = session.execute(f"EXPLAIN EXECUTE asked({values})".encode()).fetchall()
    session.execute("DEALLOCATE asked")
    return "\n".join(line for (line,) in lines)


def test_a_connection_is_read_again_once_it_was_edited_and_not_before(
    database: Database, folder_ref: FolderRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, one, known = lease(database, "a"), message(1), KnownConnections()
    with database.transaction() as session:
        ledger.commit_batch(session, held, folder_ref, [one])
    read: list[int] = []
    get_many = connections.get_many

    def counted(session: Session, ids: Sequence[int]) -> list[Connection]:
        read.extend(ids)
        return get_many(session, ids)

    monkeypatch.setattr(connections, "get_many", counted)

    def name() -> str:
        with database.transaction() as session:
            session.execute("UPDATE outbox SET claimed_until = NULL")
            claimed = outbox.claim(session, [one.id], uuid.uuid4(), 60)
            found = known.of(session, claimed)
            return found[folder_ref.connection_id].name if found else ""

    assert (name(), name()) == ("c", "c")
    assert read == [folder_ref.connection_id]
    with database.transaction() as session:
        before = connections.get(session, folder_ref.connection_id)
        connections.update(session, replace(before, name="renamed"))
    assert name() == "renamed"
    with database.transaction() as session:
        session.execute("DELETE FROM connection")
    assert name() == ""
