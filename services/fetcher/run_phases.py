"""The phases of a run: what is new becomes durable, is committed, settled and handed on.

The order is the promise: octets in the store, then the ledger, and only then a change on the
server. Each line of `run.STEPS` may be the last one this process executes; the next run, on any
fetcher, goes on from what the ledger says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.fetcher.batch_fetching import Batches
from services.fetcher.gmail_dedupe import without_duplicates
from services.fetcher.quarantining import quarantine, undated
from services.fetcher.rebinding import end_rebinding, note_uid_validity, without_known_content
from services.fetcher.released_mails import released_beside
from services.fetcher.run import Run
from services.fetcher.settling import settle, settle_at_end, settle_leftovers, unless_stopped
from shared.clock import utc_now
from shared.connections import Selection
from shared.errors import MailFailure, TryAgain
from shared.mailbox.base import MOST_LOOKED_AT, AskingAhead, Known, Listing, MailRef
from shared.mailbox.failures import LoginTooSoon, Unreachable
from shared.mailbox.start_from_refusals import start_refusal
from shared.messages import Key
from shared.storage import folder_identity, leases, ledger, scheduling
from shared.storage.folder_ref import FolderRef
from shared.storage.key_contents import keep_vanished
from shared.storage.known_sets import add_known, drop_vanished, prune
from shared.telemetry import traces

#: Mails whose sizes are asked for at once; a larger backlog is listed again after these.
_LISTED_AT_ONCE = 5000
#: Known mails beyond those in the folder that may pile up before they are compared with it.
_FORGET_BEYOND: Final = 5000
#: How far a mail server's clock may be ahead of ours.
_CLOCKS_APART: Final = timedelta(minutes=10)


def fetch(run: Run) -> None:
    """Fills `run.report`, which holds what was reached also where an error ends the run.

    Raises the errors of `shared.mailbox`, LeaseLost, TryAgain for our own servers, or SessionBroke
    where it is to be called once more with a fresh session.
    """
    run.report.pause = run.mailbox.capabilities.login_delay
    run.report.settling_refused = None
    if not (run.changed or run.state.has_work) and _is_unchanged(run):
        run.report.idle = True
        _leave(run)
        return
    _open(run)
    if run.state.has_unsettled:
        settle_leftovers(run)
        if run.mailbox.capabilities.expires_days == 0:
            # Before a look into other mails, which QUIT could confirm as well: where the server
            # wants time between logins, it would never be said.
            settle_at_end(run)
            run.report.settled.clear()  # the list does not have them
    _check_start(run)
    if run.state.skip_existing:
        _skip_existing(run)
    try:
        _fetch_listings(run)
    except TryAgain as error:
        # What is committed is settled whatever stopped the run, as far as the server lets us.
        if isinstance(error, Unreachable) and not isinstance(error, LoginTooSoon):
            with unless_stopped(error):
                settle_at_end(run)
        raise
    if not run.report.session_broke:
        _leave(run)
    if run.report.settling_refused is not None:
        raise run.report.settling_refused
    run.tools.reached("finished")


def _leave(run: Run) -> None:
    mailbox, connection = run.mailbox, run.connection
    listens = connection.push and mailbox.capabilities.push and not run.report.again
    with contextlib.suppress(Unreachable):  # nothing is lost by it: the next poll notices
        if listens and isinstance(mailbox, AskingAhead):
            mailbox.waiting_is_next(connection.folder)
        else:
            mailbox.leave()


def _is_unchanged(run: Run) -> bool:
    return run.mailbox.changed_since(run.connection.folder, run.state.cursor) is None


def _open(run: Run) -> None:
    state, mailbox = run.state, run.mailbox
    looks_first = not (state.has_unsettled or state.skip_existing)
    if state.cursor is not None and looks_first and isinstance(mailbox, AskingAhead):
        mailbox.listing_is_next(
            run.connection.selection,
            state.start_since,
            state.cursor,
            count_known=state.lists_all,
        )
    status = mailbox.open(run.connection.folder)
    run.folder_ref = FolderRef(run.connection.id, run.connection.folder, status.uid_validity)
    note_uid_validity(run, status.cursor)


def _check_start(run: Run) -> None:
    refusal = start_refusal(
        run.mailbox.capabilities,
        by_date=run.state.start_since is not None and not run.state.skip_existing,
        skip_existing=run.state.skip_existing,
    )
    if refusal is not None:
        raise refusal


def _skip_existing(run: Run) -> None:
    folder_ref = run.folder_ref
    # Over POP3 a date would cost the header of each mail: there it is what the first look finds.
    since = None if run.connection.kind.start_depends else run.state.start_since
    keys = set(run.mailbox.keys())
    if since is not None:
        keys -= _arrived_since(run, since)
    with run.tools.database.transaction() as session:
        ledger.commit_batch(session, run.lease, folder_ref, ())
        add_known(
            session,
            folder_ref.connection_id,
            folder_ref.folder,
            folder_ref.uid_validity,
            list(keys),
        )
        folder_identity.record_skipped_existing(session, folder_ref.connection_id, before=since)
    run.unknown_from = None  # they are known now
    # Not what comes until a fresh session.
    run.state = replace(run.state, skip_existing=False, start_since=None)


def _arrived_since(run: Run, since: datetime) -> set[Key]:
    """What came after "from now on" was chosen and before this first look at the folder, by the
    server's dates: the server may have been away, or nobody took the connection. A date that is to
    come says nothing of when a mail came, and what was there before stays untouched."""
    known = run.known_mails()
    latest = utc_now() + _CLOCKS_APART
    listed = run.mailbox.list_new(known, Selection.ALL, since=since).new
    return {ref.key for ref in listed if ref.arrived is not None and ref.arrived <= latest}


def _fetch_listings(run: Run) -> None:
    """Lists and fetches until everything is handled, time is up, or a mail must be tried again."""
    run.set_deadline()
    run.report.absent |= run.tools.absent.of(run.folder_ref)
    known = run.known_mails()
    # An IMAP server is asked for all of it, and goes on from there; others begin anew.
    anew = run.state.lists_all and run.folder_ref.uid_validity is None
    while True:
        with traces.span("list", connection=run.connection.id) as span:
            listing = run.mailbox.list_new(
                _ButAbsent(known, run.report.absent),
                run.connection.selection,
                since=run.state.start_since,
                limit=_LISTED_AT_ONCE,
                cursor=None if anew else run.state.cursor,
                count_known=run.state.lists_all,
            )
            span.set_attribute("posthouse.mails", len(listing.new))
        run.tools.reached("listed")
        if _fetch_listing(run, known, listing):
            return


@dataclass(frozen=True, slots=True)
class _ButAbsent:
    """`Known` that asks for no mail again that was listed and is not there."""

    known: Known
    absent: Set[Key]

    def missing(self, keys: Sequence[Key]) -> list[Key]:
        return [key for key in self.known.missing(keys) if key not in self.absent]

    def count(self) -> int:
        return self.known.count()


def _fetch_listing(run: Run, known: Known, listing: Listing) -> bool:
    """Fetches what is new of one listing; whether the run ends with it."""
    listed, already_known, left = without_known_content(run, known, listing)
    new: Sequence[MailRef] = [*listed, *released_beside(run, known, listed)]
    run.report.found += len(new)
    labelled = without_duplicates(run, new)
    new = labelled.new
    if run.rebinding:
        settle_leftovers(run)
    settle(run, [*already_known, *labelled.duplicates])
    handled = Batches(run, new, more=not listing.complete).fetch()
    if run.is_over and not (handled and listing.complete):
        run.tools.absent.remember(run.folder_ref, run.report.absent)
    else:
        run.tools.absent.forget(run.folder_ref)
    left = left | run.in_doubt.left
    undecided = labelled.undecided or bool(left)
    refused = [(ref, error) for ref, error in listing.undated if isinstance(error, MailFailure)]
    quarantine(run, [undated(ref, error) for ref, error in refused])
    if not run.report.session_broke and listing.not_listed is None:
        _forget_vanished(run, known, listing, left)
    if not handled or listing.complete or undecided or run.is_over:
        settle_at_end(run)
    passing = next((error for _, error in listing.undated if isinstance(error, TryAgain)), None)
    if passing is not None:
        raise passing
    full = run.report.store_full
    if full is not None and handled and (listing.complete or not run.report.downloaded):
        raise full
    if listing.not_listed is not None and handled and listing.complete:
        raise listing.not_listed
    # A server that goes on listing what it has not got is not to be asked for that without a pause.
    in_vain = bool(run.report.absent) and not run.report.downloaded
    if not handled:
        run.report.again = not in_vain
        return True
    if undecided or (run.report.absent and listing.complete):
        run.report.again |= bool(left and new) and not run.in_doubt.contents
        return True  # without a cursor: the next interval looks again
    if listing.complete:
        _keep_cursor(run, listing)
        # A server that lists its oldest mails only has others once these are let go of.
        run.report.again = run.mailbox.capabilities.window and bool(new)
        return True
    run.report.again |= run.is_over and not in_vain
    return run.is_over


def _keep_cursor(run: Run, listing: Listing) -> None:
    """Everything in the folder is handled: the next poll asks for what changes from here on."""
    run.report.cursor = run.mailbox.cursor_after(
        listing.cursor, run.report.settled, run.connection.after_download
    )
    run.report.keep_cursor = True
    if run.rebinding:
        end_rebinding(run)


def _forget_vanished(run: Run, known: Known, listing: Listing, left: Set[Key]) -> None:
    """Forgets the vanished mails: whenever all is listed, else once a day. What is `left` to be
    compared stays vanished, as nobody would look at it any more.

    What is known of IMAP mails is packed once a day, too. Of a folder in which nothing is known and
    nothing is found there is neither (`record_first_uid_validity` says when it was looked at).
    """
    folder_ref, listed, once_a_day = run.folder_ref, listing.listed, run.state.prune_due
    if (listed is None and not once_a_day) or (run.nothing_known and not run.report.found):
        return
    few_enough = listing.total <= MOST_LOOKED_AT
    if listed is None and few_enough and _has_piled_up(run, known, listing):
        listed = run.mailbox.keys()
    where = (folder_ref.connection_id, folder_ref.folder, folder_ref.uid_validity)
    with run.tools.database.transaction() as session:
        leases.assert_held(session, run.lease)
        if listed is None:
            drop_vanished(session, folder_ref.connection_id, folder_ref.folder)
        else:
            if left:
                keep_vanished(session, folder_ref, map(str, left))
                listed = [key for key in listed if key not in left]
            prune(session, *where, listed, packing=once_a_day)
        if once_a_day:
            scheduling.record_pruning(session, folder_ref.connection_id)


def _has_piled_up(run: Run, known: Known, listing: Listing) -> bool:
    """Whether it is worth asking for the key of every mail in the folder, which at Graph takes a
    request for each thousand."""
    if run.folder_ref.uid_validity is not None:
        return True
    return known.count() > listing.total + _FORGET_BEYOND
