"""What the ledger knows of a mail, as values: where it came from, where its octets are, its path.

Named tuples, as each mail makes several: a frozen dataclass sets every field by a call of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from shared.mail.summary import MailHeaders

#: Identifies a mail within its folder: IMAP the UID (int), POP3 the UIDL, Graph the immutable id.
Key = int | str


class RawRef(NamedTuple):
    """Where octets lie in the store: `size` octets from `offset` of the object `key`.

    Many small mails share one object, so that one sync makes a whole batch durable.
    """

    key: str
    offset: int
    size: int


class NewMessage(NamedTuple):
    """One mail that is durable in the store and about to be committed to the ledger."""

    id: uuid.UUID
    native_key: str
    size: int
    sha256: bytes
    raw: RawRef
    headers: MailHeaders
    #: 16 octets (`content_digest`): recognises the mail when UIDVALIDITY or its key changes.
    header_digest: bytes
    arrived_at: datetime | None
    correlation_id: uuid.UUID | None = None
    gmail_id: int | None = None  # X-GM-MSGID (storage.labels), signed
    thread: str = ""  # the provider's: X-GM-THRID, conversationId
    labels: tuple[str, ...] = ()  # X-GM-LABELS, categories


class DecryptOutcome(NamedTuple):
    """What the decryptor found out about one mail, and where the opened form lies (if any)."""

    id: uuid.UUID
    security: Mapping[str, Any]
    opened: RawRef | None = None
    opened_sha256: bytes | None = None
