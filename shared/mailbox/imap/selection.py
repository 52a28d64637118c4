"""Which mails of an open IMAP folder come into question: asked in one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.connections import Selection
from shared.mailbox.base import Cursor, FolderStatus, MailRef, is_another_folder
from shared.mailbox.imap.metadata import (
    Described,
    fetch_metadata,
    from_on,
    search_date,
    taking,
)
from shared.mailbox.imap.search import Beside, completed, searches
from shared.mailbox.imap.session import ImapSession
from shared.messages import Key

#: Mails of one search where answers are found to be cut.
_WINDOW = 500
#: Mails that came since the last look, at most, whose sizes are asked for while it is searched
#: which of them are new.
_FEW = 20


@dataclass(frozen=True, slots=True)
class Selected:
    """UIDs: those that match the selection, the unread ones, and all where that was looked at.
    `described`: what is known already of some of them."""

    matching: list[int]
    unread: list[int]
    every: list[int] | None
    described: Mapping[Key, MailRef] = field(default_factory=dict)


def select(
    session: ImapSession,
    status: FolderStatus,
    selection: Selection,
    since: datetime | None,
    cursor: Cursor | None,
    count_known: bool,
) -> Selected:
    """Which mails come into question, in one round trip."""
    covered = 1
    same = cursor is not None and not is_another_folder(cursor, status.cursor)
    if cursor is not None and same and cursor.get("uid_validity") == status.uid_validity:
        covered = int(cursor.get("uid_next", 1))
    unread_only = selection is Selection.UNREAD
    all_of_it = count_known or (not unread_only and covered <= 1)
    queries = [b"UNSEEN UNDELETED" if unread_only else b"UNSEEN"]
    if not unread_only and not all_of_it:
        queries.append(b"UID %d:*" % covered)
    if all_of_it:
        queries.append(b"ALL")
    if since is not None:
        # Compared by the day, in a time zone of the server's choice: a day more, checked later.
        queries.append(b"SINCE " + search_date(since.astimezone(UTC) - timedelta(days=1)))
    promised = {queries[0]: status.unread or 0}
    if len(queries) > 1 and not all_of_it and not unread_only and cursor is not None:
        promised[queries[1]] = status.total - int(cursor.get("messages", status.total))
    described: Described = {}
    beside = None
    if 0 < int(status.cursor["uid_next"]) - covered <= _FEW:
        beside = Beside(from_on(session, covered), taking(described))
    answers = searches(session, queries, promised, beside)
    unread = answers[0]
    every = all_there(session, status, answers[queries.index(b"ALL")]) if all_of_it else None
    if unread_only:
        matching = unread
    elif every is not None:
        matching = every
    else:
        matching = [uid for uid in answers[1] if uid >= covered]  # `*` matches always
    if since is not None:
        recent = set(answers[-1])
        if not recent.issuperset(matching):
            recent = set(completed(session, queries[-1], answers[-1]))
        matching = [uid for uid in matching if uid in recent]
    return Selected(matching, unread, every, described)


def all_there(session: ImapSession, status: FolderStatus, found: list[int]) -> list[int]:
    """`found` by a search for ALL, made complete where it is less than the folder has."""
    if len(found) >= status.total:
        return found
    every = set(found)
    step = _WINDOW
    first = 1
    while first <= status.total:
        last = min(first + step - 1, status.total)
        # By sequence numbers: of these there are exactly so many.
        part = set(searches(session, [b"%d:%d" % (first, last)])[0])
        if len(part) < last - first + 1 and step > 1:
            step = max(1, step // 2)  # cut again, or one of them vanished
            continue
        every |= part
        first, step = last + 1, min(_WINDOW, step * 2)
    return sorted(every)


def arrived_since(session: ImapSession, uids: list[int], since: datetime) -> list[int]:
    """Those of `uids` that arrived at `since` or later, to the second."""
    if not uids:
        return uids
    later = since.astimezone(UTC) + timedelta(days=2)
    sure = set(searches(session, [b"SINCE " + search_date(later)])[0])
    doubtful = [uid for uid in uids if uid not in sure]
    refs, _ = fetch_metadata(session, doubtful) if doubtful else ([], None)
    sure |= {int(ref.key) for ref in refs if ref.arrived is None or ref.arrived >= since}
    return [uid for uid in uids if uid in sure]
