"""The folders of an IMAP mailbox: their names on the server, and why one cannot be opened."""

from __future__ import annotations

from shared.errors import PosthouseError
from shared.mailbox.base import FolderMissing, Refused
from shared.mailbox.imap_names import ListedFolder, Naming, listed_folders, naming, near_matches
from shared.mailbox.imap_search import refusal
from shared.mailbox.imap_session import ImapSession, Reply


class ImapFolders:
    """What a session finds out about folders, asked for once."""

    def __init__(self, session: ImapSession) -> None:
        self._session = session
        self._naming: Naming | None = None
        self._trash: bytes | None = None

    def name_of(self, folder: str) -> bytes:
        """The server's name of `folder`, found out once a session."""
        if not folder or folder.upper() == "INBOX":
            return b"INBOX"
        name = self._names().encode(folder)
        if name is None:
            raise FolderMissing(folder, near_matches(folder, [f.folder for f in self.listed()]))
        return name

    def _names(self) -> Naming:
        if self._naming is None:
            session = self._session
            session.wire.start_clock()
            asked = [session.send(b'LIST "" ""')]
            if "NAMESPACE" in session.capabilities:
                asked.append(session.send(b"NAMESPACE"))
            replies = [session.reply(tag) for tag in asked]
            self._naming = naming(
                replies[0].of(b"LIST"), replies[1].of(b"NAMESPACE") if len(replies) > 1 else ()
            )
        return self._naming

    def listed(self) -> list[ListedFolder]:
        special = "SPECIAL-USE" in self._session.capabilities
        extended = special and "LIST-EXTENDED" in self._session.capabilities
        names = self._names()
        reply = self._session.command(
            b'LIST "" "*" RETURN (SPECIAL-USE)' if extended else b'LIST "" "*"'
        )
        if not reply.ok:
            raise refusal(reply, "folder")
        return listed_folders(reply.of(b"LIST"), names)

    def why_not(self, folder: str, reply: Reply) -> PosthouseError:
        """Why the server does not open a folder: it is not there, or there is another reason."""
        wanted = folder or "INBOX"
        listed = self.listed()
        there = [item.folder for item in listed if item.folder.name == wanted]
        if not there:
            return FolderMissing(wanted, near_matches(wanted, [item.folder for item in listed]))
        if not any(found.selectable for found in there):
            return Refused(
                f"The folder {wanted!r} only holds other folders, no mails.",
                step="folder",
                code="folder-not-selectable",
                hint="Choose a folder below it.",
            )
        return refusal(reply, "folder")

    def trash(self) -> bytes | None:
        """The server's name of the folder with the special use `\\Trash` (RFC 6154)."""
        if self._trash is None:
            self._trash = next(
                (item.name for item in self.listed() if item.folder.special_use == "Trash"), None
            )
        return self._trash
