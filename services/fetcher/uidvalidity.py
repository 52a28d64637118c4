"""After a folder was re-created (another UIDVALIDITY): which mails came before?

A restored backup or a migrated server numbers the same mails anew. Their header blocks are the
same, octet for octet, down to the Received fields; a mail sent twice differs there.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.fetcher.run import Run
from shared.connections import AfterDownload, Selection
from shared.mail.summary import header_digest, header_octets
from shared.mailbox.base import Cursor, MailRef, is_another_folder
from shared.storage import leases, ledger, scheduling
from shared.storage.known_sets import add_known
from shared.storage.known_sets import rebind as match


def note_uid_validity(run: Run, now: Cursor) -> None:
    """Decides whether mails must be recognised by content, as the folder was re-created."""
    state, place = run.state, run.place
    run.rebinding = state.validity_changed_at is not None
    if place.uid_validity is None:
        return
    if state.uid_validity is None:
        # Noted before anything is committed under it: this run may break off, and the folder may
        # be another one when the next run comes.
        with run.tools.database.transaction() as session:
            scheduling.first_validity(session, place.connection_id, place.uid_validity)
    elif state.uid_validity != place.uid_validity:
        with run.tools.database.transaction() as session:
            scheduling.validity_changed(session, place.connection_id, place.uid_validity)
        run.rebinding = True
    elif state.cursor is not None and is_another_folder(state.cursor, now):
        with run.tools.database.transaction() as session:
            scheduling.another_folder(
                session, place.connection_id, place.folder, place.uid_validity
            )
        run.rebinding = True


def rebind(run: Run, refs: Sequence[MailRef]) -> list[MailRef]:
    """Those of `refs` that are really new. The others become known under their new UIDs, and are
    to be settled where the folder shows them as they were before (a restored backup).

    Mails skipped when the connection was enabled have no digest; they are told by their arrival.
    """
    place, skipped_before = run.place, run.state.skipped_before
    assert place.uid_validity is not None
    digests: dict[int, bytes] = {}
    for ref, block in run.mailbox.headers([*refs, *_maybe_flagged(run, refs)]):
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
        and (run.connection.after_download is AfterDownload.DELETE or ref.seen is not True)
    }
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        known = match(
            session, place.connection_id, place.folder, place.uid_validity, digests, unsettled
        )
        if skipped:
            add_known(session, place.connection_id, place.folder, place.uid_validity, skipped)
    return [ref for ref in refs if ref.key not in known and ref.key not in skipped]


def _maybe_flagged(run: Run, refs: Sequence[MailRef]) -> list[MailRef]:
    """The mails beside `refs`, where we flagged some deleted that could not be removed: no listing
    shows those as new, and taken for somebody else's they would end all deletion for ever."""
    with run.tools.database.transaction() as session:
        if not ledger.has_flagged_elsewhere(session, run.place):
            return []
    everything, listed = run.mailbox.keys(), {ref.key for ref in refs}
    return [MailRef(key, 0) for key in everything if key not in listed]


def end_rebinding(run: Run) -> None:
    """Everything that can be seen was compared; what else the old folder had is vanished."""
    with run.tools.database.transaction() as session:
        ledger.drop_stale_settlements(session, run.place)
        if run.connection.selection is Selection.ALL or run.place.uid_validity is None:
            scheduling.recognition_over(session, run.place.connection_id, run.place.folder)
