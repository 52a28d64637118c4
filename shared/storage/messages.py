"""Looking things up in the ledger: mails, their path, their bytes' place, and runs. Reads only."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, LiteralString

from psycopg import errors as pg
from psycopg.rows import dict_row

from shared.clock import first_id, time_of, utc_now
from shared.connections import Failure
from shared.errors import InvalidInput, NotFound
from shared.mail.kinds import MailKind
from shared.mail.summary import MailHeaders, findings_from_json
from shared.messages import RawRef
from shared.storage import message_paths
from shared.storage.message_paths import Delivered, Past, Stop
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("messages")
#: A search that takes longer is given up, so that it cannot keep Postgres from its work.
_SEARCH_SECONDS: Final = 5
_CONTENT: Final = frozenset(("headers", "findings"))


class MessageState(StrEnum):
    """Where a mail is; `undecrypted` may be any of the others as well, and is only searched for.

    From `published` on it is the handlers' to say, of several the first of these: a dead letter, in
    hand, not acknowledged, rejected (and discarded), acknowledged by each.
    """

    WAITING = "waiting"
    RETRYING = "retrying"
    DEAD_LETTER = "dead-letter"
    IN_HAND = "in-hand"
    PUBLISHED = "published"
    REJECTED = "rejected"
    ACKNOWLEDGED = "acknowledged"
    QUARANTINED = "quarantined"
    DROPPED = "dropped"
    #: The rules of every handler left it out.
    UNWANTED = "unwanted"
    UNDECRYPTED = "undecrypted"


#: (a delivery with one of these, and none with one of those)
_FATES: Final[Mapping[MessageState | None, tuple[list[str], list[str]]]] = {
    MessageState.DEAD_LETTER: (["dead-letter"], []),
    MessageState.IN_HAND: (["in-hand"], ["dead-letter"]),
    MessageState.REJECTED: (
        ["rejected"],
        ["dead-letter", "in-hand", "waiting", "unknown"],
    ),
    MessageState.ACKNOWLEDGED: (
        ["acknowledged"],
        ["dead-letter", "in-hand", "waiting", "unknown", "rejected"],
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """What a search looks for; what is empty does not narrow it.

    `q` is a message-id, or a part of sender, recipients, subject or message-id. `since` and
    `until` bound the time of the download. `filtered_by` is a handler that it was not for.
    `kind`, `has_attachment` and `thread` (as in `data.mail` of its event) are known once the event
    is published.
    """

    q: str = ""
    connection_id: int | None = None
    state: MessageState | None = None
    since: datetime | None = None
    until: datetime | None = None
    filtered_by: int | None = None
    kind: MailKind | None = None
    has_attachment: bool | None = None
    thread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedMessage:
    """One mail as the list shows it. `connection` is empty where that is gone.

    `kind` and `thread` are empty, and `attachments` None, as long as they are not known.
    """

    id: uuid.UUID
    connection_id: int
    connection: str
    folder: str
    sequence: int
    size: int
    message_id: str
    sender: str
    sender_name: str
    recipients: tuple[str, ...]
    subject: str
    sent_at: datetime | None
    arrived_at: datetime | None
    downloaded_at: datetime
    settled_at: datetime | None
    settled_as: str
    opened_at: datetime | None
    published_at: datetime | None
    security: Mapping[str, Any] | None
    kind: str
    attachments: int | None
    thread: str
    state: MessageState


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFor:
    """A handler that does not get a mail, and why; `decided_by` its rules or its group."""

    handler_id: int
    handler: str
    decided_at: datetime
    decided_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDetail:
    """One mail with everything that is known of it."""

    message: LoggedMessage
    cc: tuple[str, ...]
    headers: MailHeaders  # as the mail came
    handed_out: MailHeaders  # as its event shows them: protected ones in their place
    uid_validity: int | None
    native_key: str
    sha256: bytes
    raw: RawRef
    opened: RawRef | None
    opened_sha256: bytes | None
    attempts: int
    next_attempt_at: datetime | None
    error: str | None
    quarantine: Mapping[str, Any] | None
    deliveries: tuple[Delivered, ...]
    left_out: tuple[NotFor, ...] = ()
    history: tuple[Past, ...] = ()

    @property
    def path(self) -> list[Stop]:
        """Where the mail was, in the order of time, and what became of it."""
        message = self.message
        stops: list[Stop] = []
        if message.arrived_at:
            stops.append(Stop(message.arrived_at, "arrived", "Arrived in the mailbox"))
        stops.append(
            Stop(
                message.downloaded_at,
                "downloaded",
                f"Downloaded by {message.connection or 'a connection that is gone'}",
                {"connection_id": message.connection_id, "folder": message.folder},
            )
        )
        if message.settled_at:
            stops.append(message_paths.settled(message.settled_at, message.settled_as))
        if message.opened_at:
            stops.append(message_paths.opened(message.opened_at, message.security or {}))
        stops += [message_paths.past(one) for one in self.history]
        for delivery in self.deliveries:
            stops += message_paths.published(delivery)
        for one in self.left_out:
            # That a mail is a plain one is recorded later than what was decided.
            at = max(one.decided_at, message.opened_at or one.decided_at)
            stops.append(
                message_paths.not_for(at, one.handler_id, one.handler, one.decided_by, one.reason)
            )
        if self.quarantine:
            stops.append(
                Stop(
                    self.quarantine["at"],
                    "quarantined",
                    f"Put into quarantine: {self.quarantine['reason']}",
                    {"code": self.quarantine["code"]},
                )
            )
        return message_paths.in_order(stops)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run that found something or failed. `bytes` are octets of raw mail."""

    id: uuid.UUID
    duration_ms: int
    found: int
    downloaded: int
    bytes: int
    error: Failure | None

    @property
    def started_at(self) -> datetime:
        return time_of(self.id)


@dataclass(frozen=True, slots=True)
class Day:
    """What the runs of one day (UTC) brought."""

    day: date
    mails: int
    bytes: int
    failures: int


def search(
    session: Session,
    wanted: MessageFilter,
    *,
    before: uuid.UUID | None = None,
    limit: int = 50,
) -> list[LoggedMessage]:
    """Newest first; `before` continues after the last of the page before.

    Raises InvalidInput where the search would take too long.
    """
    values: dict[str, Any] = {
        "before": before,
        "since": first_id(wanted.since) if wanted.since else None,
        "until": first_id(wanted.until) if wanted.until else None,
        "connection_id": wanted.connection_id,
        "filtered_by": wanted.filtered_by,
        "limit": limit,
    }
    parts: list[LiteralString] = [_SQL["messages"], _SQL["in_range"]]
    if wanted.state in _FATES:
        values["fates"], values["not_fates"] = _FATES[wanted.state]
        parts += [_SQL["handed_over"], _SQL["has_fate"], _SQL["has_no_fate"]]
    elif wanted.state is MessageState.PUBLISHED:
        values["not_fates"] = ["dead-letter", "in-hand"]
        parts += [_SQL["handed_over"], _SQL["has_no_fate"], _SQL["waits"]]
    elif wanted.state:
        parts.append(_SQL[wanted.state.value])
    if wanted.filtered_by is not None:
        parts.append(_SQL["filtered_by"])
    if wanted.kind is not None:
        parts.append(_SQL["of_a_person" if wanted.kind is MailKind.PERSON else "of_kind"])
        values["kind"] = wanted.kind.value
    if wanted.has_attachment is not None:
        parts.append(_SQL["with_files" if wanted.has_attachment else "without_files"])
    if thread := wanted.thread.strip():
        parts.append(_SQL["in_thread"])
        values["threads"] = _spellings(thread)
    text = wanted.q.strip()
    if text and not before:
        # Looking up an exact message-id costs nothing, and is what people mostly have.
        exact = {**values, "message_ids": _spellings(text)}
        found = _rows(session, [*parts, _SQL["with_message_id"], _SQL["newest"]], exact)
        if found:
            return found
    if text:
        parts.append(_SQL["with_ascii" if text.isascii() else "with_text"])
        values["pattern"] = _like(text.lower()) if text.isascii() else _pattern(text)
    return _rows(session, [*parts, _SQL["newest"]], values)


def get(session: Session, message_id: uuid.UUID) -> MessageDetail:
    """Raises NotFound where there is none, or retention has removed it."""
    with session.cursor(row_factory=dict_row) as cursor:
        head = _SQL["messages"] + "\nWHERE m.id = %(id)s"
        base = cursor.execute(head, {"id": message_id}).fetchone()
        more = cursor.execute(_SQL["detail"], {"id": message_id}).fetchone()
        if base is None or more is None:
            raise NotFound(
                f"There is no mail {message_id}.",
                hint="Retention removes published mails after RETENTION_DAYS.",
            )
        deliveries = tuple(
            Delivered(**row) for row in cursor.execute(_SQL["deliveries"], {"id": message_id})
        )
        history = tuple(Past(**row) for row in cursor.execute(_SQL["history"], {"id": message_id}))
        left_out = tuple(
            NotFor(**row) for row in cursor.execute(_SQL["left_out"], {"id": message_id})
        )
    message = _message(base)
    headers = _headers(message, more)
    inner = (base["security"] or {}).get("headers", {})
    return MessageDetail(
        message=message,
        cc=tuple(more["cc"]),
        headers=headers,
        handed_out=MailHeaders.from_json(inner, headers),
        uid_validity=more["uid_validity"],
        native_key=more["native_key"],
        sha256=bytes(more["sha256"]),
        raw=RawRef(more["raw_key"], more["raw_offset"], message.size),
        opened=_opened(more),
        opened_sha256=bytes(more["opened_sha256"]) if more["opened_sha256"] else None,
        attempts=more["attempts"] or 0,
        next_attempt_at=more["next_attempt_at"],
        error=more["error"],
        quarantine={
            "code": more["quarantine_code"],
            "reason": more["quarantine_reason"],
            "at": more["quarantined_at"],
        }
        if more["quarantine_code"]
        else None,
        deliveries=deliveries,
        left_out=left_out,
        history=history,
    )


def raw(session: Session, message_id: uuid.UUID, *, original: bool = False) -> RawRef:
    """Where the bytes lie: the opened form where there is one, unless `original`."""
    with session.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_SQL["raw"], {"id": message_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no mail {message_id}.")
    opened = None if original else _opened(row)
    return opened or RawRef(row["raw_key"], row["raw_offset"], row["size"])


def handler_may_read(session: Session, handler_id: int, message_id: uuid.UUID) -> bool:
    """Whether a mail is one of the handler's own: published to it, or of a connection it takes."""
    row = session.execute(_SQL["raw"], {"id": message_id}).fetchone()
    if row is None:
        return False
    values = {"id": message_id, "handler_id": handler_id, "connection_id": row[0]}
    found = session.execute(_SQL["handler_has"], values).fetchone()
    return bool(found and found[0])


def runs(
    session: Session, connection_id: int, *, before: uuid.UUID | None = None, limit: int = 50
) -> list[Run]:
    """A connection's runs, newest first."""
    values = {"connection_id": connection_id, "before": before, "limit": limit}
    with session.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_SQL["runs"], values).fetchall()
    return [Run(**{**row, "error": Failure.from_json(row["error"])}) for row in rows]


def per_day(session: Session, connection_id: int | None = None, *, days: int = 30) -> list[Day]:
    """Mails a day, today last; days without a mail are there with zeros. None: all connections."""
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    first = today - timedelta(days=days - 1)
    values = {"connection_id": connection_id, "since": first_id(first)}
    rows = session.execute(_SQL["per_day"], values)
    found = {row[0]: Day(_day(row[0]), int(row[1]), int(row[2]), int(row[3])) for row in rows}
    start = int(first.timestamp()) // 86_400
    return [found.get(n, Day(_day(n), 0, 0, 0)) for n in range(start, start + days)]


def _day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=number)


def _rows(
    session: Session, parts: Sequence[LiteralString], values: Mapping[str, Any]
) -> list[LoggedMessage]:
    query: LiteralString = "\n".join(parts)
    try:
        with session.transaction(), session.cursor(row_factory=dict_row) as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{_SEARCH_SECONDS}s'")
            return [_message(row) for row in cursor.execute(query, values)]
    except pg.QueryCanceled as error:
        raise InvalidInput(
            f"This search was given up after {_SEARCH_SECONDS} seconds.",
            field="q",
            hint="Narrow it: by connection, by time, or with the whole message-id.",
        ) from error


def _headers(message: LoggedMessage, more: Mapping[str, Any]) -> MailHeaders:
    return MailHeaders(
        message_id=message.message_id,
        sender=message.sender,
        to=message.recipients,
        cc=tuple(more["cc"]),
        subject=message.subject,
        date=message.sent_at,
        sender_name=message.sender_name,
        to_names=tuple(more["recipient_names"] or [""] * len(message.recipients)),
        cc_names=tuple(more["cc_names"] or [""] * len(more["cc"])),
        findings=findings_from_json(more["findings"] or ()),
    )


def _message(row: Mapping[str, Any]) -> LoggedMessage:
    return LoggedMessage(
        **{
            **row,
            "connection": row["connection"] or "",
            "recipients": tuple(row["recipients"]),
            "security": _without_content(row["security"]),
            "state": MessageState(row["state"]),
        }
    )


def _without_content(security: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Without what was read inside the encryption: that is for those who may read mails."""
    if security is None:
        return None
    return {name: value for name, value in security.items() if name not in _CONTENT}


def _opened(row: Mapping[str, Any]) -> RawRef | None:
    if row["opened_key"] is None:
        return None
    return RawRef(row["opened_key"], row["opened_offset"], row["opened_size"])


def _spellings(message_id: str) -> list[str]:
    bare = message_id.strip("<>")
    return [bare, f"<{bare}>", message_id]


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _pattern(text: str) -> str:
    """A regular expression of Postgres for `text` in any case.

    It folds ASCII everywhere, other letters only where the database's locale knows them: those
    are written out in each of their cases.
    """
    return "".join(
        re.escape(c)
        if c.isascii()
        else "[" + "".join({v for v in (c, c.lower(), c.upper()) if len(v) == 1}) + "]"
        for c in text
    )
