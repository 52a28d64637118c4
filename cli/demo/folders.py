"""pymap's in-memory folders, made to last: every change is in SQLite before it is answered.

UIDs, UIDVALIDITY and flags survive a restart, as on any real server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message
from pymap.flags import FlagOp
from pymap.interfaces.message import CachedMessage
from pymap.mime import MessageContent
from pymap.parsing.message import AppendMessage
from pymap.parsing.specials import ObjectId
from pymap.parsing.specials.flag import Flag

_SCHEMA = """
CREATE TABLE IF NOT EXISTS folder (
    name TEXT PRIMARY KEY, uid_validity INTEGER NOT NULL, last_uid INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS mail (
    folder TEXT NOT NULL, uid INTEGER NOT NULL, arrived REAL NOT NULL, flags TEXT NOT NULL,
    octets BLOB NOT NULL, PRIMARY KEY (folder, uid));
"""


class Archive:
    """The SQLite file behind one account."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        self._database.close()

    def is_new(self) -> bool:
        """Whether nothing was ever put in."""
        return self._database.execute("SELECT 1 FROM folder LIMIT 1").fetchone() is None

    def names(self) -> list[str]:
        return [row[0] for row in self._database.execute("SELECT name FROM folder ORDER BY name")]

    def adopt(self, name: str, uid_validity: int, last_uid: int) -> tuple[int, int]:
        """UIDVALIDITY and last UID of a folder: the kept ones, or these for a new folder."""
        self._database.execute(
            "INSERT OR IGNORE INTO folder VALUES (?, ?, ?)", (name, uid_validity, last_uid)
        )
        found = self._database.execute(
            "SELECT uid_validity, last_uid FROM folder WHERE name = ?", (name,)
        ).fetchone()
        return int(found[0]), int(found[1])

    def mails(self, name: str) -> Iterable[tuple[int, datetime, frozenset[Flag], bytes]]:
        rows = self._database.execute(
            "SELECT uid, arrived, flags, octets FROM mail WHERE folder = ? ORDER BY uid", (name,)
        )
        for uid, arrived, flags, octets in rows:
            kept = frozenset(Flag(flag.encode()) for flag in flags.split())
            yield uid, datetime.fromtimestamp(arrived, UTC), kept, octets

    def add(self, name: str, message: Message, octets: bytes) -> None:
        self._database.execute("BEGIN")
        self._database.execute(
            "INSERT OR REPLACE INTO mail VALUES (?, ?, ?, ?, ?)",
            (name, message.uid, message.internal_date.timestamp(), _flags(message), octets),
        )
        self._database.execute(
            "UPDATE folder SET last_uid = max(last_uid, ?) WHERE name = ?", (message.uid, name)
        )
        self._database.execute("COMMIT")

    def flag(self, name: str, message: Message) -> None:
        self._database.execute(
            "UPDATE mail SET flags = ? WHERE folder = ? AND uid = ?",
            (_flags(message), name, message.uid),
        )

    def remove(self, name: str, uids: Iterable[int]) -> None:
        self._database.executemany(
            "DELETE FROM mail WHERE folder = ? AND uid = ?", [(name, uid) for uid in uids]
        )

    def drop(self, name: str) -> None:
        self._database.execute("DELETE FROM mail WHERE folder = ?", (name,))
        self._database.execute("DELETE FROM folder WHERE name = ?", (name,))


class LastingFolder(MailboxData):
    """One folder whose content is in the archive too."""

    def __init__(self, name: str, archive: Archive, account: MailboxSet) -> None:
        super().__init__(account._content_cache, account._thread_cache)
        self._name = name
        self._archive = archive
        self._uid_validity, self._max_uid = archive.adopt(name, self._uid_validity, self._max_uid)
        for uid, arrived, flags, octets in archive.mails(name):
            content = MessageContent.parse(octets)
            self._messages[uid] = Message(
                uid,
                arrived,
                flags,
                email_id=self._content_cache.add(content),
                thread_id=self._thread_cache.add(content),
                content=content,
            )
        self._mod_sequences.update(list(self._messages))

    async def append(self, append_msg: AppendMessage, *, recent: bool = False) -> Message:
        message = await super().append(append_msg, recent=recent)
        self._archive.add(self._name, message, bytes(append_msg.literal))
        return message

    async def copy(self, uid: int, destination: MailboxData, *, recent: bool = False) -> int | None:
        copied = await super().copy(uid, destination, recent=recent)
        self._keep(destination, copied)
        return copied

    async def move(self, uid: int, destination: MailboxData, *, recent: bool = False) -> int | None:
        moved = await super().move(uid, destination, recent=recent)
        self._keep(destination, moved)
        self._archive.remove(self._name, [uid])
        return moved

    async def update(
        self, uid: int, cached_msg: CachedMessage, flag_set: frozenset[Flag], mode: FlagOp
    ) -> Message:
        message = await super().update(uid, cached_msg, flag_set, mode)
        self._archive.flag(self._name, message)
        return message

    async def delete(self, uids: Iterable[int]) -> None:
        gone = list(uids)
        await super().delete(gone)
        self._archive.remove(self._name, gone)

    def _keep(self, destination: MailboxData, uid: int | None) -> None:
        if uid is not None and isinstance(destination, LastingFolder):
            message = destination._messages[uid]
            self._archive.add(destination._name, message, bytes(message._content or b""))


class LastingAccount(MailboxSet):
    """All folders of the demo account."""

    def __init__(self, archive: Archive) -> None:
        super().__init__()
        self._archive = archive
        self._inbox = LastingFolder("INBOX", archive, self)
        for name in archive.names():
            if name != "INBOX":
                self._set[name] = LastingFolder(name, archive, self)

    async def add_mailbox(self, name: str) -> ObjectId:
        if name in self._set:
            raise ValueError(name)
        self._set[name] = folder = LastingFolder(name, self._archive, self)
        return folder.mailbox_id

    async def delete_mailbox(self, name: str) -> None:
        await super().delete_mailbox(name)
        self._archive.drop(name)

    async def rename_mailbox(self, before: str, after: str) -> None:
        """Renames by copying into a new folder, which has a UIDVALIDITY of its own."""
        source = await self.get_mailbox(before)
        await self.add_mailbox(after)
        target = await self.get_mailbox(after)
        for uid in sorted(source._messages):
            await source.move(uid, target)
        if before.upper() != "INBOX":
            await self.delete_mailbox(before)


def _flags(message: Message) -> str:
    return " ".join(sorted(bytes(flag).decode("ascii") for flag in message.permanent_flags))
