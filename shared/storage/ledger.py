"""The ledger: one row a mail, committed before anything changes on its server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg.types.json import Jsonb

from shared.clock import new_id
from shared.connections import Failure
from shared.errors import LeaseLost
from shared.mail import search_terms
from shared.mail.summary import MailHeaders, findings_to_json
from shared.messages import Key, NewMessage
from shared.storage import key_contents, known_sets, quarantine, single_statement_commit
from shared.storage.arrays import array, octets_array, text_array
from shared.storage.folder_ref import FolderRef, columns_of_all
from shared.storage.header_digests import short
from shared.storage.leases import Lease
from shared.storage.pool import Session, wait_briefly
from shared.storage.queries import Queries

_SQL = Queries("ledger", **single_statement_commit.PARTS)
#: Mails that are committed by one statement, at most: so many cost as much by COPY.
FEW: Final = 32
#: Seconds until the scheduler sends a decrypt job again for a mail that is not published.
RESEND_GRACE = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOnServer:
    """A mail that was not downloaded and shall not be tried again by itself."""

    key: Key
    code: str
    reason: str
    size: int
    #: What its header says, where that could be had without the mail.
    headers: MailHeaders = field(default_factory=MailHeaders)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one fetch commits: mails whose octets are durable, and refused ones."""

    lease: Lease
    folder_ref: FolderRef
    messages: Sequence[NewMessage]
    refused: Sequence[LeftOnServer] = ()


def commit_batches(session: Session, batches: Sequence[Batch]) -> list[bool]:
    """Records batches of several connections; what was refused goes to quarantine.

    All or nothing: the mails, the work that follows from them (to publish, to settle) and the
    knowledge that they were had. Whose mailbox somebody took over is left out, and is told False.
    Of several, none waits for a locked row for long (`Contended`: then each is to be tried alone).
    The leases are of one owner.
    """
    if len(batches) > 1:
        wait_briefly(session)
    ours = _commit_few(session, batches) if _are_few(batches) else _commit_many(session, batches)
    for batch in batches:
        folder_ref = batch.folder_ref
        if folder_ref.connection_id not in ours:
            continue
        keys: list[Key] = [item.key for item in batch.refused]
        if folder_ref.uid_validity is None:
            contents = {message.native_key: message.header_digest for message in batch.messages}
            key_contents.add_contents(session, folder_ref, contents)
        if keys:
            known_sets.add_known(
                session, folder_ref.connection_id, folder_ref.folder, folder_ref.uid_validity, keys
            )
        for item in batch.refused:
            _quarantine(session, folder_ref, item)
    return [batch.folder_ref.connection_id in ours for batch in batches]


def is_one_statement(batch: Batch) -> bool:
    """Whether `commit_batches` needs no transaction around what it does for this one."""
    return _are_few([batch]) and not batch.refused and batch.folder_ref.uid_validity is not None


def _are_few(batches: Sequence[Batch]) -> bool:
    return 0 < sum(len(batch.messages) for batch in batches) <= FEW


def _commit_few(session: Session, batches: Sequence[Batch]) -> set[int]:
    """By one statement; returns the connections whose lease is held."""
    mails = [
        (b.folder_ref, m, len(b.messages) - n) for b in batches for n, m in enumerate(b.messages, 1)
    ]
    return single_statement_commit.commit(session, _begun(batches), mails, batches=len(batches))


def _commit_many(session: Session, batches: Sequence[Batch]) -> set[int]:
    """The same by COPY."""
    rows = session.execute(_SQL["begin_batches"], _begun(batches)).fetchall()
    last = {connection_id: sequence for connection_id, sequence, _ in rows}
    held = [batch for batch in batches if batch.folder_ref.connection_id in last]
    if any(batch.messages for batch in held):
        _copy(session, held, last, str(rows[0][2]))
        _record(session, held)
    return set(last)


def _begun(batches: Sequence[Batch]) -> dict[str, Any]:
    return {
        "grace": RESEND_GRACE,
        "owner": batches[0].lease.owner,
        "mailboxes": text_array(batch.lease.mailbox for batch in batches),
        "fences": array(str(batch.lease.fence) for batch in batches),
        "connections": array(str(batch.folder_ref.connection_id) for batch in batches),
        "counts": array(str(len(batch.messages)) for batch in batches),
    }


def commit_batch(
    session: Session,
    lease: Lease,
    folder_ref: FolderRef,
    messages: Sequence[NewMessage],
    refused: Sequence[LeftOnServer] = (),
    only_for: Mapping[int, tuple[Sequence[int], Sequence[int]]] | None = None,
) -> None:
    """The batch of one connection, as `commit_batches` records it.

    `only_for` names the handlers (ids) that mails are for and those that had them, by UID, where
    some had them under another label. Raises LeaseLost where somebody took the mailbox over, or
    deleted the connection.
    """
    (is_held,) = commit_batches(session, [Batch(lease, folder_ref, messages, refused)])
    if not is_held:
        raise LeaseLost(f"Another fetcher has taken over {lease.mailbox}, or it was deleted.")
    for message in messages if only_for else ():
        limited = only_for.get(int(message.native_key)) if only_for else None
        if limited is not None:
            handlers, had = limited
            values = {"id": message.id, "handlers": list(handlers), "had": list(had)}
            session.execute(_SQL["restrict_outbox"], values)


def _record(session: Session, batches: Sequence[Batch]) -> None:
    mails = [(batch.folder_ref, message) for batch in batches for message in batch.messages]
    session.execute(
        _SQL["record_batches"],
        {
            "grace": RESEND_GRACE,
            "ids": array(message.id.hex for _, message in mails),
            **columns_of_all(folder_ref for folder_ref, _ in mails),
            "native_keys": text_array(message.native_key for _, message in mails),
            "digests": octets_array(short(message.header_digest) for _, message in mails),
            "gmail_ids": array(str(message.gmail_id or "NULL") for _, message in mails),
        },
    )


def _copy(session: Session, batches: Sequence[Batch], last: Mapping[int, int], now: str) -> None:
    """COPY: of many mails an INSERT costs more, on both sides.

    `last` is the number of a connection's last mail; `now` is when the transaction began.
    """
    numbered = [
        (number, batch.folder_ref, message)
        for batch in batches
        for number, message in enumerate(
            batch.messages, last[batch.folder_ref.connection_id] - len(batch.messages) + 1
        )
    ]
    with session.cursor() as cursor, cursor.copy(_SQL["copy_messages"]) as copy:
        for number, folder_ref, message in numbered:
            header = message.headers
            copy.write_row(
                (
                    folder_ref.connection_id,
                    folder_ref.folder,
                    folder_ref.uid_validity,
                    message.correlation_id and message.correlation_id.hex,
                    message.id.hex,
                    message.native_key,
                    number,
                    message.size,
                    "\\x" + message.sha256.hex(),
                    message.raw.key,
                    message.raw.offset,
                    header.message_id,
                    header.sender,
                    text_array(header.to),
                    text_array(header.cc),
                    header.subject,
                    header.date and str(header.date),
                    message.arrived_at and str(message.arrived_at),
                    now,
                    header.sender_name,
                    text_array(header.to_names) if any(header.to_names) else "{}",
                    text_array(header.cc_names) if any(header.cc_names) else "{}",
                    json.dumps(findings_to_json(header.findings)) if header.findings else None,
                    message.thread,
                    text_array(message.labels) if message.labels else "{}",
                    array(map(str, search_terms.numbers(search_terms.terms_of(header)))),
                )
            )


def _quarantine(session: Session, folder_ref: FolderRef, item: LeftOnServer) -> None:
    """Keeps the reason why a mail was left on its server."""
    entry = quarantine.NewEntry(
        id=new_id(),
        native_key=str(item.key),
        code=item.code,
        reason=item.reason,
        size=item.size,
        headers=item.headers,
        **folder_ref.columns(),
    )
    quarantine.add(session, entry)


def record_run(
    session: Session,
    connection_id: int,
    *,
    duration_ms: int,
    found: int,
    downloaded: int,
    octets: int,
    error: Failure,
) -> None:
    """One line of a connection's history, for a run that failed."""
    session.execute(
        _SQL["insert_run"],
        {
            "id": new_id(),
            "connection_id": connection_id,
            "duration_ms": duration_ms,
            "found": found,
            "downloaded": downloaded,
            "bytes": octets,
            "error": Jsonb(error.to_json()),
        },
    )


@dataclass(frozen=True, slots=True)
class NotedRun:
    """A run that came to a good end, for its connection's history."""

    connection_id: int
    duration_ms: int
    found: int
    downloaded: int
    octets: int


def note_run(session: Session, run: NotedRun) -> None:
    """A line of its connection's history."""
    session.execute(_SQL["insert_runs"], noted_values([run]))


def noted_values(runs: Sequence[NotedRun]) -> dict[str, str]:
    """The parameters of the statement for such lines."""
    return {
        "runs": array(new_id().hex for _ in runs),
        "run_connections": array(str(run.connection_id) for run in runs),
        "run_durations": array(str(run.duration_ms) for run in runs),
        "found": array(str(run.found) for run in runs),
        "downloaded": array(str(run.downloaded) for run in runs),
        "octets": array(str(run.octets) for run in runs),
    }
