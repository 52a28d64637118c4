"""The folder that is open in an IMAP session: looked at, opened for changes, left.

Nobody waits for an answer before he needs it: several commands go out at once, and some while
something else is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.mailbox.base import FolderStatus
from shared.mailbox.failures import Refused, SessionLost
from shared.mailbox.imap.folders import ImapFolders
from shared.mailbox.imap.listing import SearchAhead
from shared.mailbox.imap.session import ImapSession, Reply, string
from shared.mailbox.imap.settle import refused
from shared.mailbox.imap.status import OpenedFolder, opened_folder, send_status, status_of


@dataclass(frozen=True, slots=True)
class _Opening:
    """A folder under way: the tags of what was sent to leave the one before, and to open it."""

    name: bytes
    left: Sequence[bytes]
    status: bytes
    examine: bytes

    @property
    def tags(self) -> list[bytes]:
        return [*self.left, self.status, self.examine]


class OpenFolder:
    """`name` is what the server calls the folder that is open; None where none is."""

    def __init__(self, session: ImapSession, folders: ImapFolders) -> None:
        self._session = session
        self._folders = folders
        self.name: bytes | None = None
        self._writable = False
        #: Whether the server says that it keeps the flag \\Seen (PERMANENTFLAGS), once selected.
        self.keeps_seen = True
        self._status: OpenedFolder | None = None
        self._opening: _Opening | None = None
        self._selecting: bytes | None = None
        #: Of what was sent to leave a folder, and whose answers nobody waited for.
        self._left: list[bytes] = []

    @property
    def status(self) -> OpenedFolder:
        """What opening it told."""
        if self._status is None or self.name is None:
            raise AssertionError("no folder is open")
        return self._status

    def in_step(self) -> OpenedFolder:
        """The same, once nothing is under way that was sent ahead."""
        if self._selecting is not None:
            self.select()
        return self.status

    def send_status(self, folder: str) -> list[bytes]:
        """Asks for the STATUS of a folder, for which the one that is open is left: the tags of what
        was sent, that of STATUS last."""
        name = self._folders.name_of(folder)
        return [*self._leave(more=True), send_status(self._session, name)]

    def status_of(self, reply: Reply, folder: str) -> FolderStatus:
        """What the answer to STATUS says. Raises why the server does not tell."""
        if not reply.ok:
            raise self._folders.why_not(folder, reply)
        return status_of(self._session, reply, folder)

    def open(
        self, folder: str, ahead: SearchAhead | None = None, *, sent_ahead: bool = False
    ) -> OpenedFolder:
        """Opens it to be looked at; `ahead` goes out with what it takes.

        Where that was `sent_ahead`, the question is what `send_open` has just sent. For others its
        answers may be as old as the session waited.
        """
        name = self._folders.name_of(folder)
        self._session.stream.start_clock()
        opening = self._opening if sent_ahead else None
        if opening is None or opening.name != name:
            opening = self._send_open(name, more=ahead is not None)
        self._opening = None
        if ahead is not None:
            ahead.send()
        for tag in opening.left:
            self._session.reply(tag)
        reported, reply = self._session.reply(opening.status), self._session.reply(opening.examine)
        if ahead is not None:
            ahead.read()
        # Whichever was carried out first: each answer tells by itself what it is about.
        reported.untagged = reply.untagged = [*reported.untagged, *reply.untagged]
        status = self.status_of(reported, folder)
        if not reply.ok:
            raise self._folders.why_not(folder, reply)
        self.name = name
        self._same_folder(reply, status)
        self._status = opened = opened_folder(status, reply)
        return opened

    def open_again(self) -> OpenedFolder:
        """With what it counts now."""
        before = self.status
        status = self.open(before.folder)
        if status.uid_validity != before.uid_validity:
            raise self._made_anew()
        return status

    def select(self) -> None:
        """Opens it for changes; it must still be the one that was looked at."""
        status = self.status
        self.send_select()
        asked, self._selecting = self._selecting, None
        if asked is None:
            return
        self._session.stream.start_clock()
        reply = self._session.reply(asked)
        if not reply.ok:  # then no folder is open any more (RFC 9051 section 6.3.2)
            assert self.name is not None
            opened = self._session.command(b"EXAMINE ", string(self.name), self._condstore())
            if not opened.ok:
                raise self._folders.why_not(status.folder, opened)
            self._same_folder(opened, status)
            raise refused(reply)
        self._same_folder(reply, status)
        codes = reply.codes()
        self.keeps_seen = "SEEN" in codes.get("PERMANENTFLAGS", "SEEN").upper()
        if "READ-ONLY" in codes:
            raise Refused(
                "The folder is read-only for this account: mails can be neither marked nor "
                "deleted.",
                step="settle",
                code="read-only",
                hint="Give the account the right to change flags and to delete in this folder.",
            )
        self._writable = True

    def leave(self) -> None:
        """Leaves it where it was opened for changes. Whoever uses the session next has the answer
        before his own: no wait for it here."""
        changed = self._writable or self._selecting is not None
        if self.name is not None and changed and not self._session.stream.broken:
            self._left = self._leave()

    def send_select(self) -> None:
        """Sends what `select` needs, which comes next."""
        if self.name is not None and not self._writable and self._selecting is None:
            select = self._session.begin(b"SELECT ", string(self.name), self._condstore())
            self._selecting = select

    def foresee_select(self) -> None:
        """The same, unless one would have to wait for the server before all of it is sent."""
        if self.name is not None and not self._session.waits_for(string(self.name)):
            self.send_select()

    def send_open(self, folder: str) -> None:
        """Sends what `open` of this folder needs, which comes next (`sent_ahead`)."""
        name = self._folders.name_of(folder)
        if self.name is None or self._can_unselect:
            self._opening = self._send_open(name)
        else:
            self.leave()  # for which one has to wait there

    def await_answers(self) -> None:
        """Reads what was sent ahead: something else comes next, after all."""
        if self._selecting is not None:
            self.select()  # and what it would raise
        opening, self._opening = self._opening, None
        for tag in opening.tags if opening is not None else ():
            self._session.reply(tag)

    def _send_open(self, name: bytes, *, more: bool = False) -> _Opening:
        left = self._leave(more=True)
        asked = send_status(self._session, name, more=True)
        examined = self._session.begin(b"EXAMINE ", string(name), self._condstore(), more=more)
        return _Opening(name, left, asked, examined)

    def _leave(self, *, more: bool = False) -> list[bytes]:
        """Leaves the open folder, as STATUS of it may be stale (RFC 3501 section 6.3.10).

        Returns the tags of what was sent for it and not yet answered. `more` as of `session.send`.
        """
        self._session.stream.start_clock()
        left, self._left = self._left, []
        opening, self._opening = self._opening, None
        selecting, self._selecting = self._selecting, None
        name, self.name, self._status, self._writable = self.name, None, None, False
        if selecting is not None:
            left.append(selecting)
        if opening is not None:
            left, name = opening.tags, opening.name
        if name is None:
            return left
        if self._can_unselect:
            return [*left, self._session.send(b"UNSELECT", more=more)]
        reply = self._session.command(b"EXAMINE ", string(name))
        if reply.ok and "READ-ONLY" in reply.codes():
            # Of a folder opened read-only CLOSE expunges nothing (RFC 3501 section 6.4.2).
            return [*left, self._session.send(b"CLOSE", more=more)]
        return left

    @property
    def _can_unselect(self) -> bool:
        return bool({"UNSELECT", "IMAP4REV2"} & self._session.capabilities)

    def _condstore(self) -> bytes:
        return b" (CONDSTORE)" if "CONDSTORE" in self._session.capabilities else b""

    def _same_folder(self, reply: Reply, status: FolderStatus) -> None:
        validity = reply.codes().get("UIDVALIDITY", "")
        if validity.isdigit() and int(validity) != status.uid_validity:
            raise self._made_anew()

    def _made_anew(self) -> SessionLost:
        self._session.stream.broken = True
        return SessionLost(
            "The folder was re-created while we were at it.",
            step="folder",
            code="uid-validity-changed",
        )
