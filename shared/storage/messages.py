"""One mail of the ledger: its state, its path, and where its octets lie. Reads only."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from psycopg.rows import dict_row

from shared.connections import folder_name
from shared.errors import NotFound
from shared.mail.summary import MailHeaders, findings_from_json
from shared.mail_security import PLAIN
from shared.messages import RawRef
from shared.storage import message_paths
from shared.storage.message_paths import Delivered, Past, Stop
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("messages")
#: The statement that gives what `logged_message` reads, up to its conditions.
HEAD: Final = _SQL["messages"]
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
    cc: tuple[str, ...]
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

    @property
    def headers(self) -> MailHeaders:
        """What a search finds it by."""
        return MailHeaders(
            sender=self.sender,
            sender_name=self.sender_name,
            to=self.recipients,
            cc=self.cc,
            subject=self.subject,
        )


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
    headers: MailHeaders  # as the mail came
    handed_out: MailHeaders  # as its event shows them: protected ones in their place, all findings
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


def get(session: Session, message_id: uuid.UUID) -> MessageDetail:
    """Raises NotFound where there is none, or retention has removed it."""
    with session.cursor(row_factory=dict_row) as cursor:
        head = HEAD + "\nWHERE m.id = %(id)s"
        base = cursor.execute(head, {"id": message_id}).fetchone()
        more = cursor.execute(_SQL["detail"], {"id": message_id}).fetchone()
        if base is None or more is None:
            raise NotFound(
                f"There is no mail {message_id}.",
                hint="Retention removes published mails after POSTHOUSE_RETENTION_DAYS.",
            )
        deliveries = tuple(
            Delivered(**row) for row in cursor.execute(_SQL["deliveries"], {"id": message_id})
        )
        history = tuple(Past(**row) for row in cursor.execute(_SQL["history"], {"id": message_id}))
        left_out = tuple(
            NotFor(**row) for row in cursor.execute(_SQL["left_out"], {"id": message_id})
        )
    message = logged_message(base)
    headers = _headers(message, more)
    layers = base["security"] or {}
    shown = MailHeaders.from_json(layers.get("headers", {}), headers)
    inner = findings_from_json(layers.get("findings", ()))
    return MessageDetail(
        message=message,
        headers=headers,
        handed_out=shown._replace(findings=(*headers.findings, *inner)),
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
    """Where the octets lie: the opened form where there is one, unless `original`."""
    with session.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_SQL["raw"], {"id": message_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no mail {message_id}.")
    opened = None if original else _opened(row)
    return opened or RawRef(row["raw_key"], row["raw_offset"], row["size"])


def handler_may_read(session: Session, handler_id: int, message_id: uuid.UUID) -> bool:
    """Whether a mail is one of the handler's own: published to it, or about to be."""
    values = {"id": message_id, "handler_id": handler_id}
    found = session.execute(_SQL["handler_has"], values).fetchone()
    return bool(found and found[0])


def _headers(message: LoggedMessage, more: Mapping[str, Any]) -> MailHeaders:
    return MailHeaders(
        message_id=message.message_id,
        sender=message.sender,
        to=message.recipients,
        cc=message.cc,
        subject=message.subject,
        date=message.sent_at,
        sender_name=message.sender_name,
        to_names=tuple(more["recipient_names"] or [""] * len(message.recipients)),
        cc_names=tuple(more["cc_names"] or [""] * len(message.cc)),
        findings=findings_from_json(more["findings"] or ()),
    )


def logged_message(row: Mapping[str, Any]) -> LoggedMessage:
    """A row of HEAD."""
    return LoggedMessage(
        **{
            **row,
            "connection": row["connection"] or "",
            "folder": folder_name(row["folder"]),
            "recipients": tuple(row["recipients"]),
            "cc": tuple(row["cc"]),
            "security": _without_content(row["security"]),
            "state": MessageState(row["state"]),
        }
    )


def _without_content(security: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Without what was read inside the encryption: that is for those who may read mails."""
    if security is None:
        return None
    whole = {**PLAIN, **security}
    return {name: value for name, value in whole.items() if name not in _CONTENT}


def _opened(row: Mapping[str, Any]) -> RawRef | None:
    if row["opened_key"] is None:
        return None
    return RawRef(row["opened_key"], row["opened_offset"], row["opened_size"])
