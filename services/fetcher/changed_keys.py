"""After every key of a mailbox changed (POP3's UIDLs, Graph's ids): which mails are known already?

A migrated server, or one that began to form its ids in another way, lists the same mails under keys
that nobody knows. Taken for new they would flood the handlers. Their header blocks are the same.
"""

from __future__ import annotations

from services.fetcher.run import Run
from shared.mail.summary import header_digest, header_octets
from shared.mailbox.base import Known, Listing, MailRef
from shared.mailbox.pop3.dates import first_date
from shared.storage import leases
from shared.storage.key_contents import rebind_keys
from shared.storage.known_sets import add_known

#: Of the known keys, one in so many may still be listed: what came in between changed no key.
_FEW = 10


def keys_changed(known: Known, listing: Listing) -> bool:
    """Whether a full listing has new keys and (nearly) none of those that are known.

    Somebody who clears a mailbox makes it look the same: then no content is known either, and
    the look at the headers was in vain.
    """
    if listing.listed is None or not listing.new_count:
        return False
    already_known = known.count()
    if not already_known:
        return False
    still = len(listing.listed) - len(known.missing(listing.listed))
    return still * _FEW <= already_known


def rebind_by_headers(run: Run, listing: Listing) -> tuple[list[MailRef], list[MailRef]]:
    """Of the new mails those that are really new, and those that were known under another key.

    A mail that was skipped when the connection was enabled has no digest; it is told by its date,
    and is neither. Where the server shows no headers, all seem new: see `gmail_dedupe.commit`.
    """
    skipped_before = run.state.skipped_before
    if not run.mailbox.capabilities.dates:
        return list(listing.new), []
    digests: dict[str, bytes] = {}
    skipped: list[str] = []
    for ref, block in run.mailbox.headers(listing.new):
        head = header_octets(block)
        digests[str(ref.key)] = header_digest(head)
        arrived = ref.arrived or first_date(head)
        if skipped_before is not None and arrived is not None and arrived < skipped_before:
            skipped.append(str(ref.key))
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        listed = [str(key) for key in listing.listed or ()]
        already_known = rebind_keys(session, run.place, listed, digests)
        passed_over = [key for key in skipped if key not in already_known]
        if passed_over:
            add_known(session, run.place.connection_id, run.place.folder, None, passed_over)
    left_out = {*already_known, *passed_over}
    return (
        [ref for ref in listing.new if ref.key not in left_out],
        [ref for ref in listing.new if ref.key in already_known],
    )
