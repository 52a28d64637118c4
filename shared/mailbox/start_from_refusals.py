"""Which of the ways to start from a mailbox's mails its server makes impossible, and why a mail is
not taken whose date is asked for and not known."""

from __future__ import annotations

from shared.errors import MailFailure
from shared.mailbox.base import Capabilities
from shared.mailbox.failures import Refused, Unreachable


def start_refusal(
    capabilities: Capabilities, *, by_date: bool, skip_existing: bool
) -> Refused | None:
    """Why this start would lose or strand mails, None where it would not.

    `by_date`: only mails that arrived since a date. `skip_existing`: only those that arrive from
    now on.
    """
    if by_date and not capabilities.dates:
        return no_dates()
    if capabilities.window and (by_date or skip_existing):
        return Refused(
            "This mail server lists only its oldest mails that no program has retrieved yet. Mails "
            "that are skipped stay in that list, and what arrives later never shows.",
            step="list",
            code="start-impossible",
            hint='Start from everything. At Gmail, first choose "Enable POP for mail that arrives '
            'from now on" in its settings under Forwarding and POP/IMAP; or use the mode '
            "google-imap, which can start from any date.",
        )
    return None


def no_dates() -> Refused:
    """The server has no TOP: no mail of it can be dated."""
    return Refused(
        "This mail server does not tell when its mails arrived (it has no TOP), so mails cannot be "
        "chosen by date. Nothing was fetched.",
        step="list",
        code="no-dates",
        hint="Start from everything, or only with mails that arrive from now on; or use IMAP.",
    )


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
