"""Which mails of an open IMAP folder come into question: asked in one round trip.

What a search leaves out would never come, so it is held to what the folder counts, and to UIDs
that were seen. Where it contradicts them, the flags of all mails decide (`flags`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.connections import Selection
from shared.mailbox.base import MOST_LOOKED_AT, Cursor, Known, MailRef, is_another_folder
from shared.mailbox.errors.throttling import is_throttled
from shared.mailbox.failures import Refused, Unreachable
from shared.mailbox.imap.flags import read_flags
from shared.mailbox.imap.message_attributes import (
    Described,
    fetch_attributes,
    from_on,
    next_ones,
    search_date,
    taking,
)
from shared.mailbox.imap.search import (
    Beside,
    completed,
    found_ahead,
    refusal,
    searches,
    send_ahead,
)
from shared.mailbox.imap.session import ImapSession
from shared.mailbox.imap.status import OpenedFolder
from shared.messages import Key
from shared.quantities import counted

#: Mails that came since the last look, at most, whose sizes are asked for while it is searched
#: which of them are new.
_FEW: Final = 20
_READ: Final = frozenset({b"\\seen", b"\\deleted"})


@dataclass(frozen=True, slots=True)
class Selected:
    """UIDs: those that match the selection, the unread ones, and all where that was looked at.

    `below`: those met by the way whose UIDs say that they were fetched. `left_out`: mails that the
    folder counts and nothing shows; `miscounted`: unread ones that it counts and has not.
    `described`: what is known already of some of them.
    """

    matching: list[int]
    unread: list[int]
    every: list[int] | None
    below: Sequence[int] = ()
    left_out: int = 0
    miscounted: int = 0
    described: Mapping[Key, MailRef] = field(default_factory=dict)

    @property
    def looked_at(self) -> list[int]:
        """All mails, or those that match where not all were looked at."""
        return self.matching if self.every is None else self.every

    def missing_of(self, known: Known) -> set[Key]:
        """Those that were not fetched."""
        listed = {*self.looked_at, *self.matching, *self.unread, *self.below}
        return set(known.missing(sorted(listed)))


def continued(cursor: Cursor | None, status: OpenedFolder) -> Cursor:
    """`cursor` where it still says something about the folder; else an empty one.

    A mail with a UID at or above the one that the next mail is to get was seen before: the folder
    is an earlier state of itself (a restored backup), whose UIDs count anew.
    """
    if cursor is None or cursor.get("uid_validity") != status.uid_validity:
        return {}
    if is_another_folder(cursor, status.cursor):
        return {}
    if status.next_uid is not None and status.next_uid <= int(cursor.get("highest", 0)):
        return {}
    return cursor


class SearchAhead:
    """What `search_folder` will ask of a folder with this `cursor`, sent with what opens it."""

    def __init__(
        self,
        session: ImapSession,
        selection: Selection,
        since: datetime | None,
        cursor: Cursor,
        *,
        everything: bool,
    ) -> None:
        self._session = session
        self.queries = _queries(selection, since, cursor, everything=everything)
        self.described: Described = {}
        following = int(cursor.get("uid_next", 0))
        command = next_ones(session, following, _FEW) if following else None
        self._beside = Beside(command, taking(self.described)) if command else None
        self._tags: list[bytes] = []
        #: What each query found; None where it has to be asked again.
        self.found: list[list[int]] | None = None

    def send(self) -> None:
        self._tags = send_ahead(self._session, self.queries, self._beside)

    def read(self) -> None:
        """Reads the answers, whatever became of the folder."""
        self.found = found_ahead(self._session, self._tags, self._beside)


def _queries(
    selection: Selection, since: datetime | None, before: Cursor, *, everything: bool
) -> list[bytes]:
    highest = int(before.get("highest", 0))
    unread_only = selection is Selection.UNREAD
    all_of_it = everything or (not unread_only and not highest)
    queries = [b"UNSEEN UNDELETED" if unread_only else b"UNSEEN"]
    if not unread_only and not all_of_it:
        queries.append(b"UID %d:*" % (highest + 1))
    if all_of_it:
        queries.append(b"ALL")
    if since is not None:
        # Compared by the day, in a time zone of the server's choice: a day more, checked later.
        queries.append(b"SINCE " + search_date(since.astimezone(UTC) - timedelta(days=1)))
    return queries


def search_folder(
    session: ImapSession,
    status: OpenedFolder,
    selection: Selection,
    since: datetime | None,
    cursor: Cursor | None,
    *,
    everything: bool,
    by_flags: bool = False,
    ahead: SearchAhead | None = None,
) -> Selected:
    """Which mails come into question, in one round trip.

    `everything`: the whole folder is looked at. `by_flags`: where searches leave mails out, the
    flags of all are read; else `left_out` says so. `ahead`: what was asked as it was opened.

    UIDNEXT is no bound of what was had: it may be too high, and mails below it would never come.
    The highest UID that was seen is one (`highest` of the cursor).
    """
    before = continued(cursor, status)
    highest = int(before.get("highest", 0))
    unread_only = selection is Selection.UNREAD
    all_of_it = everything or (not unread_only and not highest)
    if all_of_it:
        check_size(status)
    queries = _queries(selection, since, before, everything=everything)
    counted_unread = (status.unread or 0) - int(before.get("miscounted", 0))
    arrived = status.total - int(before.get("messages", status.total))
    promised = {queries[0]: counted_unread}
    if not unread_only and not all_of_it:
        promised[queries[1]] = arrived
    found = ahead.found if ahead is not None and ahead.queries == queries else None
    described = ahead.described if ahead is not None else {}
    beside, had = None, int(before.get("uid_next", 1))
    if found is None and 0 < int(status.cursor["uid_next"]) - had <= _FEW:
        beside = Beside(from_on(session, had), taking(described))
    answers = searches(session, queries, {} if by_flags else promised, beside, found)
    unread, left_out = answers[0], 0
    every = answers[queries.index(b"ALL")] if all_of_it else None
    searched = len(unread) + len(every or ())
    if every is not None and len(every) < status.most:
        every, left_out = all_there(session, status, every, by_flags=by_flags)
    if unread_only and len(unread) < counted_unread:
        unread, not_named = _unread_ones(session, status, unread, by_flags=by_flags)
        left_out = max(left_out, not_named)
    searches_lie = len(unread) + len(every or ()) > searched
    below: list[int] = []
    if unread_only:
        matching = unread
    elif every is not None:
        matching = every
    else:
        above = [uid for uid in answers[1] if uid > highest]  # `*` matches always
        if len(above) < arrived or (status.total and not answers[1]):
            return search_folder(
                session, status, selection, since, cursor, everything=True, by_flags=by_flags
            )
        matching, below = above, [uid for uid in {*answers[1], *unread} if uid <= highest]
    if since is not None and not searches_lie:
        recent = set(answers[-1])
        if not recent.issuperset(matching):
            recent = set(completed(session, queries[-1], answers[-1]))
        matching = [uid for uid in matching if uid in recent]
        below = [uid for uid in below if uid in recent]
    miscounted = max(0, (status.unread or 0) - len(unread)) if unread_only else 0
    return Selected(matching, unread, every, below, left_out, miscounted, described)


def all_there(
    session: ImapSession, status: OpenedFolder, found: list[int], *, by_flags: bool
) -> tuple[list[int], int]:
    """All mails, where a search for them found fewer than are counted; how many stay unknown."""
    if not by_flags:
        return found, status.most - len(found)
    every = sorted({*found, *_flags(session, status)})
    return every, max(0, status.exists - len(every))


def _unread_ones(
    session: ImapSession, status: OpenedFolder, found: list[int], *, by_flags: bool
) -> tuple[list[int], int]:
    """The unread mails, where a search found fewer than are counted; how many mails stay unknown.

    Some servers count other mails (deleted or recent ones), or those of a moment ago: where the
    flags of all mails agree with the search, the count is wrong.
    """
    if not by_flags:
        return found, (status.unread or 0) - len(found)
    flags = _flags(session, status)
    unread = sorted({*found, *(uid for uid, ones in flags.items() if not _READ & ones)})
    if len(unread) < (status.unread or 0):
        session.stream.transcript.note(
            f"{counted(status.unread or 0, 'unread mail')} counted, {len(unread):,} by their flags"
        )
    return unread, max(0, status.exists - len(flags))


def _flags(session: ImapSession, status: OpenedFolder) -> dict[int, frozenset[bytes]]:
    flags = read_flags(session, status.exists)
    session.stream.transcript.note(
        f"a search left mails out: flags of {counted(len(flags), 'mail')} read"
    )
    return flags


def handled(status: OpenedFolder, found: Selected, before: Cursor | None) -> Cursor:
    """The cursor once all that was found is handled."""
    # Not of those that are only unread: one may have come after the others were looked for.
    highest = max([int(continued(before, status).get("highest", 0)), *found.looked_at])
    cursor = {**status.cursor, "looked": int(time.time()), "highest": highest}
    if found.miscounted:
        cursor["miscounted"] = found.miscounted
    return cursor


def check_size(status: OpenedFolder) -> None:
    """Raises Refused where all mails of a folder are to be looked at, and are too many for that."""
    if status.most > MOST_LOOKED_AT:
        raise Refused(
            f"The folder has {counted(status.most, 'mail')}; at most {MOST_LOOKED_AT:,} are looked "
            "at together.",
            step="list",
            code="folder-too-large",
            hint="Choose to take unread mails, from everything or from a date, which looks at no "
            "others; or move old mails to other folders.",
        )


def not_listed(status: OpenedFolder, missing: int) -> Unreachable:
    """The error for mails that a server counts and does not name."""
    return Unreachable(
        f"The mail server counts {counted(status.exists, 'mail')} in this folder and does not name "
        f"{missing:,} of them: neither a search nor their flags show these.",
        step="list",
        code="mails-not-listed",
        hint="The others are fetched, and it is tried again by itself. If it stays, the folder is "
        "damaged on the server: ask those who run it to rebuild its index (Dovecot: doveadm "
        "force-resync, Cyrus: reconstruct).",
    )


def arrived_since(session: ImapSession, uids: list[int], since: datetime) -> list[int]:
    """Those of `uids` that arrived at `since` or later, to the second."""
    if not uids:
        return uids
    later = since.astimezone(UTC) + timedelta(days=2)
    sure = set(searches(session, [b"SINCE " + search_date(later)])[0])
    doubtful = [uid for uid in uids if uid not in sure]
    refs, refused = fetch_attributes(session, doubtful) if doubtful else ([], None)
    if refused is not None and is_throttled(f"[{refused.code}] {refused.text}"):
        raise refusal(refused, "list")  # those of before would be taken
    sure |= {int(ref.key) for ref in refs if ref.arrived is None or ref.arrived >= since}
    return [uid for uid in uids if uid in sure]
