"""A note that a server writes itself in place of a mail that it cannot convert.

Exchange answers a FETCH or RETR of such a mail with a small text of its own, as if that were the
mail; with `delete` the original would go. The note never travelled: it has no Received, Message-ID
or Date field, its From is `Microsoft Exchange Server` without an address, its subject or first line
says what failed. A mail in which a person quotes all that has been sent, and lacks the first marks.

Seen in reports of users (OfflineIMAP #62, FreeScout #3203, Mailspring #2038, MailKit #1451) for
IMAP4; the POP3 form names its protocol in the same sentence. Never run against a real Exchange.
"""

from __future__ import annotations

import re
from typing import Final

from shared.errors import MailFailure

#: A note has some hundred octets; the original's subject and addresses are quoted in it.
_LONGEST: Final = 16_384
#: Every mail that was sent, and every draft that a program saved, has one of these.
_TRAVELLED = re.compile(rb"^(?:Received|Message-ID|Date|Return-Path|X-[^:\s]+)[ \t]*:", re.I | re.M)
_FROM = re.compile(rb"^From[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.I | re.M)
_ADDRESS = re.compile(rb"[^\s<>\"@]@[^\s<>\"@]")
_EXCHANGE = re.compile(rb"Microsoft[ \t]+Exchange", re.I)
_SUBJECT = re.compile(
    rb"^Subject[ \t]*:\s*Retrieval\s+using\s+the\s+(?:IMAP|POP)\d?\s+protocol\s+failed", re.I | re.M
)
_BODY = re.compile(
    rb"\A\s*The\s+server\s+could(?:n.{1,9}t|\s+not)\s+retrieve\s+the\s+following\s+message", re.I
)


class ServerNote(MailFailure):
    """What came is not the mail but the server's word that it cannot give it."""

    code = "server-note"

    def __init__(self) -> None:
        super().__init__(
            "The mail server gives a note of its own in place of this mail: it cannot convert it.",
            hint="The original was left as it is. Look at it with Outlook or Outlook on the web; "
            "forwarding it from there as an attachment, or moving it out and in again, often makes "
            "it readable. Administrators of Exchange find the reason in the IMAP4 or POP3 log; a "
            "connection in the mode microsoft-graph often gets such items.",
        )


def is_server_note(block: bytes, start: bytes, size: int, listed: int) -> bool:
    """Whether a mail of `size` octets that begins with `start`, and so with the header block
    `block`, is such a note.

    `listed` is the size that the server lists for the original, 0 where unknown: a note in another
    language is known by it, as it is far from that size.
    """
    if size > _LONGEST or size > len(start):
        return False
    if _TRAVELLED.search(block) is not None:
        return False
    author = _FROM.search(block)
    if author is None or _ADDRESS.search(author[1]) or not _EXCHANGE.search(author[1]):
        return False
    if _SUBJECT.search(block) is not None or _BODY.match(start[len(block) :]) is not None:
        return True
    return listed > 4 * size
