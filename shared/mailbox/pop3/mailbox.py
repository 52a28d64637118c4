"""A POP3 mailbox (RFC 1939): no folders, no flags, one snapshot a session.

The cost of a poll grows with what is new, not with the mailbox. An unchanged mailbox is recognised
from `STAT` and the last mail's UIDL; new mails are looked for from the top of the list, and only
where the counts do not add up is the whole list asked for.

QUIT is the only word that changes a mailbox: it deletes what was marked (RFC 1939 section 6), and a
server may delete or hide whatever was retrieved in the session (section 8; EXPIRE 0, RFC 2449
section 6.7), perhaps already by TOP. So it is said only where every mail that was looked into was
given to `settle`, by a caller who has it safe. In all other cases the connection is closed, and the
server begins anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from shared.connections import AfterDownload, Selection
from shared.errors import PosthouseError
from shared.mail.arrival_date import arrival_date
from shared.mailbox.base import (
    Capabilities,
    Cursor,
    Folder,
    FolderStatus,
    Known,
    Listing,
    MailRef,
    Sink,
)
from shared.mailbox.failures import (
    FolderMissing,
    SessionLost,
    StepFailed,
    Unreachable,
    mail_vanished,
)
from shared.mailbox.pop3.listing import LAST_UNKNOWN, Pop3List, counts, uidl_of
from shared.mailbox.pop3.retrieve import retrieve
from shared.mailbox.pop3.session import Pop3Session
from shared.mailbox.pop3.settle import confirm, mark_deleted, retrieve_again
from shared.mailbox.start_from_refusals import date_refused, mail_without_date, no_dates
from shared.messages import Key

#: Seconds to wait before each further login while the mailbox is locked.
_LOCKED_S = (0.2, 0.5, 1.0, 0.0)


class Pop3Mailbox:
    """A logged-in POP3 session as a Mailbox; logs in again where a new snapshot is needed."""

    def __init__(self, session: Pop3Session, log_in_again: Callable[[], Pop3Session]) -> None:
        self._last = session
        self._session: Pop3Session | None = session
        self._log_in_again = log_in_again
        self._status: FolderStatus | None = None
        self._polled = False
        self._list = Pop3List(self._live, "UIDL" in session.capabilities)
        #: Mails that are safe here, whatever the server does with them.
        self._safe: set[Key] = set()
        #: Capabilities that the server tells after the login alone; None while that is open.
        self._after_login: dict[str, str] | None = None

    # ---- what it is

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            read_flag=False,
            folders=False,
            stable_keys=self._list.has_uidl is not False,
            reuses_keys=True,
            keeps_open=False,
            settles_by_ending=True,
            dates=self._has_top,
            expires_days=self._last.expires_days,
            window=self._last.window,
            miscounts=self._list.miscounts,
            login_delay=self._last.login_delay,
            names=tuple(sorted(self._last.capabilities)),
        )

    @property
    def _has_top(self) -> bool:
        """Some servers have it and do not say so: without CAPA (or after a look) that is open."""
        return not self._last.capabilities or "TOP" in self._last.capabilities

    @property
    def server(self) -> str:
        return self._last.greeting

    @property
    def transcript(self) -> Sequence[str]:
        return self._last.stream.transcript.lines

    @property
    def session(self) -> Pop3Session:
        """The session underneath, for the doctor alone."""
        return self._last

    def folders(self) -> list[Folder]:
        return [Folder("INBOX")]

    def list_one(self) -> None:
        """Asks for one mail in the forms that a look at the top of the list uses."""
        with self._step("list"):
            self._list.named([1])
            self._list.listed_sizes([1])

    # ---- has anything changed

    def changed_since(self, folder: str, cursor: Cursor | None) -> FolderStatus | None:
        if self._polled:  # a session shows what there was when it began
            self._drop_session()
        with self._step("folder"):
            status = self._snapshot_status(folder, cursor)
        self._polled = True
        return None if cursor is not None and dict(status.cursor) == dict(cursor) else status

    def open(self, folder: str) -> FolderStatus:
        with self._step("folder"):
            if self._session is None or self._status is None:
                self._snapshot_status(folder, None)
            self._polled = True
            self._read_capabilities_after_login()
            assert self._status is not None
            return self._status

    def _snapshot_status(self, folder: str, cursor: Cursor | None) -> FolderStatus:
        if folder and folder.upper() != "INBOX":
            raise FolderMissing(folder, ["INBOX"])
        session = self._live()
        session.stream.start_clock()
        # The last mail of the cursor is asked for in the same breath; that it may be gone is fine.
        expected = int(cursor.get("count", 0)) if cursor is not None else 0
        ask_last = session.pipelining and self._list.has_uidl is True and expected > 0
        session.send(b"STAT", *([b"UIDL %d" % expected] if ask_last else []))
        count, octets = counts(session)
        last = session.answer() if ask_last else None
        uncounted = not count and cursor is not None and "uncounted" in cursor
        if not count and (cursor is None or expected or uncounted):
            count = self._list.uncounted()
            uncounted = uncounted or count > 0
        if not count:
            key = ""
        elif last is not None and count == expected and last.ok:
            key = self._list.proved(count, uidl_of(last) or "")
        elif cursor is not None and (count, octets) != (expected, cursor.get("octets")):
            key = LAST_UNKNOWN  # it changed, whatever the last mail is; the listing will know
        else:
            key = self._list.last(count)
        state: dict[str, Any] = {"count": count, "octets": octets, "last": key}
        state |= {"uncounted": True} if uncounted else {}
        self._status = FolderStatus("", count, None, None, state)
        return self._status

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
            found = self._list.from_top(known, status.cursor, cursor)
            listed: list[Key] | None = None
            if found is None:
                listed = self._list.all_keys(status.total)
                missing = set(known.missing(listed))
                found = [key for key in listed if key in missing]
            undated: list[tuple[MailRef, PosthouseError]] = []
            new = found
            if since is not None and found:
                new, undated = self._arrived_since(found, since)
            chosen = new if limit is None else new[:limit]
            sizes = self._list.sizes(chosen, status.total)
            last = status.cursor["last"]
            if last == LAST_UNKNOWN:
                last = self._list.last(status.total)
        return Listing(
            new=tuple(
                MailRef(key, sizes.get(key, 0), detail={"number": self._list.numbers[key]})
                for key in chosen
            ),
            known=status.total - len(found),
            reset_keys=(),
            total=status.total,
            unread=None,
            cursor={**status.cursor, "last": last},
            complete=len(chosen) == len(new) and not undated,
            more=len(new) - len(chosen),
            undated=undated,
            listed=listed,
            by_place=self._list.by_place if listed is not None else (),
        )

    def keys(self) -> Sequence[Key]:
        status = self._opened()
        with self._step("list"):
            return self._list.all_keys(status.total)

    def cursor_after(
        self, cursor: Cursor, settled: Sequence[MailRef], action: AfterDownload
    ) -> Cursor:
        if action is not AfterDownload.DELETE or not settled:
            return cursor
        # Which mail is the last one then is not known: the next poll looks, at a small mailbox.
        return {
            **cursor,
            "count": cursor["count"] - len(settled),
            "octets": cursor["octets"] - sum(ref.size for ref in settled),
            "last": LAST_UNKNOWN,
        }

    def _arrived_since(
        self, keys: Sequence[Key], since: datetime
    ) -> tuple[list[Key], list[tuple[MailRef, PosthouseError]]]:
        """Those that arrived since, and those of which that cannot be known now.

        POP3 tells no arrival: the newest Received or Date field stands for it. Raises Refused where
        the server shows no header at all.
        """
        refs = [MailRef(key, 0) for key in keys]
        moments = {ref.key: arrival_date(block) for ref, block in self.headers(refs)}
        if not moments and (len(keys) > 1 or "TOP" not in self._last.capabilities):
            raise no_dates()
        new: list[Key] = []
        undated: list[tuple[MailRef, PosthouseError]] = []
        for ref in refs:
            moment = moments.get(ref.key)
            if moment is not None:
                if moment >= since:
                    new.append(ref.key)
            elif ref.key in moments:
                undated.append((ref, mail_without_date()))
            else:
                undated.append((ref, date_refused()))
        return new, undated

    # ---- reading

    def headers(self, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
        with self._step("list"):
            numbered, _ = self._numbered(refs)
            session = self._live()
        for start in range(0, len(numbered), 32):
            batch = numbered[start : start + 32]
            found: list[tuple[MailRef, bytes]] = []
            with self._step("list"):
                answers = session.commands([b"TOP %d 0" % number for number, _ in batch])
                for (_, ref), answer in zip(batch, answers, strict=True):
                    if answer.ok:
                        found.append((ref, session.headers()))
                        session.used_top(ref.key)
            yield from found

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        with self._step("download"):
            numbered, gone = self._numbered(refs)
            for ref in gone:
                sink.abandon(ref, mail_vanished())
            retrieve(self._live(), numbered, sink, limit)

    def _numbered(self, refs: Sequence[MailRef]) -> tuple[list[tuple[int, MailRef]], list[MailRef]]:
        """Session numbers for `refs`, and those that are not on the server any more."""
        self._opened()
        if any(ref.key not in self._list.numbers for ref in refs):
            assert self._status is not None
            self._list.all_keys(self._status.total)
        numbered = [
            (self._list.numbers[ref.key], ref) for ref in refs if ref.key in self._list.numbers
        ]
        return sorted(numbered, key=lambda pair: pair[0]), [
            ref for ref in refs if ref.key not in self._list.numbers
        ]

    # ---- what changes the mailbox

    def settle(self, refs: Sequence[MailRef], action: AfterDownload) -> list[MailRef]:
        self._safe.update(ref.key for ref in refs)
        confirms = self._last.expires_days == 0
        if not refs or (action is AfterDownload.MARK_READ and not confirms):
            return list(refs)  # POP3 has no flag to set: nothing is left to do
        with self._step("settle"):
            if not self._may_quit():
                self._drop_session()
            numbered, gone = self._numbered(refs)
            session = self._live()
            if action is AfterDownload.DELETE:
                done = mark_deleted(session, numbered)
            else:
                done = retrieve_again(session, numbered)
            refusal = confirm(session)
            self._drop_session(polite=False, said_quit=True)
            if refusal is None:
                return [*gone, *done]
            if not gone:
                raise refusal
            return gone  # the next settling finds what else has gone, or says what was refused

    # ---- the session itself

    def leave(self) -> None:
        """A session ends with `settle` or `close`."""

    def is_alive(self) -> bool:
        session = self._session
        if session is None or session.stream.broken:
            return False
        try:
            return session.command(b"NOOP").ok
        except StepFailed:
            return False

    def close(self) -> None:
        self._drop_session()

    def _live(self) -> Pop3Session:
        for pause in _LOCKED_S:
            if self._session is not None:
                break
            try:
                before, self._session = self._last, self._log_in_again()
                self._last, self._session.stuffs = self._session, before.stuffs
                self._last.capabilities.update(self._after_login or {})
            except Unreachable as error:
                # A session of ours that was closed without QUIT holds the lock a moment longer.
                if error.code != "mailbox-in-use" or not pause:
                    raise
                time.sleep(pause)
        assert self._session is not None
        return self._session

    def _read_capabilities_after_login(self) -> None:
        """Whether QUIT removes what was retrieved decides what is done with a mailbox, so who does
        not say it before the login is asked once more. An idle poll does without."""
        capabilities = self._last.capabilities
        if self._after_login is None and capabilities and "EXPIRE" not in capabilities:
            self._after_login = self._live().read_more_capabilities()

    def _opened(self) -> FolderStatus:
        if self._session is None or self._status is None:
            with self._step("folder"):
                return self._snapshot_status("", None)
        return self._status

    def _may_quit(self) -> bool:
        """Whether QUIT would confirm nothing but what is safe here."""
        session = self._session
        return session is None or (
            not session.stream.broken
            and session.retrieved <= self._safe
            and session.topped <= self._safe
        )

    def _drop_session(self, *, polite: bool = True, said_quit: bool = False) -> None:
        polite = polite and self._may_quit()
        session, self._session = self._session, None
        self._status, self._list.numbers, self._polled = None, {}, False
        if session is None:
            return
        try:
            if polite:
                session.stream.bound(2)
                session.command(b"QUIT")
            if (polite or said_quit) and not session.stream.broken:
                session.stream.wait_for_end()
        except PosthouseError:
            pass
        finally:
            session.stream.close()

    @contextlib.contextmanager
    def _step(self, step: str) -> Iterator[None]:
        """Errors from within carry this step and the protocol log; a buffer that was read empty is
        given back."""
        try:
            yield
            if self._session is not None:
                self._session.stream.shrink()
        except StepFailed as error:
            error.step = error.step or step
            error.transcript = error.transcript or self.transcript
            if isinstance(error, SessionLost):
                self._drop_session(polite=False)
            raise
