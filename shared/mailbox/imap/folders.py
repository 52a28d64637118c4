"""The folders of an IMAP mailbox: their names on the server, and why one cannot be opened."""

from __future__ import annotations

from dataclasses import replace

from shared.errors import PosthouseError
from shared.mailbox.base import Folder
from shared.mailbox.failures import FolderMissing, Refused
from shared.mailbox.imap.folder_names import (
    ListedFolder,
    Naming,
    find_folder,
    listed_folders,
    naming,
    near_matches,
)
from shared.mailbox.imap.search import refusal
from shared.mailbox.imap.session import ImapSession, Reply, string

#: Folders of others that are tried before they are offered; more are offered untried.
_MOST_TRIED = 500


class ImapFolders:
    """What a session finds out about folders, asked for once."""

    def __init__(self, session: ImapSession) -> None:
        self._session = session
        self._naming: Naming | None = None
        self._trash: bytes | None = None
        self._found: dict[str, bytes] = {}

    def name_of(self, folder: str) -> bytes:
        """The server's own name of `folder`, looked up in LIST once a session."""
        if not folder or folder.upper() == "INBOX":
            return b"INBOX"
        if folder not in self._found:
            self._found[folder] = self._look_up(folder)
        return self._found[folder]

    def _look_up(self, folder: str) -> bytes:
        likely = self._names().likely(folder)
        if likely is not None:
            # One line in place of thousands; where the name holds wildcards, a few more.
            reply = self._session.command(b'LIST "" ', string(likely))
            found = find_folder(folder, listed_folders(reply.of(b"LIST"), self._names()))
            if found is not None:
                return found.name
        listed = self.listed()
        found = find_folder(folder, listed)
        if found is None:
            raise FolderMissing(folder, near_matches(folder, [item.folder for item in listed]))
        return found.name

    def _names(self) -> Naming:
        if self._naming is None:
            session = self._session
            session.stream.start_clock()
            asked = [session.send(b'LIST "" ""')]
            if "NAMESPACE" in session.capabilities:
                asked.append(session.send(b"NAMESPACE"))
            replies = [session.reply(tag) for tag in asked]
            self._naming = naming(
                replies[0].of(b"LIST"), replies[1].of(b"NAMESPACE") if len(replies) > 1 else ()
            )
        return self._naming

    def listed(self) -> list[ListedFolder]:
        """Every folder of every namespace, as LIST has it."""
        names = self._names()
        session = self._session
        special = "SPECIAL-USE" in session.capabilities
        extended = special and "LIST-EXTENDED" in session.capabilities
        session.stream.start_clock()
        tags = [session.send(b'LIST "" "*"' + (b" RETURN (SPECIAL-USE)" if extended else b""))]
        # "*" leaves out other namespaces on some servers (Courier, Dovecot with list=children).
        patterns = [string(prefix + b"*") for prefix in names.others]
        tags += [session.send(b'LIST "" ' + p) for p in patterns if isinstance(p, bytes)]
        replies = [session.reply(tag) for tag in tags]
        if not replies[0].ok:
            raise refusal(replies[0], "folder")
        return listed_folders([line for reply in replies for line in reply.of(b"LIST")], names)

    def offered(self) -> list[Folder]:
        """Every folder; `selectable` are those that this account can really open.

        Folders of other people are listed to those who may not read them (RFC 4314 section 4, the
        rights `l` and `r`): each is asked for its STATUS, which changes nothing.
        """
        listed = self.listed()
        tried = [item for item in listed if not item.personal and item.folder.selectable]
        refused: set[bytes] = set()
        for item in tried[:_MOST_TRIED]:
            if not self._session.command(
                b"STATUS ", string(item.name), b" (MESSAGES UIDVALIDITY)"
            ).ok:
                refused.add(item.name)
        return [
            replace(item.folder, selectable=False)
            if item.name in refused or _unspeakable(item.folder.name)
            else item.folder
            for item in listed
        ]

    def why_not(self, folder: str, reply: Reply) -> PosthouseError:
        """Why the server does not open a folder: it is not there, or there is another reason."""
        self._found.pop(folder, None)
        wanted = folder or "INBOX"
        listed = self.listed()
        found = find_folder(wanted, listed)
        if found is None:
            return FolderMissing(wanted, near_matches(wanted, [item.folder for item in listed]))
        if not found.folder.selectable:
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


def _unspeakable(name: str) -> bool:
    """A tab or another control character: servers list such names and do not open them."""
    return any(ord(character) < 32 or ord(character) == 127 for character in name)
