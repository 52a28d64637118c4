"""Mails that could not be processed: quarantined, listed, released or dropped."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.alerts.mails import MailQuarantined
from shared.errors import NotFound
from shared.mail.summary import MailHeaders
from shared.messages import Key, RawRef
from shared.storage import alerts
from shared.storage.folder_ref import FolderRef
from shared.storage.list_search import contains
from shared.storage.pool import Session, after_commit
from shared.storage.queries import Queries
from shared.telemetry import metrics
from shared.untrusted_text import storable

_SQL = Queries("quarantine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """One mail with the reason. `raw` is None where it was left on the server (over the limit).

    `in_ledger` says whether it was downloaded and committed; then `id` is its message id.
    """

    id: uuid.UUID
    connection_id: int
    connection: str
    folder: str
    native_key: str
    uid_validity: int
    code: str
    reason: str
    size: int
    raw: RawRef | None
    created_at: datetime
    in_ledger: bool
    subject: str
    sender: str
    message_id: str
    sent_at: datetime | None

    @property
    def has_raw(self) -> bool:
        """Whether its octets are here."""
        return self.raw is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """A mail to be quarantined. `id` is its message id where it was downloaded.

    `reason` is a sentence for people; `raw` is None where the mail was left on its server; `work`
    is its row of the outbox, so that what was decided about it stands when it is released.
    """

    id: uuid.UUID
    connection_id: int
    folder: str
    native_key: str
    uid_validity: int
    code: str
    reason: str
    size: int
    raw: RawRef | None = None
    work: dict[str, Any] | None = None
    #: Of its header, where that was had alone.
    headers: MailHeaders = field(default_factory=MailHeaders)


def add(session: Session, entry: NewEntry) -> None:
    """The only way into quarantine: the entry, an alert with the reason, and the count.

    All of it or nothing, with the caller's transaction.
    """
    entry = replace(entry, reason=storable(entry.reason))  # it has words of a server
    row = session.execute(
        _SQL["insert"],
        {
            "id": entry.id,
            "connection_id": entry.connection_id,
            "folder": entry.folder,
            "native_key": entry.native_key,
            "uid_validity": entry.uid_validity,
            "code": entry.code,
            "reason": entry.reason,
            "size": entry.size,
            "raw_key": entry.raw.key if entry.raw else None,
            "raw_offset": entry.raw.offset if entry.raw else None,
            "message_id": entry.headers.message_id,
            "sender": entry.headers.sender,
            "subject": entry.headers.subject,
            "sent_at": entry.headers.date,
            "work": None if entry.work is None else Jsonb(entry.work),
        },
    ).fetchone()
    alert = MailQuarantined(
        name=row[0] if row and row[0] else "(deleted)",
        entry_id=str(entry.id),
        connection_id=entry.connection_id,
        code=entry.code,
        reason=entry.reason,
    )
    alerts.raise_together(session, alert)
    after_commit(session, metrics.QUARANTINED.labels(entry.code).inc)


def entries(
    session: Session,
    *,
    connection_id: int | None = None,
    code: str | None = None,
    q: str = "",
    part: Sequence[str] = (),
    before: uuid.UUID | None = None,
    limit: int = 50,
) -> list[Quarantined]:
    """Newest first; `before` continues after the last of the page before. `q`: a part of subject,
    sender or message-id. `part`: of connections with one of these tags alone."""
    values = {
        "part": list(part) or None,
        "connection_id": connection_id,
        "code": code,
        "pattern": contains(q) if q.strip() else None,
        "before": before,
        "limit": limit,
    }
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["entries"] + "\n" + _SQL["matching"], values)
        return [_entry(row) for row in cursor]


def get(session: Session, entry_id: uuid.UUID) -> Quarantined:
    """Raises NotFound. Locks it until the transaction ends."""
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["entries"] + "\n" + _SQL["of_id"], {"id": entry_id})
        row = cursor.fetchone()
    if row is None:
        raise NotFound(f"There is no mail {entry_id} in quarantine.")
    return _entry(row)


def never_downloaded(
    session: Session,
    connection_id: int,
    folder: str,
    uid_validity: int | None,
    keys: Sequence[Key],
) -> int:
    """How many of `keys` were quarantined without their octets: too large, or not given."""
    values = {
        "connection_id": connection_id,
        "folder": folder,
        "uid_validity": uid_validity or 0,
        "keys": [str(key) for key in keys],
    }
    return len(session.execute(_SQL["never_downloaded"], values).fetchall())


def left_on_server(
    session: Session, folder_ref: FolderRef, keys: Sequence[str]
) -> dict[str, MailHeaders]:
    """What is known of the headers of mails that were quarantined without their octets, by key."""
    values = {**folder_ref.columns(), "keys": list(keys)}
    return {
        key: MailHeaders(message_id=message_id, sender=sender, subject=subject, date=sent_at)
        for key, message_id, sender, subject, sent_at in session.execute(
            _SQL["left_on_server"], values
        )
    }


def count(session: Session, part: Sequence[str] = ()) -> int:
    """All; with `part`, those of connections with one of these tags."""
    row = session.execute(_SQL["count"], {"part": list(part) or None}).fetchone()
    return int(row[0]) if row else 0


def publish_anew(session: Session, entry_id: uuid.UUID) -> None:
    """Sends a downloaded mail on its way again, to those that it was for, and takes it out."""
    session.execute(_SQL["publish_anew"], {"id": entry_id})
    drop(session, entry_id, what="released")


def drop(session: Session, entry_id: uuid.UUID, *, what: str = "dropped") -> None:
    """Takes it out of quarantine for good; it stays known, so it never comes back by itself."""
    session.execute(_SQL["keep"], {"id": entry_id, "what": what})
    session.execute(_SQL["delete"], {"id": entry_id})
    # Quarantined once more, it is told anew.
    gone = MailQuarantined(name="", entry_id=str(entry_id), connection_id=0, code="", reason="")
    alerts.end_episode(session, gone.dedupe)


def _entry(row: dict[str, Any]) -> Quarantined:
    key, offset = row.pop("raw_key"), row.pop("raw_offset")
    raw = RawRef(key, offset or 0, row["size"]) if key else None
    return Quarantined(**row, raw=raw)
