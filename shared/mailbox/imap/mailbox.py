"""An IMAP mailbox (RFC 3501 and 9051, with ESEARCH, CONDSTORE, UIDPLUS, UNSELECT where offered).

Folders are opened read-only (EXAMINE), so the server itself guards that looking changes nothing;
`settle` alone selects read-write. The session is never ended with CLOSE: that would expunge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.connections import AfterDownload, Connection, Selection
from shared.errors import PosthouseError
from shared.mailbox.base import (
    MOST_LOOKED_AT,
    Capabilities,
    Cursor,
    Folder,
    FolderStatus,
    Known,
    Listing,
    MailRef,
    Sink,
)
from shared.mailbox.failures import SessionLost, StepFailed
from shared.mailbox.imap.download import fetch_bodies
from shared.mailbox.imap.folders import ImapFolders
from shared.mailbox.imap.headers import fetch_headers
from shared.mailbox.imap.idle import IdleWait
from shared.mailbox.imap.listing import (
    SearchAhead,
    Selected,
    all_there,
    arrived_since,
    check_size,
    handled,
    not_listed,
    search_folder,
)
from shared.mailbox.imap.message_attributes import describe
from shared.mailbox.imap.open_folder import OpenFolder
from shared.mailbox.imap.search import names_answers, refusal, searches
from shared.mailbox.imap.session import ImapSession
from shared.mailbox.imap.settle import settle
from shared.mailbox.imap.status import (
    OpenedFolder,
    unchanged,
)
from shared.messages import Key


@dataclass(frozen=True, slots=True)
class _Poll:
    """A STATUS under way (its tag is the last), and what it is to be compared with."""

    tags: Sequence[bytes]
    folder: str
    cursor: Cursor | None


class ImapMailbox:
    """A logged-in IMAP session as a Mailbox, a Pollable and a Pushing."""

    def __init__(self, session: ImapSession, connection: Connection) -> None:
        self._session = session
        self._connection = connection
        self._folders = ImapFolders(session)
        self._open = OpenFolder(session, self._folders)
        self._poll: _Poll | None = None
        #: What is to be asked with the next `open`, and what was asked with the last one.
        self._next_search: SearchAhead | None = None
        self._search_ahead: SearchAhead | None = None

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
        return self._session.stream.transcript.lines

    @property
    def session(self) -> ImapSession:
        """The session underneath, for the doctor alone."""
        return self._session

    @property
    def _moves_to_trash(self) -> bool:
        return {"X-GM-EXT-1", "MOVE"} <= self._session.capabilities

    # ---- folders

    def folders(self) -> list[Folder]:
        with self._step("folder"):
            self._open.await_answers()
            return self._folders.offered()

    def changed_since(self, folder: str, cursor: Cursor | None) -> FolderStatus | None:
        self.poll_send(folder, cursor)
        return self.poll_receive()

    def poll_send(self, folder: str, cursor: Cursor | None) -> None:
        with self._step("folder"):
            self._poll = _Poll(self._open.send_status(folder), folder, cursor)

    def poll_receive(self, *, within: float | None = None) -> FolderStatus | None:
        if self._poll is None:
            raise AssertionError("poll_receive without poll_send")
        poll, self._poll = self._poll, None
        cursor = poll.cursor
        with self._step("folder"), self._session.stream.bounded(within):
            for tag in poll.tags[:-1]:
                self._session.reply(tag)
            status = self._open.status_of(self._session.reply(poll.tags[-1]), poll.folder)
        return None if cursor is not None and unchanged(cursor, status.cursor) else status

    def wait_for_push(self, folder: str, cursor: Cursor | None) -> IdleWait:
        with self._step("folder"):
            now = self._open.open(folder, sent_ahead=True).cursor
        return IdleWait(self._session, changed=cursor is None or not unchanged(cursor, now))

    def open(self, folder: str) -> OpenedFolder:
        self._search_ahead, self._next_search = self._next_search, None
        with self._step("folder"):
            return self._open.open(folder, self._search_ahead)

    def listing_is_next(
        self, selection: Selection, since: datetime | None, cursor: Cursor, *, count_known: bool
    ) -> None:
        if names_answers(self._session):
            count_known = count_known and int(cursor.get("messages", 0)) <= MOST_LOOKED_AT
            self._next_search = SearchAhead(
                self._session, selection, since, cursor, everything=count_known
            )

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
        count_known = count_known and self._open.in_step().most <= MOST_LOOKED_AT
        found = self._matching(selection, since, cursor, everything=count_known)
        missing = found.missing_of(known)
        below = [uid for uid in found.below if uid in missing]
        if below and since is not None:
            # Searched by the day: of those before the start nothing is ever known.
            with self._step("list"):
                below = arrived_since(self._session, below, since)
        if below:
            found = self._matching(selection, since, cursor, everything=True)
            missing = found.missing_of(known)
        status = self._open.in_step()
        looked = found.looked_at
        with self._step("list"):
            new = [uid for uid in found.matching if uid in missing]
            if since is not None:
                new = arrived_since(self._session, new, since)
            unread = selection is Selection.UNREAD
            refs, more, refused = describe(
                self._session, new, limit, found.described, unread=unread
            )
            if refused is not None and not refs:
                raise refusal(refused, "list")
        return Listing(
            new=tuple(refs),
            known=sum(1 for uid in looked if uid not in missing),
            reset_keys=tuple(uid for uid in found.unread if uid not in missing),
            total=status.total,
            unread=len(found.unread) if status.unread is None else status.unread,
            cursor=handled(status, found, cursor),
            complete=more == 0 and refused is None,
            more=more,
            listed=None if found.left_out else found.every,
            not_listed=not_listed(status, found.left_out) if found.left_out else None,
        )

    def _matching(
        self, selection: Selection, since: datetime | None, cursor: Cursor | None, everything: bool
    ) -> Selected:
        """Where a search leaves out what the folder counts, somebody may just have read or removed
        a mail: both are asked once more, and then the flags of all mails."""
        status, ahead = self._open.in_step(), self._search_ahead
        self._search_ahead = None
        with self._step("list"):
            asked = (selection, since, cursor)
            found = search_folder(self._session, status, *asked, everything=everything, ahead=ahead)
            if not found.left_out:
                return found
        again = self._opened_again()
        with self._step("list"):
            return search_folder(self._session, again, *asked, everything=everything, by_flags=True)

    def keys(self) -> Sequence[Key]:
        status, left_out = self._open.in_step(), 0
        with self._step("list"):
            check_size(status)
        for by_flags in (False, True):
            with self._step("list"):
                found, left_out = searches(self._session, [b"ALL"])[0], 0
                if len(found) < status.most:
                    found, left_out = all_there(self._session, status, found, by_flags=by_flags)
            if not left_out:
                return found
            status = status if by_flags else self._opened_again()
        raise not_listed(status, left_out)

    def _opened_again(self) -> OpenedFolder:
        with self._step("folder"):
            return self._open.open_again()

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
        self._open.in_step()
        found = fetch_headers(self._session, refs)
        while True:
            with self._step("list"):
                pair = next(found, None)
            if pair is None:
                return
            yield pair

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        self._open.in_step()
        with self._step("download"):
            fetch_bodies(self._session, refs, sink, limit)

    # ---- what changes the mailbox

    def settle(self, refs: Sequence[MailRef], action: AfterDownload) -> list[MailRef]:
        if not refs:
            return []
        with self._step("settle"):
            self._open.select()
            trash = self._trash_folder() if action is AfterDownload.DELETE else None
            keeps_seen = self._open.keeps_seen
            return settle(self._session, refs, action, trash, keeps_seen=keeps_seen)

    def leave(self) -> None:
        with self._step("settle"):
            self._open.leave()

    def settling_is_next(self) -> None:
        with self._step("settle"):
            self._open.foresee_select()

    def waiting_is_next(self, folder: str) -> None:
        with self._step("folder"):
            self._open.send_open(folder)

    # ---- the session itself

    def is_alive(self) -> bool:
        if self._session.stream.broken:
            return False
        try:
            self._open.await_answers()
            alive = self._session.command(b"NOOP").ok
        except StepFailed:
            return False
        self._session.stream.shrink()
        return alive and not self._session.farewell

    def close(self) -> None:
        try:
            if not self._session.stream.broken:
                self._session.stream.bound(2)
                self._session.command(b"LOGOUT")
                self._session.stream.wait_for_end()
        except PosthouseError:
            pass
        finally:
            self._session.stream.close()

    # ---- inside

    @contextlib.contextmanager
    def _step(self, step: str) -> Iterator[None]:
        """Errors from within carry this step and the protocol log; a buffer that was read empty is
        given back."""
        try:
            yield
            self._session.stream.shrink()
        except SessionLost as error:
            lost = self._session.lost(error)
            lost.step = lost.step or step
            lost.transcript = self.transcript
            if lost is error:
                raise
            raise lost from error
        except StepFailed as error:
            error.step = error.step or step
            error.transcript = error.transcript or self.transcript
            raise

    def _trash_folder(self) -> bytes | None:
        """Where deleted mails go on Gmail; None where they are deleted in place."""
        trash = self._folders.trash() if self._moves_to_trash else None
        return trash if trash != self._open.name else None
