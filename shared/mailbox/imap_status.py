"""STATUS (RFC 3501 section 6.3.10): what tells whether anything in a folder has changed."""

from __future__ import annotations

import re
import time
from typing import Any

from shared.mailbox.base import Cursor, FolderStatus, is_another_folder
from shared.mailbox.imap_session import ImapSession, Reply, string

#: Without CONDSTORE equal counts can hide a swap: look in full this often (seconds).
FULL_LOOK_S = 600
_NUMBERS = re.compile(rb"([A-Z]+) +(\d{1,20})", re.I)
#: RFC 8474 section 5.3: it goes with a folder when that is renamed, and never names another one.
_MAILBOX_ID = re.compile(rb"\bMAILBOXID \(([A-Za-z0-9_-]{1,255})\)", re.I)
_IN_PARENTHESES = re.compile(rb"\(([^()]*)\) *\Z")


def send_status(session: ImapSession, name: bytes) -> bytes:
    """Asks for what `status_of` needs; the tag of the command."""
    items = b"MESSAGES UIDNEXT UIDVALIDITY UNSEEN"
    if "CONDSTORE" in session.capabilities:
        items += b" HIGHESTMODSEQ"
    if "OBJECTID" in session.capabilities:
        items += b" MAILBOXID"
    return session.begin(b"STATUS ", string(name), b" (" + items + b")")


def status_of(session: ImapSession, reply: Reply, folder: str) -> FolderStatus:
    """What a STATUS that was answered with OK says. Raises Unreachable for nonsense."""
    numbers: dict[bytes, int] = {}
    mailbox_id = ""
    for line in reply.of(b"STATUS"):
        if (named := _MAILBOX_ID.search(line.rest)) is not None:
            mailbox_id = named[1].decode("ascii", "replace")
        inside = _IN_PARENTHESES.search(_MAILBOX_ID.sub(b"", line.rest))
        if inside is not None:
            numbers = {k.upper(): int(v) for k, v in _NUMBERS.findall(inside[1])}
    validity, following = numbers.get(b"UIDVALIDITY", 0), numbers.get(b"UIDNEXT", 0)
    if b"MESSAGES" not in numbers or not validity:
        raise session.wire.nonsense("a STATUS without what was asked for")
    cursor: dict[str, Any] = {
        "uid_validity": validity,
        "uid_next": following,
        "messages": numbers[b"MESSAGES"],
        "unseen": numbers.get(b"UNSEEN", 0),
    }
    if numbers.get(b"HIGHESTMODSEQ"):
        cursor["modseq"] = numbers[b"HIGHESTMODSEQ"]
    if mailbox_id:
        cursor["mailbox_id"] = mailbox_id
    return FolderStatus(folder, cursor["messages"], numbers.get(b"UNSEEN"), validity, cursor)


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
