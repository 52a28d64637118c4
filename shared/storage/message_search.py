"""Searches the ledger for mails. Reads only."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg import errors as pg
from psycopg.rows import dict_row

from shared.clock import first_id
from shared.errors import InvalidInput
from shared.mail.kinds import MailKind
from shared.storage.messages import HEAD, LoggedMessage, MessageState, logged_message
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("message_search")

#: A search that takes longer is given up, so that it cannot keep Postgres from its work.
_SEARCH_SECONDS: Final = 5
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
    #: Of connections with one of these tags alone: the rights of who asks.
    part: tuple[str, ...] = ()


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
        "part": list(wanted.part) or None,
        "filtered_by": wanted.filtered_by,
        "limit": limit,
    }
    parts: list[LiteralString] = [HEAD, _SQL["in_range"]]
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


def _rows(
    session: Session, parts: Sequence[LiteralString], values: Mapping[str, Any]
) -> list[LoggedMessage]:
    query: LiteralString = "\n".join(parts)
    try:
        with session.transaction(), session.cursor(row_factory=dict_row) as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{_SEARCH_SECONDS}s'")
            return [logged_message(row) for row in cursor.execute(query, values)]
    except pg.QueryCanceled as error:
        raise InvalidInput(
            f"This search was given up after {_SEARCH_SECONDS} seconds.",
            field="q",
            hint="Narrow it: by connection, by time, or with the whole message-id.",
        ) from error


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
