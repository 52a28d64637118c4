"""What a run may ask of a POP3 mailbox. No session that retrieved a mail is ended with QUIT."""

from __future__ import annotations

import time
from typing import Final

from shared.connections import Selection
from shared.mailbox.base import Mailbox, NothingKnown
from shared.mailbox.doctor.examination import (
    SAMPLES,
    AllKnown,
    Examination,
    download,
    opened,
    smallest,
)
from shared.mailbox.pop3.mailbox import Pop3Mailbox

_REMOVES: Final = (
    "the server lets go of mails that were retrieved (EXPIRE 0, or Gmail's rule): a download would "
    "not be free of effects"
)
#: Headers that are read to list a mailbox without UIDL.
_MOST_HEADERS: Final = 500
#: Seconds that are waited between two logins where the server wants that.
_LONGEST_WAIT: Final = 15.0
_DELAY: Final = "the server wants {:g} s between two logins"


def examine(found: Examination) -> None:
    """Every form, in as few sessions as possible where the server wants time between them."""
    ways: list[str] = []
    delay = 0.0
    with found.part("listing and downloading"), found.session(fresh=True) as mailbox:
        delay = mailbox.capabilities.login_delay
        assert isinstance(mailbox, Pop3Mailbox)
        ways = list(mailbox.session.login_ways[1:])
        _listing(found, mailbox)
    if found.failures and not found.capabilities and not found.server:
        return
    if 0 < delay <= _LONGEST_WAIT:
        if ways:
            found.not_asked.append(("other ways to log in", _DELAY.format(delay)))
        time.sleep(delay)
        delay, ways = 0.0, []  # each way would cost another wait
    if delay:
        found.not_asked.append(("polling, and other ways to log in", _DELAY.format(delay)))
    else:
        if found.left("polling"):
            with found.part("polling"), found.session() as mailbox:
                _polling(found, mailbox)
        found.try_other_ways(ways)
    found.not_asked.append(("DELE, and QUIT after RETR", "they change the mailbox"))


def _listing(found: Examination, mailbox: Mailbox) -> None:
    total = opened(found, mailbox)
    assert isinstance(mailbox, Pop3Mailbox)
    if not mailbox.capabilities.stable_keys and total > _MOST_HEADERS:
        found.not_asked.append(
            ("listing", f"the server has no UIDL, so a run reads {total} headers to list the mails")
        )
        return
    listing = mailbox.list_new(NothingKnown(), Selection.ALL, limit=SAMPLES)
    mailbox.keys()
    refs = list(listing.new)
    if not refs:
        return
    mailbox.list_one()
    if len(list(mailbox.headers(refs[:1]))) != 1:
        found.notes.append("The header of a mail does not come by itself (TOP).")
    capabilities = mailbox.capabilities
    if capabilities.expires_days == 0 or capabilities.window:
        found.not_asked.append(("RETR", _REMOVES))
        return
    download(found, mailbox, smallest(listing))


def _polling(found: Examination, mailbox: Mailbox) -> None:
    """A poll with what the last one left, then one more, which needs a new session."""
    mailbox.changed_since("", None)
    listing = mailbox.list_new(NothingKnown(), Selection.ALL, limit=0)
    if mailbox.changed_since("", listing.cursor) is not None and listing.total:
        found.notes.append("The mailbox looks changed in the next session: each run lists it all.")
    mailbox.list_new(AllKnown(listing.total), Selection.ALL, limit=0, cursor=listing.cursor)
    mailbox.is_alive()
