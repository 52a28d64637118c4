"""When a mail arrived, as far as its header tells: from the newest Received or Date field."""

from __future__ import annotations

import re
from datetime import datetime

from shared.mail.dates import read_date

_DATE = re.compile(
    rb"^(?:Received:[^;]*(?:\r\n[ \t][^;\r]*)*;|Date:)([^\r\n]+(?:\r\n[ \t][^\r\n]*)*)", re.I | re.M
)


def arrival_date(block: bytes) -> datetime | None:
    """The date of the topmost Received field, or of Date, whichever stands first in a header block
    (RFC 5321 section 4.4: the newest Received field stands on top)."""
    match = _DATE.search(block)
    if match is None:
        return None
    return read_date(match[1]).at
