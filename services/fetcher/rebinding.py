"""Finds by content the mails that are known already, although every key they have is a new one.

A folder was re-created (another UIDVALIDITY), as by a restored backup, or a migrated server forms
its keys in another way (POP3's UIDLs, Graph's ids). Taken for new the same mails would flood the
handlers. Their header blocks are the same, octet for octet, down to the Received fields; a mail
sent twice differs there. A block that says nothing of the sort (`is_telling`) may be that of a new
mail as well, which would be deleted unread: it is fetched. Where keys changed and it has a date,
all of its octets recognise it (`commit`); else it is handed over, if need be once more.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from services.fetcher.reused_keys import reused, same_as_before
from services.fetcher.run import Committed, Run
from services.fetcher.skipped_mails import end_skipping, was_skipped
from services.fetcher.storing import Intake
from shared.clock import utc_now
from shared.connections import AfterDownload, Selection
from shared.mail.arrival_date import arrival_date
from shared.mail.summary import header_digest, header_octets, is_telling
from shared.mailbox.base import Cursor, Known, Listing, MailRef, is_another_folder
from shared.messages import Key
from shared.storage import folder_identity, known_sets, leases, ledger, settlements
from shared.storage.key_contents import rebind_keys
from shared.storage.pool import Session

#: Of the known keys, one in so many may still be listed: what came in between changed no key.
_FEW: Final = 10


def note_uid_validity(run: Run, now: Cursor) -> None:
    """Decides whether mails are to be rebound, as the folder was re-created."""
    state, folder_ref = run.state, run.folder_ref
    run.rebinding = state.validity_changed_at is not None
    if folder_ref.uid_validity is None:
        return
    if state.uid_validity is None:
        # Noted before anything is committed under it: this run may break off, and the folder may
        # be another one when the next run comes.
        with run.tools.database.autocommit() as session:
            history = folder_identity.record_first_uid_validity(
                session,
                run.lease,
                folder_ref.connection_id,
                folder_ref.folder,
                folder_ref.uid_validity,
            )
        run.nothing_known = history.nothing_known and not state.skip_existing
        if history.knows_earlier:  # the connection read it once, and another folder in between
            _begin_rebinding(run)
    elif state.uid_validity != folder_ref.uid_validity:
        _begin_rebinding(run)
    elif state.cursor is not None and is_another_folder(state.cursor, now):
        _begin_rebinding(run, another_folder=True)


def _begin_rebinding(run: Run, *, another_folder: bool = False) -> None:
    """From now on mails are compared, also in a fresh session of this run: with the state of before
    it would retire the keys of what was committed, or take those that were rebound for unchanged
    ones. Raises LeaseLost, as after an edit, which decides it anew."""
    folder_ref = run.folder_ref
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        if another_folder and folder_ref.uid_validity is not None:
            folder_identity.begin_another_folder(
                session, folder_ref.connection_id, folder_ref.folder, folder_ref.uid_validity
            )
        else:
            folder_identity.record_uid_validity_change(
                session, folder_ref.connection_id, folder_ref.uid_validity
            )
    run.rebinding = True
    run.state = replace(
        run.state,
        cursor=None,
        uid_validity=folder_ref.uid_validity,
        validity_changed_at=utc_now(),
        skipped_known=False,
    )


def without_known_content(
    run: Run, known: Known, listing: Listing
) -> tuple[Sequence[MailRef], Sequence[MailRef], Set[Key]]:
    """The new mails, those that came before and are to be settled, and the keys of which it is
    still to be found out whether they name other mails now."""
    found = reused(run, listing)
    listing = replace(listing, new=(*found.other, *listing.new)) if found.other else listing
    new, already_known = _recognised(run, known, listing)
    return new, [*already_known, *found.back], found.left


def _recognised(
    run: Run, known: Known, listing: Listing
) -> tuple[Sequence[MailRef], Sequence[MailRef]]:
    if run.folder_ref.uid_validity is not None:
        return (_rebind_uids(run, listing.new) if run.rebinding else listing.new), ()
    if run.rebinding:
        return _rebind_keys(run, listing)
    kept = _kept(run, known, listing)
    if kept.nearly_none:
        _begin_rebinding(run)
        return _rebind_keys(run, listing)
    if kept.not_all and listing.new and _changes_keys(run):
        return _rebind_changed(run, listing)
    return listing.new, ()


def commit(run: Run, session: Session, intake: Intake) -> Committed:
    """Records a batch (`ledger.commit_batch`) but for what is known under another key, or was known
    under its own, where the server showed no headers before. Raises LeaseLost."""
    leases.assert_held(session, run.lease)
    same = {str(key) for key in same_as_before(run, session, intake)}
    contents = {
        message.native_key: message.header_digest
        for message in intake.messages
        if run.rebinding
        and message.native_key not in same
        and (message.headers.message_id or message.headers.date)
    }
    rebound = rebind_keys(session, run.folder_ref, (), contents)
    known = rebound.keys | same
    new = [m for m in intake.messages if m.native_key not in known]
    ledger.commit_batch(session, run.lease, run.folder_ref, new, intake.refused)
    kept = known - rebound.unsettled if run.removes else frozenset[str]()
    return Committed(
        new,
        [ref for ref in intake.refs if ref.key not in kept],
        [ref for ref in intake.refs if ref.key in kept],
    )


def end_rebinding(run: Run) -> None:
    """Everything that can be seen was compared; what else the old folder had is vanished, as far as
    nobody still copies mails to where they are now.

    Where only unread mails are seen, others may be set unread at any time, and are compared then.
    """
    sees_all = run.connection.selection is Selection.ALL or run.folder_ref.uid_validity is None
    with run.tools.database.transaction() as session:
        settlements.drop_stale_settlements(session, run.folder_ref, folder_identity.REBINDING_DAYS)
        if sees_all:
            folder_identity.end_rebinding(
                session, run.folder_ref.connection_id, run.folder_ref.folder
            )
    if not sees_all:
        end_skipping(run)


@dataclass(frozen=True, slots=True)
class _Kept:
    """How many keys were known, and how many of them a full listing still has."""

    before: int
    still: int

    @property
    def nearly_none(self) -> bool:
        """Somebody who clears a mailbox makes it look like a change of every key: then no content
        is known either, and the look at the headers was in vain. An empty one counts: it may be
        that of another server, to which the mails are still to be copied."""
        return self.before > 0 and self.still * _FEW <= self.before

    @property
    def not_all(self) -> bool:
        return self.before > self.still


def _kept(run: Run, known: Known, listing: Listing) -> _Kept:
    """Nothing is said of an empty listing where the server lets go of what was retrieved."""
    if listing.listed is None:
        return _Kept(0, 0)
    if not listing.listed and run.mailbox.capabilities.expires_days == 0:
        return _Kept(0, 0)
    before = known.count()
    if not before:
        return _Kept(0, 0)
    return _Kept(before, len(listing.listed) - len(known.missing(listing.listed)))


def _changes_keys(run: Run) -> bool:
    """Whether keys may come where others are gone that nobody here deleted: a POP3 server may form
    them of what changes once a mail was read, as its header with `Status:` or the name of its file.

    Not where what was retrieved goes by itself (EXPIRE 0): to look would cost a login each time.
    """
    can = run.mailbox.capabilities
    return can.reuses_keys and can.dates and can.expires_days != 0


def _rebind_changed(run: Run, listing: Listing) -> tuple[list[MailRef], list[MailRef]]:
    """Of the new mails those that are really new, and those whose keys changed just now."""
    shown = [(ref, header_octets(block)) for ref, block in run.mailbox.headers(listing.new)]
    digests = {str(ref.key): header_digest(head) for ref, head in shown if is_telling(head)}
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        listed = [str(key) for key in listing.listed or ()]
        rebound = rebind_keys(session, run.folder_ref, listed, digests, just_now=True)
    to_settle = rebound.unsettled if run.removes else rebound.keys
    return (
        [ref for ref in listing.new if ref.key not in rebound.keys],
        [ref for ref in listing.new if ref.key in to_settle],
    )


def _rebind_keys(run: Run, listing: Listing) -> tuple[list[MailRef], list[MailRef]]:
    """Of the new mails those that are really new, and those that were known under another key and
    are to be settled: where they are gone then, only what was to go before.

    A mail that was skipped when the connection was enabled has no digest; it is told by its date,
    and is neither. Where the server shows no headers, all seem new: see `commit`.
    """
    skipped_before = run.state.skipped_before
    if not run.mailbox.capabilities.dates:
        return list(listing.new), []
    digests: dict[str, bytes] = {}
    skipped: list[str] = []
    for ref, block in run.mailbox.headers(listing.new):
        head = header_octets(block)
        if is_telling(head):
            digests[str(ref.key)] = header_digest(head)
        arrived = ref.arrived or arrival_date(head)
        if skipped_before is not None and arrived is not None and arrived < skipped_before:
            skipped.append(str(ref.key))
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        listed = [str(key) for key in listing.listed or ()]
        rebound = rebind_keys(session, run.folder_ref, listed, digests)
        passed_over = [key for key in skipped if key not in rebound.keys]
        if passed_over:
            known_sets.add_known(
                session, run.folder_ref.connection_id, run.folder_ref.folder, None, passed_over
            )
    left_out = {*rebound.keys, *passed_over}
    to_settle = rebound.unsettled if run.removes else rebound.keys
    return (
        [ref for ref in listing.new if ref.key not in left_out],
        [ref for ref in listing.new if ref.key in to_settle],
    )


def _rebind_uids(run: Run, refs: Sequence[MailRef]) -> list[MailRef]:
    """Those of `refs` that are really new. The others become known under their new UIDs, and are
    to be marked read where the folder shows them unread as before (a restored backup). What we
    deleted is not known any more, so those that are recognised are deleted only where that was
    still to be done.

    Mails skipped when the connection was enabled have no digest; they are told by their arrival.
    """
    folder_ref = run.folder_ref
    assert folder_ref.uid_validity is not None
    digests: dict[int, bytes] = {}
    for ref, block in run.mailbox.headers([*refs, *_maybe_flagged(run, refs)]):
        head = header_octets(block)
        if isinstance(ref.key, int) and is_telling(head):
            digests[ref.key] = header_digest(head)
    skipped = [ref.key for ref in refs if was_skipped(run, ref)]
    marks = run.connection.after_download is AfterDownload.MARK_READ
    unread = {
        ref.key for ref in refs if marks and isinstance(ref.key, int) and ref.seen is not True
    }
    where = (folder_ref.connection_id, folder_ref.folder, folder_ref.uid_validity)
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        known = known_sets.rebind(session, *where, digests, unread)
        if skipped:
            known_sets.add_known(session, *where, skipped)
    return [ref for ref in refs if ref.key not in known and ref.key not in skipped]


def _maybe_flagged(run: Run, refs: Sequence[MailRef]) -> list[MailRef]:
    """The mails beside `refs`, where we flagged some deleted that could not be removed: no listing
    shows those as new, and taken for somebody else's they would end all deletion for ever."""
    with run.tools.database.transaction() as session:
        if not settlements.has_flagged_elsewhere(session, run.folder_ref):
            return []
    everything, listed = run.mailbox.keys(), {ref.key for ref in refs}
    return [MailRef(key, 0) for key in everything if key not in listed]
