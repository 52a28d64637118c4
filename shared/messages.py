"""What the ledger knows of a mail, as values: where it came from, where its bytes are, its path."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.mail.summary import MailHeaders

#: Identifies a mail within its folder: IMAP the UID (int), POP3 the UIDL, Graph the immutable id.
Key = int | str


@dataclass(frozen=True, slots=True)
class RawRef:
    """Where bytes lie in the store: `size` octets from `offset` of the object `key`.

    Many small mails share one object, so that one sync makes a whole batch durable.
    """

    key: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """One mail that is durable in the store and about to be committed to the ledger."""

    id: uuid.UUID
    native_key: str
    size: int
    sha256: bytes
    raw: RawRef
    headers: MailHeaders
    header_digest: bytes  # 16 octets: recognises the mail when UIDVALIDITY changes
    arrived_at: datetime | None
    correlation_id: uuid.UUID | None = None
    gmail_id: int | None = None  # X-GM-MSGID (storage.labels), signed
    thread: str = ""  # the provider's: X-GM-THRID, conversationId
    labels: tuple[str, ...] = ()  # X-GM-LABELS, categories


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the decryptor found out about one mail, and where the opened form lies (if any)."""

    id: uuid.UUID
    security: Mapping[str, Any]
    opened: RawRef | None = None
    opened_sha256: bytes | None = None
