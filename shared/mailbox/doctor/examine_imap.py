"""What a run may ask of an IMAP mailbox, in sessions that only look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from shared.connections import Selection
from shared.errors import PosthouseError
from shared.mailbox.base import Cursor, Mailbox, MailRef, NothingKnown
from shared.mailbox.doctor.examination import (
    LONG_AGO,
    SAMPLES,
    Examination,
    download,
    look_up_by_name,
    opened,
    smallest,
)
from shared.mailbox.imap.flags import read_flags
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.imap.search import around, search, searches
from shared.mailbox.push_loop import PushLoop
from shared.quantities import counted

#: Seconds for IDLE to be taken and left.
_IDLE_S: Final = 15.0


def examine(found: Examination) -> None:
    """Every form, part by part; each part in a session of its own, as one may break it."""
    ways: list[str] = []
    refs: list[MailRef] = []

    def log_in(mailbox: Mailbox) -> None:
        assert isinstance(mailbox, ImapMailbox)
        ways.extend(mailbox.session.login_ways[1:])

    parts: list[tuple[str, Callable[[Mailbox], None]]] = [
        ("logging in", log_in),
        ("listing the folders", lambda mailbox: _folders(found, mailbox)),
        ("looking for a folder", lambda mailbox: look_up_by_name(found, mailbox)),
        ("listing and downloading", lambda mailbox: _listing(found, mailbox, refs)),
        ("reading header blocks", lambda mailbox: _headers(found, mailbox, refs)),
        ("searching as after a cut answer", lambda mailbox: _searching(found, mailbox)),
        ("polling", lambda mailbox: _polling(found, mailbox)),
        ("waiting for new mails", lambda mailbox: _idling(found, mailbox)),
    ]
    for number, (doing, part) in enumerate(parts):
        if not found.left(doing):
            continue
        with found.part(doing), found.session(fresh=not number) as mailbox:
            part(mailbox)
        if number == 0 and found.failures:
            return  # nobody is let in: whatever else is asked gets the same answer
    found.try_other_ways(ways)
    found.not_asked.append(
        ("SELECT, UID STORE, UID EXPUNGE, EXPUNGE, UID MOVE", "they change the mailbox")
    )


def _folders(found: Examination, mailbox: Mailbox) -> None:
    found.folders = mailbox.folders()
    shut = sum(not folder.selectable for folder in found.folders)
    found.notes.append(
        f"The mailbox has {counted(len(found.folders), 'folder')}"
        + (f", {shut} cannot be opened." if shut else ".")
    )


def _listing(found: Examination, mailbox: Mailbox, refs: list[MailRef]) -> None:
    """Lists, and downloads a mail; `refs` gets those that were listed."""
    total = opened(found, mailbox)
    known = NothingKnown()
    listing = mailbox.list_new(known, Selection.UNREAD, limit=SAMPLES)
    everything = mailbox.list_new(known, Selection.ALL, limit=SAMPLES, count_known=True)
    mailbox.list_new(known, Selection.ALL, limit=0, since=LONG_AGO)
    mailbox.list_new(known, Selection.ALL, limit=0, cursor=listing.cursor)
    searched = everything.known + everything.new_count
    if searched != total:
        held = counted(total, "mail")
        found.notes.append(f"A search finds {searched:,} of the {held} that the folder has.")
    refs.extend(everything.new)
    download(found, mailbox, smallest(everything))


def _headers(found: Examination, mailbox: Mailbox, refs: list[MailRef]) -> None:
    """In a session of its own: a server that refuses header blocks may give the mails."""
    if not refs:
        return
    mailbox.open(found.mailbox)
    heads = list(mailbox.headers(refs))
    if len(heads) < len(refs):
        found.notes.append(
            f"Of {counted(len(refs), 'mail')} {counted(len(heads), 'header block')} came: "
            "mails whose header does not come are not recognised when a folder is re-created."
        )


def _searching(found: Examination, mailbox: Mailbox) -> None:
    """What is asked where an answer was cut, after settling, and where a run is in doubt."""
    assert isinstance(mailbox, ImapMailbox)
    total = opened(found, mailbox)
    session = mailbox.session
    # `UNDELETED` and `DELETED` are asked after a deletion: as searches they change nothing.
    searches(session, [b"UNSEEN", b"UNDELETED", b"DELETED"])
    for query in (b"UNSEEN UNDELETED", b"UNSEEN", b"DELETED", b"ALL", b"SINCE 1-Jan-1990"):
        searches(session, around(query, 2, 3))
    search(session, b"UID 1")
    if total and not read_flags(session, 1):
        found.notes.append(
            "The server does not give the flags of a mail: where a search leaves mails out, the "
            "connection fails."
        )


def _polling(found: Examination, mailbox: Mailbox) -> None:
    total = opened(found, mailbox)
    cursor: Cursor = mailbox.list_new(NothingKnown(), Selection.ALL, limit=0).cursor
    mailbox.keys()
    if mailbox.changed_since(found.connection.folder, cursor) is not None and total:
        found.notes.append(
            "The folder looks changed right after it was looked at, so each poll looks through it."
        )
    if not mailbox.is_alive():
        found.notes.append("The session did not outlast NOOP: a session is opened for each run.")


def _idling(found: Examination, mailbox: Mailbox) -> None:
    if not mailbox.capabilities.push:
        found.not_asked.append(("IDLE", "the server does not offer it: polls find new mails"))
        return
    lost: list[PosthouseError] = []
    ended = threading.Event()

    def on_lost(_: object, error: PosthouseError) -> None:
        lost.append(error)
        ended.set()

    with PushLoop(lambda _: None, on_lost) as loop:
        loop.watch("doctor", mailbox, found.connection.folder)
        loop.release("doctor", timeout_s=_IDLE_S)
    if lost:
        raise lost[0]
