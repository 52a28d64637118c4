"""Mails that a person released from quarantine: fetched whether or not they are listed as new.

Where unread mails are fetched, whoever had a look at the mail with another program has read it; and
it may have arrived before the date from which the connection starts now.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from services.fetcher.run import Run
from shared.mailbox.base import Known, MailRef
from shared.messages import Key
from shared.storage import download_failures

_log = structlog.get_logger(__name__)


def released_beside(run: Run, known: Known, listed: Sequence[MailRef]) -> list[MailRef]:
    """Those that are not among the `listed` new ones. Of their sizes nothing is known."""
    if not run.state.has_failed_downloads:
        return []
    with run.tools.database.autocommit() as session:
        found = download_failures.released(session, run.folder_ref)
    there = {ref.key for ref in listed}
    return [MailRef(key, 0) for key in known.missing([key for key in found if key not in there])]


def forget_vanished_releases(run: Run, keys: Sequence[Key]) -> None:
    """These are not on their server any more."""
    if keys:
        _log.warning("released mails are gone from their server", mails=len(keys))
        with run.tools.database.transaction() as session:
            download_failures.forget(session, run.folder_ref, keys)
