"""An IMAP mailbox (RFC 3501 and 9051, with ESEARCH, CONDSTORE, UIDPLUS, UNSELECT where offered).

Folders are opened read-only (EXAMINE), so the server itself guards that looking changes nothing;
`settle` alone selects read-write. The session is never ended with CLOSE: that would expunge.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.connections import AfterDownload, Connection, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import (
    Capabilities,
    Cursor,
    Folder,
    FolderStatus,
    Known,
    Listing,
    MailRef,
    Refused,
    SessionLost,
    Sink,
    StepFailed,
    Unreachable,
)
from shared.mailbox.imap_fetch import fetch_bodies, fetch_headers
from shared.mailbox.imap_folders import ImapFolders
from shared.mailbox.imap_metadata import fetch_metadata, search_date
from shared.mailbox.imap_search import refusal, searches
from shared.mailbox.imap_session import ImapSession, Literal, Reply, string
from shared.mailbox.imap_settle import settle
from shared.messages import Key

#: Without CONDSTORE equal counts can hide a swap: look in full this often (seconds).
FULL_LOOK_S = 600
_NUMBERS = re.compile(rb"([A-Z]+) +(\d{1,20})", re.I)
_IN_PARENTHESES = re.compile(rb"\(([^()]*)\) *\Z")


@dataclass(frozen=True, slots=True)
class _Poll:
    """A STATUS under way (its tag is the last), and what it is to be compared with."""

    tags: Sequence[bytes]
    folder: str
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class _Found:
    """UIDs: those that match the selection, the unread ones, and all where that was looked at."""

    matching: list[int]
    unread: list[int]
    every: list[int] | None


class ImapMailbox:
    """A logged-in IMAP session as a Mailbox, and a Pollable."""

    def __init__(self, session: ImapSession, connection: Connection) -> None:
        self._session = session
        self._connection = connection
        self._folders = ImapFolders(session)
        self._selected: bytes | None = None
        self._writable = False
        self._status: FolderStatus | None = None
        self._poll: _Poll | None = None

    # ---- what it is

    @property
    def capabilities(self) -> Capabilities:
        offered = self._session.capabilities
        return Capabilities(
            read_flag=True,
            folders=True,
            exact_delete=self._moves_to_trash or bool({"UIDPLUS", "IMAP4REV2"} & offered),
            push="IDLE" in offered or "IMAP4REV2" in offered,
            names=tuple(sorted(offered)),
        )

    @property
    def server(self) -> str:
        return self._session.greeting

    @property
    def transcript(self) -> Sequence[str]:
        return self._session.wire.transcript.lines

    @property
    def session(self) -> ImapSession:
        """The session underneath, for `idle` alone."""
        return self._session

    @property
    def _moves_to_trash(self) -> bool:
        return {"X-GM-EXT-1", "MOVE"} <= self._session.capabilities

    # ---- folders

    def folders(self) -> list[Folder]:
        with self._step("folder"):
            return [item.folder for item in self._folders.listed()]

    def changed_since(self, folder: str, cursor: Cursor | None) -> FolderStatus | None:
        self.poll_send(folder, cursor)
        return self.poll_receive()

    def poll_send(self, folder: str, cursor: Cursor | None) -> None:
        with self._step("folder"):
            name = self._folders.name_of(folder)
            left = self._leave()
            self._poll = _Poll([*left, self._send_status(name)], folder, cursor)

    def poll_receive(self, *, within: float | None = None) -> FolderStatus | None:
        if self._poll is None:
            raise AssertionError("poll_receive without poll_send")
        poll, self._poll = self._poll, None
        cursor = poll.cursor
        with self._step("folder"), self._session.wire.bounded(within):
            for tag in poll.tags[:-1]:
                self._session.reply(tag)
            status = self._status_of(self._session.reply(poll.tags[-1]), poll.folder)
            self._session.wire.rest()
        return None if cursor is not None and unchanged(cursor, status.cursor) else status

    def open(self, folder: str) -> FolderStatus:
        with self._step("folder"):
            name = self._folders.name_of(folder)
            left = self._leave()
            asked = self._send_status(name)
            examined = self._session.send(b"EXAMINE " + _quoted(name) + self._condstore())
            for tag in left:
                self._session.reply(tag)
            reported, reply = self._session.reply(asked), self._session.reply(examined)
            # Whichever was carried out first: each answer tells by itself what it is about.
            reported.untagged = reply.untagged = [*reported.untagged, *reply.untagged]
            status = self._status_of(reported, folder)
            if not reply.ok:
                raise self._folders.why_not(folder, reply)
            self._selected, self._writable = name, False
            self._same_folder(reply, status)
            self._status = status
            self._session.wire.rest()
            return status

    # ---- what is new

    def list_new(
        self,
        known: Known,
        selection: Selection,
        *,
        since: datetime | None = None,
        limit: int | None = None,
        cursor: Cursor | None = None,
        count_known: bool = False,
    ) -> Listing:
        status = self._opened()
        with self._step("list"):
            found = self._search(status, selection, since, cursor, count_known)
        looked = found.matching if found.every is None else found.every
        missing = set(known.missing(sorted({*looked, *found.matching, *found.unread})))
        with self._step("list"):
            new = [uid for uid in found.matching if uid in missing]
            if since is not None:
                new = self._arrived_since(new, since)
            chosen = new if limit is None else new[:limit]
            refs, refused = fetch_metadata(self._session, chosen) if chosen else ([], None)
            if refused is not None and not refs:
                raise refusal(refused, "list")
            self._session.wire.rest()
        more = len(new) - len(chosen)
        return Listing(
            new=tuple(refs),
            known=sum(1 for uid in looked if uid not in missing),
            reset=sum(1 for uid in found.unread if uid not in missing),
            total=status.total,
            unread=len(found.unread) if status.unread is None else status.unread,
            cursor={**status.cursor, "looked": int(time.time())},
            complete=more == 0 and refused is None,
            more=more,
            listed=found.every,
        )

    def keys(self) -> Sequence[Key]:
        self._opened()
        with self._step("list"):
            found = searches(self._session, [b"ALL"])[0]
            self._session.wire.rest()
            return found

    def cursor_after(
        self, cursor: Cursor, settled: Sequence[MailRef], action: AfterDownload
    ) -> Cursor:
        if not settled:
            return cursor
        after = {key: value for key, value in cursor.items() if key != "modseq"}
        after["unseen"] = cursor["unseen"] - sum(1 for ref in settled if ref.seen is False)
        if action is AfterDownload.DELETE:
            after["messages"] = cursor["messages"] - len(settled)
        return after

    def headers(self, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
        self._opened()
        found = fetch_headers(self._session, refs)
        while True:
            with self._step("list"):
                pair = next(found, None)
            if pair is None:
                return
            yield pair

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        self._opened()
        with self._step("download"):
            fetch_bodies(self._session, refs, sink, limit)

    # ---- what changes the mailbox

    def settle(self, refs: Sequence[MailRef], action: AfterDownload) -> list[MailRef]:
        status = self._opened()
        if not refs:
            return []
        with self._step("settle"):
            trash = self._trash_folder() if action is AfterDownload.DELETE else None
            self._select(status)
            done = settle(self._session, refs, action, trash)
            self._session.wire.rest()
            return done

    # ---- the session itself

    def is_alive(self) -> bool:
        if self._session.wire.broken:
            return False
        try:
            alive = self._session.command(b"NOOP").ok
        except StepFailed:
            return False
        self._session.wire.rest()
        return alive and not self._session.farewell

    def close(self) -> None:
        try:
            if not self._session.wire.broken:
                self._session.wire.socket.settimeout(2)
                self._session.command(b"LOGOUT")
        except PosthouseError:
            pass
        finally:
            self._session.wire.close()

    # ---- inside

    @contextlib.contextmanager
    def _step(self, step: str) -> Iterator[None]:
        """Errors from within carry this step and the protocol log."""
        try:
            yield
        except SessionLost as error:
            told = self._session.lost(error)
            told.step = told.step or step
            told.transcript = self.transcript
            if told is error:
                raise
            raise told from error
        except StepFailed as error:
            error.step = error.step or step
            error.transcript = error.transcript or self.transcript
            raise

    def _opened(self) -> FolderStatus:
        if self._status is None or self._selected is None:
            raise AssertionError("no folder is open")
        return self._status

    def _condstore(self) -> bytes:
        return b" (CONDSTORE)" if "CONDSTORE" in self._session.capabilities else b""

    def _leave(self) -> list[bytes]:
        """Leaves the open folder, as STATUS of it may be stale (RFC 3501 section 6.3.10).

        Returns the tags of what was sent for it and not yet answered.
        """
        self._session.wire.start_clock()
        name, self._selected, self._status = self._selected, None, None
        if name is None:
            return []
        if {"UNSELECT", "IMAP4REV2"} & self._session.capabilities:
            return [self._session.send(b"UNSELECT")]
        reply = self._session.command(b"EXAMINE " + _quoted(name))
        if reply.ok and "READ-ONLY" in reply.codes():
            # Of a folder opened read-only CLOSE expunges nothing (RFC 3501 section 6.4.2).
            return [self._session.send(b"CLOSE")]
        return []

    def _select(self, status: FolderStatus) -> None:
        """Opens the folder for changes; it must still be the one that was looked at."""
        if self._writable or self._selected is None:
            return
        reply = self._session.command(b"SELECT " + _quoted(self._selected) + self._condstore())
        if not reply.ok:
            raise self._folders.why_not(status.folder, reply)
        self._same_folder(reply, status)
        if "READ-ONLY" in reply.codes():
            raise Refused(
                "The folder is read-only for this account: mails can be neither marked nor "
                "deleted.",
                step="settle",
                code="read-only",
                hint="Give the account the right to change flags and to delete in this folder.",
            )
        self._writable = True

    def _same_folder(self, reply: Reply, status: FolderStatus) -> None:
        validity = reply.codes().get("UIDVALIDITY", "")
        if validity.isdigit() and int(validity) != status.uid_validity:
            self._session.wire.broken = True
            raise Unreachable(
                "The folder was re-created while we were at it.",
                step="folder",
                code="uid-validity-changed",
            )

    def _trash_folder(self) -> bytes | None:
        """Where deleted mails go on Gmail; None where they are deleted in place."""
        trash = self._folders.trash() if self._moves_to_trash else None
        return trash if trash != self._selected else None

    def _search(
        self,
        status: FolderStatus,
        selection: Selection,
        since: datetime | None,
        cursor: Cursor | None,
        count_known: bool,
    ) -> _Found:
        """Which mails come into question, in one round trip."""
        covered = 1
        if cursor is not None and cursor.get("uid_validity") == status.uid_validity:
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
        answers = searches(self._session, queries)
        unread = answers[0]
        every = answers[queries.index(b"ALL")] if all_of_it else None
        if unread_only:
            matching = unread
        elif every is not None:
            matching = every
        else:
            matching = [uid for uid in answers[1] if uid >= covered]  # `*` matches always
        if since is not None:
            recent = set(answers[-1])
            matching = [uid for uid in matching if uid in recent]
        return _Found(matching, unread, every)

    def _arrived_since(self, uids: list[int], since: datetime) -> list[int]:
        """Those of `uids` that arrived at `since` or later, to the second."""
        if not uids:
            return uids
        later = since.astimezone(UTC) + timedelta(days=2)
        sure = set(searches(self._session, [b"SINCE " + search_date(later)])[0])
        doubtful = [uid for uid in uids if uid not in sure]
        refs, _ = fetch_metadata(self._session, doubtful) if doubtful else ([], None)
        sure |= {int(ref.key) for ref in refs if ref.arrived is None or ref.arrived >= since}
        return [uid for uid in uids if uid in sure]

    def _send_status(self, name: bytes) -> bytes:
        items = b"MESSAGES UIDNEXT UIDVALIDITY UNSEEN"
        if "CONDSTORE" in self._session.capabilities:
            items += b" HIGHESTMODSEQ"
        return self._session.send(b"STATUS " + _quoted(name) + b" (" + items + b")")

    def _status_of(self, reply: Reply, folder: str) -> FolderStatus:
        if not reply.ok:
            raise self._folders.why_not(folder, reply)
        numbers: dict[bytes, int] = {}
        for line in reply.of(b"STATUS"):
            inside = _IN_PARENTHESES.search(line.rest)
            if inside is not None:
                numbers = {k.upper(): int(v) for k, v in _NUMBERS.findall(inside[1])}
        validity, following = numbers.get(b"UIDVALIDITY", 0), numbers.get(b"UIDNEXT", 0)
        if b"MESSAGES" not in numbers or not validity:
            raise self._session.wire.nonsense("a STATUS without what was asked for")
        cursor = {
            "uid_validity": validity,
            "uid_next": following,
            "messages": numbers[b"MESSAGES"],
            "unseen": numbers.get(b"UNSEEN", 0),
        }
        if numbers.get(b"HIGHESTMODSEQ"):
            cursor["modseq"] = numbers[b"HIGHESTMODSEQ"]
        return FolderStatus(folder, cursor["messages"], numbers.get(b"UNSEEN"), validity, cursor)


def unchanged(cursor: Cursor, now: Cursor) -> bool:
    """Whether nothing can have changed between two looks."""
    if any(
        cursor.get(key) != now[key] for key in ("uid_validity", "uid_next", "messages", "unseen")
    ):
        return False
    if "modseq" in cursor and "modseq" in now:
        return bool(cursor["modseq"] == now["modseq"])
    return time.time() - float(cursor.get("looked", 0)) < FULL_LOOK_S


def _quoted(name: bytes) -> bytes:
    quoted = string(name)  # modified UTF-7 is printable ASCII: never a literal
    assert not isinstance(quoted, Literal)
    return quoted
