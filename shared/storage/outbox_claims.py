"""Mails that a decryptor has claimed from the outbox: the row, and what is made of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from psycopg.rows import RowMaker

from shared.mail.summary import MailHeaders, findings_from_json
from shared.mail_security import PLAIN
from shared.messages import DecryptOutcome, RawRef

#: That a mail was asked for on purpose once more: {count, time (RFC 3339), reason}.
Redelivery = Mapping[str, Any]


_NOTHING: Final[Mapping[int, Any]] = MappingProxyType({})


class Fresh(NamedTuple):
    """What a claim says of a mail that comes alone and that nobody began to publish.

    `targets`: the handlers that take its connection (`shared.storage.deliveries.targets_in`).
    `until`: on the monotonic clock; from then on it is asked for again.
    """

    targets: str
    until: float


class Claimed(NamedTuple):
    """A mail that this decryptor holds. `outcome` is set where it was opened before."""

    id: uuid.UUID
    connection_id: int
    sequence: int
    size: int
    sha256: bytes
    raw: RawRef
    headers: MailHeaders
    downloaded_at: datetime
    arrived_at: datetime | None
    attempts: int
    initial: bool
    repeat_handlers: frozenset[int]
    outcome: DecryptOutcome | None
    correlation_id: uuid.UUID | None = None
    #: That it was fetched from; empty for the inbox.
    folder: str = ""
    #: Seconds since the store was first seen to lack its octets, None where it does not.
    missing_s: float | None = None
    #: Handlers that shall have it too where their rules take it.
    asked_handlers: frozenset[int] = frozenset()
    #: Those that got it under another label.
    earlier_handlers: frozenset[int] = frozenset()
    #: Whom the rules chose at an earlier attempt; None: nothing was decided yet.
    chosen: frozenset[int] | None = None
    #: Why some of them get it in doubt, by handler.
    doubts: Mapping[int, str] = _NOTHING
    #: What handlers that got it are told of why it comes again, by handler: {count, time, reason}.
    redeliveries: Mapping[int, Redelivery] = _NOTHING
    #: The provider's id of the thread, and its labels, where it has such.
    thread: str = ""
    labels: tuple[str, ...] = ()
    #: The last edit of its connection, None where that is gone.
    connection_version: datetime | None = None
    fresh: Fresh | None = None


class ClaimedRow(NamedTuple):
    """What the statement `claim` of `sql/outbox.sql` returns: its columns, in its order."""

    id: uuid.UUID
    connection_id: int
    sequence: int
    size: int
    sha256: bytes
    raw_key: str
    raw_offset: int
    message_id: str
    sender: str
    recipients: list[str] | None
    cc: list[str] | None
    subject: str
    sent_at: datetime | None
    sender_name: str
    recipient_names: list[str] | None
    cc_names: list[str] | None
    findings: list[Any] | None
    downloaded_at: datetime
    arrived_at: datetime | None
    correlation_id: uuid.UUID | None
    folder: str
    provider_thread: str
    labels: list[str]
    security: Mapping[str, Any] | None
    opened_key: str | None
    opened_offset: int
    opened_size: int
    opened_sha256: bytes | None
    attempts: int
    initial: bool
    repeat_handlers: list[int]
    asked_handlers: list[int]
    had_handlers: list[int]
    chosen: list[int] | None
    doubts: Mapping[str, str] | None
    redeliveries: Mapping[str, Redelivery] | None
    missing_s: float | None
    connection_version: datetime | None
    targets: str | None


def claimed_rows(_cursor: object) -> RowMaker[ClaimedRow]:
    """A row factory of psycopg. `class_row` would build a dictionary for each row, which costs
    ten times as much; that names and columns agree is held by a test."""
    return partial(tuple.__new__, ClaimedRow)


def claimed_of(row: ClaimedRow, fresh_until: float) -> Claimed:
    outcome = None
    if row.security is not None:  # it was opened before
        opened = None
        if row.opened_key is not None:
            opened = RawRef(row.opened_key, row.opened_offset, row.opened_size)
        outcome = DecryptOutcome(row.id, row.security or PLAIN, opened, row.opened_sha256)
    return Claimed(
        id=row.id,
        connection_id=row.connection_id,
        sequence=row.sequence,
        size=row.size,
        sha256=row.sha256,
        raw=RawRef(row.raw_key, row.raw_offset, row.size),
        headers=_headers_of(row),
        downloaded_at=row.downloaded_at,
        arrived_at=row.arrived_at,
        attempts=row.attempts,
        initial=row.initial,
        repeat_handlers=frozenset(row.repeat_handlers),
        outcome=outcome,
        correlation_id=row.correlation_id,
        folder=row.folder,
        missing_s=row.missing_s,
        asked_handlers=frozenset(row.asked_handlers),
        earlier_handlers=frozenset(row.had_handlers),
        chosen=None if row.chosen is None else frozenset(row.chosen),
        doubts=_by_handler(row.doubts),
        redeliveries=_by_handler(row.redeliveries),
        thread=row.provider_thread,
        labels=tuple(row.labels),
        connection_version=row.connection_version,
        fresh=None if row.targets is None else Fresh(row.targets, fresh_until),
    )


def _headers_of(row: ClaimedRow) -> MailHeaders:
    to: Sequence[str] = row.recipients or ()
    cc: Sequence[str] = row.cc or ()
    return MailHeaders(
        row.message_id,
        row.sender,
        tuple(to),
        tuple(cc),
        row.subject,
        row.sent_at,
        row.sender_name,
        tuple(row.recipient_names or [""] * len(to)),
        tuple(row.cc_names or [""] * len(cc)),
        findings_from_json(row.findings) if row.findings else (),
    )


def _by_handler(found: Mapping[str, Any] | None) -> Mapping[int, Any]:
    return {int(handler): one for handler, one in found.items()} if found else _NOTHING
