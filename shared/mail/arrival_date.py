"""When a mail arrived, as far as its header tells: from the newest Received or Date field."""

from __future__ import annotations

from datetime import datetime

from shared.mail.dates import read_date
from shared.mail.fields import Names, read_fields

_RECEIVED, _DATE = "received", "date"
_NAMES = Names(_RECEIVED, _DATE)


def arrival_date(block: bytes) -> datetime | None:
    """The date of the topmost Received field that has one, or of Date, whichever stands first in a
    header block (RFC 5321 section 4.4: the newest Received field stands on top)."""
    for name, value, _, _ in read_fields(block).select(_NAMES):
        # What a server says of how it got the mail may have semicolons in its comments.
        _, semicolon, said = value.rpartition(b";") if name == _RECEIVED else (b"", b";", value)
        if semicolon and said.strip():
            return read_date(said).at
    return None
