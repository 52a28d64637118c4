"""Mails of an IMAP folder that were skipped when it was enabled, once the folder is made anew.

Nothing is known of them but their UIDs, which are others now: "only from now on" was chosen. While
mails are copied to the new folder they are told by the dates of their arrival. Where only unread
mails are fetched, that would go on for ever: read ones may be set unread at any time.
"""

from __future__ import annotations

from datetime import timedelta

from services.fetcher.run import Run
from shared.clock import utc_now
from shared.connections import Selection
from shared.mailbox.base import MailRef
from shared.storage import folder_identity, known_sets, leases


def was_skipped(run: Run, ref: MailRef) -> bool:
    """Whether a mail of the new folder is one of those, by its arrival."""
    before = run.state.skipped_before
    if before is None or ref.arrived is None or run.state.skipped_known:
        return False
    return ref.arrived < before


def end_skipping(run: Run) -> None:
    """Makes the skipped mails known by their new UIDs, those that were read as well, some days
    after the folder was made anew: what else comes from then on is new, however old it is.

    To be called once all that is new was handled. Raises LeaseLost, and what listing raises.
    """
    state, folder_ref = run.state, run.folder_ref
    if state.skipped_before is None or state.skipped_known or folder_ref.uid_validity is None:
        return
    changed_at = state.validity_changed_at
    if changed_at is None or utc_now() - changed_at < timedelta(
        days=folder_identity.REBINDING_DAYS
    ):
        return
    listed = run.mailbox.list_new(run.known_mails(), Selection.ALL).new
    keys = [ref.key for ref in listed if was_skipped(run, ref)]
    where = (folder_ref.connection_id, folder_ref.folder, folder_ref.uid_validity)
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        known_sets.add_known(session, *where, keys)
        folder_identity.record_skipped_known(session, folder_ref.connection_id)
