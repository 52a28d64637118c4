"""What a bounce says in events for tests: of reports of RFC 3464, by Python's `email`.

Posthouse reads the texts of servers that write no report, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from email.message import Message
from typing import Final

from posthouse.mail import Bounce
from posthouse.mime_parts import Leaf

#: RFC 3464 section 2.1: blocks of fields, with empty lines between them.
_REPORT: Final = "message/delivery-status"
_EMPTY_LINES: Final = re.compile(rb"\n(?:\r?\n)+")
_SUCCESSES: Final = ("delivered", "relayed", "expanded")


def bounce_of(parts: Sequence[Leaf]) -> Bounce | None:
    """An empty one where no part is a report; None where that says that all recipients were
    reached (RFC 3464 section 2.3.3)."""
    report = next((one for one in parts if one.media_type == _REPORT), None)
    found = [] if report is None else list(_of_recipients(report))
    failed = [one for one in found if one.action == "failed"]
    unreached = [one for one in found if one.action not in _SUCCESSES]
    if found and not unreached:
        return None
    about = (failed or unreached or [Bounce()])[0]
    return Bounce(
        about.action, about.status, about.recipient, about.diagnostic, _original_id(parts)
    )


def _of_recipients(report: Leaf) -> Iterator[Bounce]:
    for octets in _EMPTY_LINES.split(report.content.lstrip(b"\r\n")):
        block = message_from_bytes(octets)
        recipient = _typed(block, "original-recipient") or _typed(block, "final-recipient")
        if recipient:
            yield Bounce(
                action=_word(block, "action").lower(),
                status=_word(block, "status"),
                recipient=recipient,
                diagnostic=_typed(block, "diagnostic-code"),
            )


def _original_id(parts: Sequence[Leaf]) -> str:
    """Of the mail that came back, or of its header."""
    for one in parts:
        if one.media_type in ("message/rfc822", "text/rfc822-headers"):
            return str(message_from_bytes(one.content)["message-id"] or "").strip()
    return ""


def _word(block: Message, name: str) -> str:
    """What a value begins with; comments may stand behind it."""
    words = str(block[name] or "").replace("(", " (").split()
    return words[0] if words else ""


def _typed(block: Message, name: str) -> str:
    """What stands behind the type of an address or diagnostic (section 2.1.2)."""
    kind, semicolon, rest = " ".join(str(block[name] or "").split()).partition(";")
    return (rest if semicolon else kind).strip().strip("<>")
