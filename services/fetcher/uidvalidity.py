"""After a folder was re-created (another UIDVALIDITY): which mails are old acquaintances?

A restored backup or a migrated server numbers the same mails anew. Their header blocks are the
same, octet for octet, down to the Received fields; a mail sent twice differs there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.connections import AfterDownload
from shared.mail.summary import header_digest, header_octets
from shared.mailbox.base import Mailbox, MailRef
from shared.storage import leases
from shared.storage.known import know
from shared.storage.known import recognise as match
from shared.storage.leases import Lease
from shared.storage.ledger import Place
from shared.storage.pool import Database


def recognise(
    database: Database,
    lease: Lease,
    place: Place,
    mailbox: Mailbox,
    refs: Sequence[MailRef],
    skipped_before: datetime | None,
    after_download: AfterDownload,
) -> list[MailRef]:
    """Those of `refs` that are really new. The others become known under their new UIDs, and are
    to be settled where the folder shows them as they were before (a restored backup).

    Mails skipped when the connection was enabled have no digest; they are told by their arrival.
    """
    assert place.uid_validity is not None
    digests: dict[int, bytes] = {}
    for ref, block in mailbox.headers(refs):
        if isinstance(ref.key, int):
            digests[ref.key] = header_digest(header_octets(block))
    skipped = [
        ref.key
        for ref in refs
        if skipped_before is not None and ref.arrived is not None and ref.arrived < skipped_before
    ]
    unsettled = {
        ref.key
        for ref in refs
        if isinstance(ref.key, int)
        and (after_download is AfterDownload.DELETE or ref.seen is not True)
    }
    with database.transaction() as session:
        leases.assert_held(session, lease)
        known = match(
            session, place.connection_id, place.folder, place.uid_validity, digests, unsettled
        )
        if skipped:
            know(session, place.connection_id, place.folder, place.uid_validity, skipped)
    return [ref for ref in refs if ref.key not in known and ref.key not in skipped]
