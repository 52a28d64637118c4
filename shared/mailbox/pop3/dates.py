"""When a mail arrived, as far as POP3 lets one see it: from the newest Received or Date field."""

from __future__ import annotations

import re
from datetime import datetime

from shared.errors import MailFailure
from shared.mail.dates import read_date
from shared.mailbox.failures import Unreachable

_DATE = re.compile(
    rb"^(?:Received:[^;]*(?:\r\n[ \t][^;\r]*)*;|Date:)([^\r\n]+(?:\r\n[ \t][^\r\n]*)*)", re.I | re.M
)


def first_date(block: bytes) -> datetime | None:
    """The date of the topmost Received field, or of Date, whichever stands first in a header block
    (RFC 5321 section 4.4: the newest Received field stands on top)."""
    match = _DATE.search(block)
    if match is None:
        return None
    return read_date(match[1]).at


def mail_without_date() -> MailFailure:
    """The reason to quarantine a mail that bears no date while one is asked for."""
    return MailFailure(
        "This mail has neither a Received nor a Date field that can be read, so it is not known "
        "whether it arrived since the date that the connection starts from.",
        code="mail-undated",
        hint="Take the mail from the mailbox by hand, or start the connection from everything.",
    )


def date_refused() -> Unreachable:
    """The reason to leave a mail for now whose header the server refused."""
    return Unreachable(
        "The mail server did not show the header of a mail, so its date is not known. The mail is "
        "not taken; it is tried again.",
        step="list",
        code="date-refused",
    )
