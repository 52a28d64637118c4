"""One run of one connection: what is new becomes durable, is committed, settled and handed on.

The order is the promise: bytes in the store, then the ledger, and only then a change on the
server. Each line of `STEPS` may be the last one this process executes; the next run, on any
fetcher, goes on from what the ledger says.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

import structlog
from structlog.contextvars import get_contextvars

from services.fetcher.changed_keys import keys_changed, recognise_by_headers
from services.fetcher.downloading import Downloads
from services.fetcher.gmail_dedupe import Committed, commit, without_doubles
from services.fetcher.intake import Intake, batches
from services.fetcher.prefetch import pipelined
from services.fetcher.settings import FetcherSettings
from services.fetcher.uidvalidity import recognise
from shared.connections import AfterDownload, Connection, Selection
from shared.errors import MailFailure, PosthouseError, TryAgain
from shared.jobs import FETCH_QUEUE, FETCH_SLOW_QUEUE
from shared.mailbox.base import (
    Cursor,
    LoginTooSoon,
    Mailbox,
    MailRef,
    StepFailed,
    Unreachable,
    is_another_folder,
)
from shared.mailbox.errors.refused_mails import MailRefused
from shared.mailbox.start_rules import start_refusal
from shared.messages import Key
from shared.storage import download_failures, ledger, scheduling
from shared.storage.download_failures import DownloadFailure
from shared.storage.known import KnownMails, know, prune
from shared.storage.leases import Lease
from shared.storage.ledger import Place, Refused
from shared.storage.pool import Database, Session
from shared.storage.scheduling import RunState
from shared.store import Store
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: Where a process may die; the interruption tests do, at every one.
STEPS: Final = (
    "listed",
    "downloaded",
    "stored",
    "committed",
    "handed-on",
    "server-settled",
    "settled",
    "finished",
)

#: A run that took longer than this is slow: its next one goes to the other lane.
SLOW_SECONDS = 2.0
_UNSETTLED_AT_ONCE = 1000
#: Errors of Graph that are no StepFailed.
_BUSY: Final = frozenset({"mailbox-busy", "broken-off", "timeout", "unreachable"})
#: Where a server wants more time than this between logins, a run does not last as long.
_LONGEST_SLICE_S = 300.0
#: Mails whose sizes are asked for at once; a larger backlog is listed again after these.
_LISTED_AT_ONCE = 5000


@dataclass(slots=True)
class Report:
    """What a run did; `cursor` is to be kept where everything in the folder was handled."""

    found: int = 0
    downloaded: int = 0
    octets: int = 0
    again: bool = False
    idle: bool = False
    cursor: Cursor | None = None
    keep_cursor: bool = False
    uid_validity: int | None = None
    session_broke: bool = False
    settled: list[MailRef] = field(default_factory=list)
    #: Committed, and to be settled at the end of the run (`Capabilities.settles_by_ending`).
    unsettled: list[MailRef] = field(default_factory=list)
    #: Seconds that the server wants until the next login.
    pause: float = 0.0
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def duration_ms(self) -> int:
        return int(((self.ended or time.monotonic()) - self.started) * 1000)

    @property
    def lane(self) -> str:
        slow = self.again or self.duration_ms > SLOW_SECONDS * 1000
        return FETCH_SLOW_QUEUE if slow else FETCH_QUEUE


@dataclass(frozen=True, slots=True)
class Fetching:
    """What every run of this fetcher works with.

    `hand_on` sends decrypt jobs; `reached` is told every step by name; `stopping` says that the
    process shall end: the batch in hand is finished, no other begun.
    """

    database: Database
    store: Store
    settings: FetcherSettings
    hand_on: Callable[[Sequence[uuid.UUID]], None]
    stopping: Callable[[], bool]
    reached: Callable[[str], None]

    def run(
        self,
        connection: Connection,
        state: RunState,
        lease: Lease,
        mailbox: Mailbox,
        report: Report,
        *,
        changed: bool = False,
    ) -> None:
        """Fills `report`, which holds what was reached also where an error ends the run.

        `changed`: that there is something new is known already, so it is not asked for first.
        Raises the errors of `shared.mailbox`, LeaseLost, or TryAgain for our own servers.
        """
        report.pause = mailbox.capabilities.login_delay
        if not (changed or state.needs_look):
            status = mailbox.changed_since(connection.folder, state.cursor)
            if status is None:
                report.idle = True
                return
        status = mailbox.open(connection.folder)
        place = Place(connection.id, connection.folder, status.uid_validity)
        report.uid_validity = status.uid_validity
        recognising = self._note_validity(state, place, status.cursor)
        if state.has_unsettled:
            self._settle_leftovers(connection, place, mailbox, report)
        refusal = start_refusal(
            mailbox.capabilities,
            by_date=state.start_since is not None,
            skip_existing=state.skip_existing,
        )
        if refusal is not None:
            raise refusal
        if state.skip_existing:
            self._skip_existing(lease, place, mailbox)
        try:
            self._fetch(connection, state, lease, place, mailbox, report, recognising)
        except TryAgain as error:
            # What is committed is settled whatever stopped the run, as far as the server lets us.
            if isinstance(error, Unreachable) and not isinstance(error, LoginTooSoon):
                with _unless_stopped(error):
                    self._settle_at_end(connection, place, mailbox, report)
            raise
        if not report.session_broke:
            with contextlib.suppress(Unreachable):  # nothing is lost by it: the next poll notices
                mailbox.leave()
        self.reached("finished")

    def _note_validity(self, state: RunState, place: Place, now: Cursor) -> bool:
        """Whether mails must be recognised by content, as the folder was re-created."""
        if place.uid_validity is None:
            return state.validity_changed_at is not None
        if state.uid_validity is None:
            # Noted before anything is committed under it: this run may break off, and the folder
            # may be another one when the next run comes.
            with self.database.transaction() as session:
                scheduling.first_validity(session, place.connection_id, place.uid_validity)
        elif state.uid_validity != place.uid_validity:
            with self.database.transaction() as session:
                scheduling.validity_changed(session, place.connection_id, place.uid_validity)
            return True
        elif state.cursor is not None and is_another_folder(state.cursor, now):
            with self.database.transaction() as session:
                scheduling.another_folder(
                    session, place.connection_id, place.folder, place.uid_validity
                )
            return True
        return state.validity_changed_at is not None

    def _skip_existing(self, lease: Lease, place: Place, mailbox: Mailbox) -> None:
        keys = list(mailbox.keys())
        with self.database.transaction() as session:
            ledger.commit_batch(session, lease, place, ())
            know(session, place.connection_id, place.folder, place.uid_validity, keys)
            scheduling.skipped_existing(session, place.connection_id)

    def _fetch(
        self,
        connection: Connection,
        state: RunState,
        lease: Lease,
        place: Place,
        mailbox: Mailbox,
        report: Report,
        recognising: bool,
    ) -> None:
        known = KnownMails(self.database, place.connection_id, place.folder, place.uid_validity)
        # Where the next login has to wait, others gain nothing from an early end.
        patience = max(self.settings.slice_seconds, min(report.pause, _LONGEST_SLICE_S))
        deadline = report.started + patience

        def ended() -> bool:
            return time.monotonic() > deadline or self.stopping()

        while True:
            listing = mailbox.list_new(
                known,
                connection.selection,
                since=state.start_since,
                limit=_LISTED_AT_ONCE,
                cursor=state.cursor,
            )
            self.reached("listed")
            new: Sequence[MailRef] = listing.new
            if place.uid_validity is None and (recognising or keys_changed(known, listing)):
                if not recognising:
                    recognising = True
                    with self.database.transaction() as session:
                        scheduling.validity_changed(session, place.connection_id, None)
                new, had = recognise_by_headers(
                    self.database, lease, place, mailbox, listing, state.skipped_before
                )
                self._settle_leftovers(connection, place, mailbox, report)
                self._settle(connection, place, mailbox, had, report)
            elif recognising and place.uid_validity is not None:
                new = recognise(
                    self.database,
                    lease,
                    place,
                    mailbox,
                    new,
                    state.skipped_before,
                    connection.after_download,
                )
                self._settle_leftovers(connection, place, mailbox, report)
            report.found += len(new)
            labelled = without_doubles(self.database, lease, connection, place, new)
            new = labelled.new
            self._settle(connection, place, mailbox, labelled.doubles, report)
            failed = self._failed_downloads(state, place, new, listing.complete)
            handled = self._fetch_listed(
                connection, lease, place, mailbox, new, failed, report, deadline, recognising
            )
            self._quarantine(
                lease,
                place,
                [_undated(ref, e) for ref, e in listing.undated if isinstance(e, MailFailure)],
            )
            if not report.session_broke:
                self._prune(state, place, mailbox, listing.listed)
            if not handled or listing.complete or labelled.undecided or ended():
                self._settle_at_end(connection, place, mailbox, report)
            undated = next((e for _, e in listing.undated if isinstance(e, TryAgain)), None)
            if undated is not None:
                raise undated
            if not handled:
                report.again = True
                return
            if labelled.undecided:
                return  # without a cursor: the next interval looks again
            if listing.complete:
                report.cursor = mailbox.cursor_after(
                    listing.cursor, report.settled, connection.after_download
                )
                report.keep_cursor = True
                # A server that lists its oldest mails only has others once these are let go of.
                report.again = mailbox.capabilities.window and bool(new)
                if recognising:
                    self._recognised_all(connection, place)
                return
            if ended():
                report.again = True
                return

    def _prune(
        self, state: RunState, place: Place, mailbox: Mailbox, listed: Sequence[Key] | None
    ) -> None:
        """Lets go of what the server lists no longer: whenever all is listed, else once a day."""
        if listed is None and place.uid_validity is not None and state.prune_due:
            listed = mailbox.keys()
        if listed is not None:
            with self.database.transaction() as session:
                prune(session, place.connection_id, place.folder, place.uid_validity, listed)
                scheduling.pruned(session, place.connection_id)

    def _recognised_all(self, connection: Connection, place: Place) -> None:
        """Everything that can be seen was compared; what else the old folder had is gone."""
        with self.database.transaction() as session:
            ledger.drop_stale_settlements(session, place)
            if connection.selection is Selection.ALL or place.uid_validity is None:
                scheduling.recognition_over(session, place.connection_id, place.folder)

    def _failed_downloads(
        self, state: RunState, place: Place, refs: Sequence[MailRef], complete: bool
    ) -> dict[Key, DownloadFailure]:
        """Those of `refs` at which an earlier download broke off."""
        if not state.has_failed_downloads:
            return {}
        listed = {ref.key for ref in refs}
        with self.database.transaction() as session:
            failed = download_failures.of_place(session, place)
            if complete:
                download_failures.forget(session, place, failed.keys() - listed)
        return {key: failure for key, failure in failed.items() if key in listed}

    def _fetch_listed(
        self,
        connection: Connection,
        lease: Lease,
        place: Place,
        mailbox: Mailbox,
        refs: Sequence[MailRef],
        failed: Mapping[Key, DownloadFailure],
        report: Report,
        deadline: float,
        recognising: bool,
    ) -> bool:
        """Fetches what is listed; False where time ran out or a mail has to be tried again.

        Mails at which a download broke off (`failed`) are asked for alone, after all others.
        """
        limit = self.settings.max_message_bytes
        fitting = [ref for ref in refs if ref.size <= limit]
        self._quarantine(lease, place, [_oversize(ref, limit) for ref in refs if ref.size > limit])
        together = [ref for ref in fitting if ref.key not in failed]
        alone = [ref for ref in fitting if ref.key in failed]
        alone.sort(key=lambda ref: (failed[ref.key].alone, failed[ref.key].first))
        cut = batches(together, self.settings.batch_mails, self.settings.batch_bytes)
        cut += [[ref] for ref in alone]
        downloads = Downloads(mailbox, limit)

        def read(batch: Sequence[MailRef]) -> Intake:
            with ExitStack() as unless_read:
                intake = unless_read.enter_context(Intake(self.store, _correlation_id()))
                downloads.into(intake, batch)
                self.reached("downloaded")
                unless_read.pop_all()
                return intake

        def keep(intake: Intake) -> tuple[Intake, Committed]:
            return intake, self._keep(
                connection,
                lease,
                place,
                intake,
                after_failures=bool(failed),
                keys_changed=recognising and place.uid_validity is None,
            )

        def ended() -> bool:
            late = time.monotonic() > deadline or self.stopping()
            return downloads.stopped is not None or late

        complete, handled = True, 0
        trouble: TryAgain | None = None
        with closing(pipelined(cut, read, keep, ended)) as batches_kept:
            for intake, committed in batches_kept:
                report.downloaded += len(committed.messages)
                report.octets += intake.octets
                for ref, reason in intake.suspected:
                    if not self._blame(lease, place, [ref], reason, report, alone=True):
                        trouble = reason.of_server()
                if downloads.session_broke and not mailbox.capabilities.settles_by_ending:
                    continue  # nothing can be settled over this session
                self._settle(
                    connection, place, mailbox, committed.had, report, stopped=downloads.stopped
                )
                handled += 1
                complete = (
                    complete and not intake.postponed and len(committed.had) == len(intake.refs)
                )
        if downloads.broken:
            report.session_broke = True
            error = downloads.stopped
            assert error is not None
            if self._blame(lease, place, downloads.broken, error, report, alone=downloads.alone):
                return False  # the cause is put aside: the others in a session of their own
        if downloads.stopped is not None:
            raise downloads.stopped
        if trouble is not None:
            raise trouble
        return complete and handled == len(cut)

    def _blame(
        self,
        lease: Lease,
        place: Place,
        refs: Sequence[MailRef],
        reason: PosthouseError,
        report: Report,
        *,
        alone: bool,
    ) -> bool:
        """A download failed at the first of `refs`, before the others: whether that one was put
        aside as the cause, as it failed alone twice while others were given."""
        with self.database.transaction() as session:
            known = download_failures.note(
                session, place, [ref.key for ref in refs], alone=alone, others=report.downloaded > 0
            )
            if not known.is_cause:
                return False
            download_failures.forget(session, place, [refs[0].key])
        self._quarantine(lease, place, [_unreadable(refs[0], reason)])
        return True

    def _quarantine(self, lease: Lease, place: Place, refused: Sequence[Refused]) -> None:
        """Leaves these mails on their server, and says why."""
        if refused:
            with self.database.transaction() as session:
                ledger.commit_batch(session, lease, place, (), refused)

    def _keep(
        self,
        connection: Connection,
        lease: Lease,
        place: Place,
        intake: Intake,
        *,
        after_failures: bool,
        keys_changed: bool,
    ) -> Committed:
        """Makes a batch durable, commits it to the ledger and hands it on."""

        def record(session: Session) -> Committed:
            committed = commit(session, lease, connection, place, intake, keys_changed=keys_changed)
            if after_failures and intake.messages:
                download_failures.given(session, place, [ref.key for ref in intake.refs])
            return committed

        with intake:
            intake.keep()
            self.reached("stored")
            committed = self.database.perform(record)
            self.reached("committed")
            for message in committed.messages:
                metrics.MESSAGE_SIZE.observe(message.size)
            self.hand_on([message.id for message in committed.messages])
            self.reached("handed-on")
            return committed

    def _settle(
        self,
        connection: Connection,
        place: Place,
        mailbox: Mailbox,
        refs: Sequence[MailRef],
        report: Report,
        *,
        stopped: TryAgain | None = None,
    ) -> None:
        """Settles what is committed; where the server `stopped` giving mails, as far as it lets us.

        At the end of the run where settling ends the session: more may have been read ahead than is
        committed.
        """
        if mailbox.capabilities.settles_by_ending:
            report.unsettled += refs
            return
        with _unless_stopped(stopped):
            report.settled += self._settle_now(connection, place, mailbox, refs)

    def _settle_at_end(
        self, connection: Connection, place: Place, mailbox: Mailbox, report: Report
    ) -> None:
        """Settles what waited for the end. Whatever is left, the next run finds in the ledger."""
        refs = list({ref.key: ref for ref in report.unsettled}.values())
        report.unsettled = []
        try:
            report.settled += self._settle_now(connection, place, mailbox, refs)
        except LoginTooSoon as error:
            report.again = True
            report.pause = error.retry_after or report.pause

    def _settle_now(
        self, connection: Connection, place: Place, mailbox: Mailbox, refs: Sequence[MailRef]
    ) -> list[MailRef]:
        """Tells the server, and records what it has confirmed."""
        if not refs:
            return []
        deleted = connection.after_download is AfterDownload.DELETE
        only_flags = deleted and not mailbox.capabilities.exact_delete
        if only_flags:
            # What could only be flagged before is ours as well, and goes with these.
            asked = {ref.key for ref in refs}
            with self.database.transaction() as session:
                earlier = ledger.flagged(session, place)
            refs = [*refs, *(MailRef(key, 0) for key in earlier if key not in asked)]
        settled = mailbox.settle(refs, connection.after_download)
        self.reached("server-settled")
        done = {ref.key for ref in settled}
        left = [ref.key for ref in refs if ref.key not in done] if only_flags else []
        with self.database.transaction() as session:
            ledger.settled(session, place, list(done), deleted=deleted)
            if left:
                ledger.only_flagged(session, place, left)
        if left:
            _log.warning("mails are flagged deleted and cannot be removed yet", mails=len(left))
        self.reached("settled")
        metrics.SETTLED_MESSAGES.labels(connection.after_download.value).inc(len(settled))
        return settled

    def _settle_leftovers(
        self, connection: Connection, place: Place, mailbox: Mailbox, report: Report
    ) -> None:
        """Finishes what an earlier run committed and could not tell the server any more."""
        with self.database.transaction() as session:
            waiting = ledger.unsettled(
                session, place.connection_id, place.folder, _UNSETTLED_AT_ONCE
            )
        keys = [key for where, key in waiting if where == place]
        self._settle(connection, place, mailbox, [MailRef(key, 0) for key in keys], report)
        report.again = report.again or len(waiting) == _UNSETTLED_AT_ONCE


def _oversize(ref: MailRef, limit: int) -> Refused:
    return Refused(
        key=ref.key,
        code="too-large",
        reason=f"The mail has {ref.size:,} octets; the limit is {limit:,} (MAX_MESSAGE_BYTES).",
        size=ref.size,
    )


@contextlib.contextmanager
def _unless_stopped(stopped: TryAgain | None) -> Iterator[None]:
    """Where a run is stopped already, why it is comes first: the next run settles the rest."""
    try:
        yield
    except TryAgain as error:
        if stopped is None or not (isinstance(error, StepFailed) or error.code in _BUSY):
            raise


def _undated(ref: MailRef, reason: MailFailure) -> Refused:
    text = f"{reason} {reason.hint}".strip()
    return Refused(key=ref.key, code=reason.code, reason=text, size=ref.size)


def _unreadable(ref: MailRef, reason: PosthouseError) -> Refused:
    if isinstance(reason, MailRefused):
        return Refused(key=ref.key, code=reason.code, reason=str(reason), size=ref.size)
    return Refused(
        key=ref.key,
        code="breaks-session",
        reason=f"Asked for this mail alone, the mail server ended the session each time, while it "
        f"gave others: {reason} The mail was left on the server; look at it with another program, "
        "or have those who run the server look at its file.",
        size=ref.size,
    )


def _correlation_id() -> uuid.UUID | None:
    """Of the job that this thread runs."""
    told = get_contextvars().get("correlation_id")
    return uuid.UUID(told) if told else None
