"""STATUS (RFC 3501 section 6.3.10): what tells whether anything in a folder has changed."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from shared.mailbox.base import Cursor, FolderStatus, is_another_folder
from shared.mailbox.imap.session import ImapSession, Reply, string

#: Without CONDSTORE equal counts can hide a swap: look in full this often (seconds).
FULL_LOOK_S = 600
_NUMBERS = re.compile(rb"([A-Z]+) +(\d{1,20})", re.I)
#: RFC 8474 section 5.1: it goes with a folder when that is renamed, and never names another one.
_MAILBOX_ID = re.compile(r"\(([A-Za-z0-9_-]{1,255})\)\Z")
_NUMBER = re.compile(r"\d{1,10}\Z", re.ASCII)
_IN_PARENTHESES = re.compile(rb"\(([^()]*)\) *\Z")


def send_status(session: ImapSession, name: bytes, *, more: bool = False) -> bytes:
    """Asks for what `status_of` needs; the tag of the command. `more` as of `session.send`."""
    items = b"MESSAGES UIDNEXT UIDVALIDITY UNSEEN"
    if "CONDSTORE" in session.capabilities:
        items += b" HIGHESTMODSEQ"
    return session.begin(b"STATUS ", string(name), b" (" + items + b")", more=more)


def status_of(session: ImapSession, reply: Reply, folder: str) -> FolderStatus:
    """What a STATUS that was answered with OK says. Raises Unreachable for nonsense."""
    numbers: dict[bytes, int] = {}
    for line in reply.of(b"STATUS"):
        inside = _IN_PARENTHESES.search(line.rest)
        if inside is not None:
            numbers = {k.upper(): int(v) for k, v in _NUMBERS.findall(inside[1])}
    validity, following = numbers.get(b"UIDVALIDITY", 0), numbers.get(b"UIDNEXT", 0)
    if b"MESSAGES" not in numbers or not validity:
        raise session.stream.nonsense("a STATUS without what was asked for")
    cursor: dict[str, Any] = {
        "uid_validity": validity,
        "uid_next": following,
        "messages": numbers[b"MESSAGES"],
        "unseen": numbers.get(b"UNSEEN", 0),
    }
    if numbers.get(b"HIGHESTMODSEQ"):
        cursor["modseq"] = numbers[b"HIGHESTMODSEQ"]
    return FolderStatus(folder, cursor["messages"], numbers.get(b"UNSEEN"), validity, cursor)


@dataclass(frozen=True, slots=True)
class OpenedFolder(FolderStatus):
    """What STATUS and EXAMINE tell of a folder. `exists`: the mails that can be asked for now.

    `next_uid`: the next mail gets this UID or a higher one (RFC 9051 section 2.3.1.1), by the
    higher of what both say; None where neither says it.
    """

    exists: int
    next_uid: int | None

    @property
    def most(self) -> int:
        """How many mails there are, by whichever counts more."""
        return max(self.total, self.exists)


def opened_folder(status: FolderStatus, examined: Reply) -> OpenedFolder:
    """`status` with what EXAMINE tells: mails, UIDs, and the identity where it does.

    STATUS has the identity as well; Cyrus 3.6 was seen to answer it with octets of no meaning,
    another time others, while its EXAMINE told the right one.
    """
    codes = examined.codes()
    exists = [line.number for line in examined.of(b"EXISTS") if line.number is not None]
    following = codes.get("UIDNEXT", "").strip()
    next_uid = max(
        int(status.cursor["uid_next"]), int(following) if _NUMBER.match(following) else 0
    )
    mailbox_id = _MAILBOX_ID.match(codes.get("MAILBOXID", "").strip())
    identity = {} if mailbox_id is None else {"mailbox_id": mailbox_id[1]}
    return OpenedFolder(
        status.folder,
        status.total,
        status.unread,
        status.uid_validity,
        {**status.cursor, **identity},
        exists[-1] if exists else status.total,
        next_uid or None,
    )


def unchanged(cursor: Cursor, now: Cursor) -> bool:
    """Whether nothing can have changed between two looks."""
    if any(
        cursor.get(key) != now[key] for key in ("uid_validity", "uid_next", "messages", "unseen")
    ):
        return False
    if is_another_folder(cursor, now):
        return False
    if "modseq" in cursor and "modseq" in now:
        return bool(cursor["modseq"] == now["modseq"])
    return time.time() - float(cursor.get("looked", 0)) < FULL_LOOK_S
