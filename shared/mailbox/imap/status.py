"""STATUS (RFC 3501 section 6.3.10): what tells whether anything in a folder has changed."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

from shared.mailbox.base import Cursor, FolderStatus, is_another_folder
from shared.mailbox.imap.session import ImapSession, Reply, string

#: Without CONDSTORE equal counts can hide a swap: look in full this often (seconds).
FULL_LOOK_S = 600
_NUMBERS = re.compile(rb"([A-Z]+) +(\d{1,20})", re.I)
#: RFC 8474 section 5.1: it goes with a folder when that is renamed, and never names another one.
_MAILBOX_ID = re.compile(r"\(([A-Za-z0-9_-]{1,255})\)\Z")
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


def with_identity(status: FolderStatus, examined: Reply) -> FolderStatus:
    """The same with the identity that EXAMINE tells, where it does.

    STATUS has the item as well; Cyrus 3.6 was seen to answer it with octets of no meaning, another
    time others, while its EXAMINE told the right one.
    """
    mailbox_id = _MAILBOX_ID.match(examined.codes().get("MAILBOXID", "").strip())
    if mailbox_id is None:
        return status
    return replace(status, cursor={**status.cursor, "mailbox_id": mailbox_id[1]})


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
