"""Keys that the server listed no more for a while, and lists again: of the same mail or another.

A POP3 server may give the UIDL of a mail that is gone to a new one (RFC 1939 section 7), as one
does that counts its mails: by the key alone that would be had already, and never come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.fetcher.run import Run
from shared.connections import AfterDownload
from shared.mail.summary import header_digest, header_octets
from shared.mailbox.base import MailRef
from shared.mailbox.pop3.dates import first_date
from shared.messages import Key
from shared.storage import leases
from shared.storage.key_contents import reappeared, set_aside

#: Mails whose headers are compared, those listed last: a server that showed an empty mailbox for an
#: hour lists all of them again.
_MOST_COMPARED: Final = 200


def reused(run: Run, listed: Sequence[Key] | None) -> tuple[list[MailRef], list[MailRef]]:
    """Of the keys that are `listed` again: those that name other mails now, which are new, and
    those whose mails are back, which are to be settled once more. Where no key came back, it costs
    a question to Postgres.
    """
    if not listed or not run.mailbox.capabilities.reuses_keys:
        return [], []
    place = run.place
    with run.tools.database.autocommit() as session:
        before = reappeared(session, place, [str(key) for key in listed])
    refs = [MailRef(key, 0) for key in listed if key in before][-_MOST_COMPARED:]
    if not refs:
        return [], []
    blocks: dict[Key, bytes] = {}
    if run.mailbox.capabilities.dates:
        blocks = {ref.key: header_octets(block) for ref, block in run.mailbox.headers(refs)}
    other = [ref for ref in refs if _is_other(run, before[str(ref.key)], blocks.get(ref.key))]
    if other:
        with run.tools.database.transaction() as session:
            leases.assert_held(session, run.lease)
            set_aside(session, place, [str(ref.key) for ref in other])
    new = {ref.key for ref in other}
    same = [ref for ref in refs if ref.key not in new and before[str(ref.key)]]
    return other, same if run.connection.after_download is AfterDownload.DELETE else []


def _is_other(run: Run, content: bytes, header: bytes | None) -> bool:
    """Whether a mail with this header is another one than that with this digest (empty: it was
    never fetched)."""
    if header is None:  # not shown: who had his mail deleted is believed to have another one now
        return run.connection.after_download is AfterDownload.DELETE
    if content:
        return header_digest(header) != content
    arrived, skipped_before = first_date(header), run.state.skipped_before
    return skipped_before is None or arrived is None or arrived >= skipped_before
