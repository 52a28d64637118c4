"""Why a mail of a POP3 server whose date is asked for, and not known, is not taken."""

from __future__ import annotations

from shared.errors import MailFailure
from shared.mailbox.failures import Unreachable


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
