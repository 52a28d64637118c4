"""Few mails are committed by one statement: in a transaction of its own each step is a round trip.

A mail that comes alone would pay for all of them. From some thirty mails on COPY costs no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from shared.mail import search_terms
from shared.mail.summary import findings_to_json
from shared.messages import NewMessage
from shared.storage.folder_ref import FolderRef
from shared.storage.header_digests import short
from shared.storage.pool import Session
from shared.storage.queries import Queries

_LEDGER: Final = Queries("ledger")
#: What the statements for few mails and for many have in common.
PARTS: Final = {name: _LEDGER[name] for name in ("held", "states", "number", "following", "know")}
_SQL = Queries("single_statement_commit", **PARTS)


def commit(
    session: Session,
    begun: Mapping[str, Any],
    mails: Iterable[tuple[FolderRef, NewMessage, int]],
    *,
    batches: int,
) -> set[int]:
    """Records mails of so many `batches` whose lease is held; returns their connections.

    `begun`: the parameters of `begin_batches`, and `grace`. Of each mail also how many of its
    connection come behind it: so numbers rise as they would by COPY.
    """
    described = [_described(*mail) for mail in mails]
    values = {**begun, "mails": orjson.dumps(described).decode()}
    statement = _SQL.of("commit", batches)
    return {row[0] for row in session.execute(statement, values)}


def _described(folder_ref: FolderRef, message: NewMessage, before_last: int) -> dict[str, Any]:
    header = message.headers
    return {
        "connection_id": folder_ref.connection_id,
        "before_last": before_last,
        "folder": folder_ref.folder,
        "uid_validity": folder_ref.uid_validity,
        "correlation_id": message.correlation_id,
        "id": message.id,
        "native_key": message.native_key,
        "size": message.size,
        "sha256": "\\x" + message.sha256.hex(),
        "raw_key": message.raw.key,
        "raw_offset": message.raw.offset,
        "message_id": header.message_id,
        "sender": header.sender,
        "recipients": header.to,
        "cc": header.cc,
        "subject": header.subject,
        "sent_at": header.date and str(header.date),
        "arrived_at": message.arrived_at and str(message.arrived_at),
        "sender_name": header.sender_name,
        "recipient_names": header.to_names if any(header.to_names) else (),
        "cc_names": header.cc_names if any(header.cc_names) else (),
        "findings": findings_to_json(header.findings) if header.findings else None,
        "provider_thread": message.thread,
        "labels": message.labels,
        "terms": search_terms.numbers(search_terms.terms_of(header)),
        "digest": "\\x" + short(message.header_digest).hex(),
        "gmail_id": message.gmail_id,
    }
