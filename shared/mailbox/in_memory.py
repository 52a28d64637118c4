"""A mailbox in memory, for tests and simulations: the semantics of IMAP without a server.

account = MemoryAccount()
account.deliver(b"Subject: hello\\r\\n\\r\\n...")
mailbox = MemoryMailbox(account)
account.fail("download", SessionLost("cut"), after_octets=100)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches

from shared.clock import utc_now
from shared.connections import AfterDownload, Selection
from shared.mailbox.base import (
    HEADER_LIMIT,
    Capabilities,
    Cursor,
    Folder,
    FolderStatus,
    Known,
    Listing,
    MailRef,
    Sink,
)
from shared.mailbox.errors.refused_mails import MailRefused
from shared.mailbox.failures import FolderMissing, SessionLost, mail_too_large, mail_vanished
from shared.messages import Key
from shared.quantities import counted

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class StoredMail:
    """A mail as the account holds it."""

    uid: int
    raw: bytes
    arrived: datetime
    seen: bool = False
    deleted: bool = False
    damaged: bool = False  # listed, but cannot be given out


@dataclass(slots=True)
class MemoryFolder:
    """Mails by UID, and a number that rises with every change."""

    uid_validity: int
    uid_next: int = 1
    changes: int = 1
    mails: dict[int, StoredMail] = field(default_factory=dict)


@dataclass(slots=True)
class _Fault:
    step: str
    error: Exception
    after_octets: int
    times: int


class MemoryAccount:
    """What is on the server: folders with mails, and faults to come. Safe between threads."""

    def __init__(self, *folders: str) -> None:
        self._lock = threading.RLock()
        self._validities = 1
        self.folders: dict[str, MemoryFolder] = {}
        self._faults: list[_Fault] = []
        for name in ("INBOX", *folders):
            self.create(name)

    def create(self, folder: str) -> None:
        """An empty folder; one that exists is lost, and the new one has another UIDVALIDITY."""
        with self._lock:
            self._validities += 1
            self.folders[folder] = MemoryFolder(self._validities)

    def deliver(
        self,
        raw: bytes,
        folder: str = "INBOX",
        *,
        seen: bool = False,
        arrived: datetime | None = None,
    ) -> int:
        """A new mail; returns its UID."""
        with self._lock:
            found = self.folders[folder]
            uid = found.uid_next
            found.uid_next += 1
            found.changes += 1
            found.mails[uid] = StoredMail(uid, raw, arrived or utc_now(), seen)
            return uid

    def change(
        self,
        uid: int,
        folder: str = "INBOX",
        *,
        seen: bool | None = None,
        deleted: bool | None = None,
        damaged: bool | None = None,
    ) -> None:
        """Somebody else sets flags (or the mail is damaged); a mail that is gone stays gone."""
        with self._lock:
            found = self.folders[folder]
            mail = found.mails.get(uid)
            if mail is None:
                return
            found.changes += 1
            found.mails[uid] = replace(
                mail,
                seen=mail.seen if seen is None else seen,
                deleted=mail.deleted if deleted is None else deleted,
                damaged=mail.damaged if damaged is None else damaged,
            )

    def remove(self, uid: int, folder: str = "INBOX") -> None:
        """Somebody else removes a mail for good."""
        with self._lock:
            found = self.folders[folder]
            found.changes += found.mails.pop(uid, None) is not None

    def fail(self, step: str, error: Exception, *, after_octets: int = 0, times: int = 1) -> None:
        """The next `times` attempts at `step` raise `error`.

        Steps: `folder`, `list`, `download` (after so many octets), `settle` (before anything is
        done) and `settled` (when it is done, and only the answer is lost).
        """
        with self._lock:
            self._faults.append(_Fault(step, error, after_octets, times))

    def snapshot(self, folder: str) -> MemoryFolder | None:
        """A copy of a folder as it is now."""
        with self._lock:
            found = self.folders.get(folder)
            return None if found is None else replace(found, mails=dict(found.mails))

    def due(self, step: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.step == step:
                    fault.times -= 1
                    if fault.times == 0:
                        self._faults.remove(fault)
                    return fault
            return None


class MemoryMailbox:
    """A Mailbox over a MemoryAccount."""

    def __init__(self, account: MemoryAccount) -> None:
        self._account = account
        self._folder: str | None = None
        self._uid_validity = 0
        self._status: FolderStatus | None = None
        self._poll: tuple[str, Cursor | None] | None = None
        self._broken = False
        self._log: list[str] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(read_flag=True, folders=True)

    @property
    def server(self) -> str:
        return "a mailbox in memory"

    @property
    def transcript(self) -> Sequence[str]:
        return tuple(self._log[-100:])

    def folders(self) -> list[Folder]:
        return [Folder(name) for name in sorted(self._account.folders)]

    def changed_since(self, folder: str, cursor: Cursor | None) -> FolderStatus | None:
        self._say("folder", f"status {folder}")
        _, status = self._snapshot(folder)
        return None if cursor is not None and dict(cursor) == dict(status.cursor) else status

    def poll_send(self, folder: str, cursor: Cursor | None) -> None:
        self._poll = (folder, cursor)

    def poll_receive(self, *, within: float | None = None) -> FolderStatus | None:
        if self._poll is None:
            raise AssertionError("poll_receive without poll_send")
        (folder, cursor), self._poll = self._poll, None
        return self.changed_since(folder, cursor)

    def open(self, folder: str) -> FolderStatus:
        self._say("folder", f"open {folder}")
        self._folder, self._status = self._snapshot(folder)
        self._uid_validity = self._status.uid_validity or 0
        return self._status

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
        self._say("list", f"list {selection}")
        found = self._opened_folder()
        mails = [found.mails[uid] for uid in sorted(found.mails)]
        wanted = [
            mail for mail in mails if selection is Selection.ALL or not (mail.seen or mail.deleted)
        ]
        missing = set(known.missing([mail.uid for mail in mails]))
        new = [
            mail
            for mail in wanted
            if mail.uid in missing and (since is None or mail.arrived >= since)
        ]
        chosen = new if limit is None else new[:limit]
        looked = mails if count_known else wanted
        assert self._status is not None
        return Listing(
            new=tuple(MailRef(mail.uid, len(mail.raw), mail.arrived, mail.seen) for mail in chosen),
            known=sum(mail.uid not in missing for mail in looked),
            reset_keys=tuple(
                mail.uid for mail in mails if mail.uid not in missing and not mail.seen
            ),
            total=len(mails),
            unread=sum(not mail.seen for mail in mails),
            cursor=self._status.cursor,
            complete=len(chosen) == len(new),
            more=len(new) - len(chosen),
            listed=[mail.uid for mail in mails],
        )

    def keys(self) -> Sequence[Key]:
        return sorted(self._opened_folder().mails)

    def cursor_after(
        self, cursor: Cursor, settled: Sequence[MailRef], action: AfterDownload
    ) -> Cursor:
        return {**cursor, "changes": int(cursor["changes"]) + len(settled)}

    def headers(self, refs: Sequence[MailRef]) -> Iterator[tuple[MailRef, bytes]]:
        found = self._opened_folder()
        for ref in refs:
            mail = found.mails.get(int(ref.key))
            if mail is not None:
                end = mail.raw.find(b"\r\n\r\n")
                block = mail.raw[: end + 4] if end >= 0 else mail.raw
                yield ref, block[:HEADER_LIMIT]

    def download(self, refs: Sequence[MailRef], sink: Sink, *, limit: int) -> None:
        self._say("download", f"download {counted(len(refs), 'mail')}", check=False)
        found = self._opened_folder()
        fault = self._account.due("download")
        left = fault.after_octets if fault else 0
        for ref in refs:
            mail = found.mails.get(int(ref.key))
            if mail is None:
                sink.abandon(ref, mail_vanished())
            elif mail.damaged:
                sink.abandon(ref, MailRefused("it is damaged"))
            elif len(mail.raw) > limit:
                sink.abandon(ref, mail_too_large(len(mail.raw), limit))
            else:
                sink.begin(ref)
                for start in range(0, len(mail.raw), _CHUNK):
                    chunk = memoryview(mail.raw)[start : start + _CHUNK]
                    if fault is not None and len(chunk) > left:
                        if left:
                            sink.write(chunk[:left])
                        self._break(fault.error)
                    left -= len(chunk)
                    sink.write(chunk)
                sink.end()
        if fault is not None:
            self._break(fault.error)

    def settle(self, refs: Sequence[MailRef], action: AfterDownload) -> list[MailRef]:
        self._say("settle", f"settle {counted(len(refs), 'mail')}: {action}")
        self._opened_folder()
        assert self._folder is not None
        for ref in refs:
            if action is AfterDownload.DELETE:
                self._account.remove(int(ref.key), self._folder)
            else:
                self._account.change(int(ref.key), self._folder, seen=True)
        fault = self._account.due("settled")
        if fault is not None:
            self._break(fault.error)
        return list(refs)

    def leave(self) -> None:
        """Everything is written at once."""

    def is_alive(self) -> bool:
        return not self._broken

    def close(self) -> None:
        self._broken = True

    def _snapshot(self, folder: str) -> tuple[str, FolderStatus]:
        name = "INBOX" if not folder or folder.upper() == "INBOX" else folder
        found = self._account.snapshot(name)
        if found is None:
            raise FolderMissing(name, get_close_matches(name, self._account.folders))
        return name, FolderStatus(
            folder,
            len(found.mails),
            sum(not mail.seen for mail in found.mails.values()),
            found.uid_validity,
            {"uid_validity": found.uid_validity, "changes": found.changes},
        )

    def _opened_folder(self) -> MemoryFolder:
        if self._folder is None:
            raise AssertionError("no folder is open")
        if self._broken:
            raise SessionLost("The session is over.")
        found = self._account.snapshot(self._folder)
        if found is None or found.uid_validity != self._uid_validity:
            raise SessionLost("The folder was re-created.", code="uid-validity-changed")
        return found

    def _say(self, step: str, line: str, *, check: bool = True) -> None:
        if self._broken:
            raise SessionLost("The session is over.")
        self._log.append("C: " + line)
        fault = self._account.due(step) if check else None
        if fault is not None:
            self._break(fault.error)

    def _break(self, error: Exception) -> None:
        self._broken = isinstance(error, SessionLost)
        raise error
