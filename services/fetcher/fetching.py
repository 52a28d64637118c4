"""One run of one connection: what is new becomes durable, is committed, settled and handed on.

The order is the promise: bytes in the store, then the ledger, and only then a change on the
server. Each line of `STEPS` may be the last one this process executes; the next run, on any
fetcher, goes on from what the ledger says.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

from structlog.contextvars import get_contextvars

from services.fetcher.doubles import Committed, commit, without_doubles
from services.fetcher.intake import Intake, batches
from services.fetcher.overlapping import overlapped
from services.fetcher.recognising import recognise
from services.fetcher.settings import FetcherSettings
from shared.connections import AfterDownload, Connection, Selection
from shared.errors import TryAgain
from shared.jobs import FETCH_QUEUE, FETCH_SLOW_QUEUE
from shared.mailbox.base import Cursor, Mailbox, MailRef
from shared.messages import Key
from shared.storage import ledger, scheduling
from shared.storage.known import KnownMails, know, prune
from shared.storage.leases import Lease
from shared.storage.ledger import Place, Refused
from shared.storage.pool import Database
from shared.storage.scheduling import RunState
from shared.store import Store
from shared.telemetry import metrics

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
    oversize: list[uuid.UUID] = field(default_factory=list)
    settled: list[MailRef] = field(default_factory=list)
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
        *,
        changed: bool = False,
    ) -> Report:
        """`changed`: that there is something new is known already, so it is not asked for first.

        Raises the errors of `shared.mailbox`, LeaseLost, or TryAgain for our own servers.
        """
        report = Report()
        if not (changed or state.has_unsettled or state.skip_existing):
            status = mailbox.changed_since(connection.folder, state.cursor)
            if status is None:
                report.idle = True
                return report
        status = mailbox.open(connection.folder)
        place = Place(connection.id, connection.folder, status.uid_validity)
        report.uid_validity = status.uid_validity
        recognising = self._note_validity(state, place)
        if state.has_unsettled:
            self._settle_leftovers(connection, place, mailbox, report)
        if state.skip_existing:
            self._skip_existing(lease, place, mailbox)
        self._fetch(connection, state, lease, place, mailbox, report, recognising)
        self.reached("finished")
        return report

    def _note_validity(self, state: RunState, place: Place) -> bool:
        """Whether mails must be recognised by content, as the folder was re-created."""
        if place.uid_validity is None:
            return False
        if state.uid_validity is not None and state.uid_validity != place.uid_validity:
            with self.database.transaction() as session:
                scheduling.validity_changed(session, place.connection_id, place.uid_validity)
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
        deadline = report.started + self.settings.slice_seconds
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
            if recognising and place.uid_validity is not None:
                new = recognise(self.database, lease, place, mailbox, new, state.skipped_before)
                self._settle_leftovers(connection, place, mailbox, report)
            report.found += len(new)
            labelled = without_doubles(self.database, lease, connection, place, new)
            new = labelled.new
            report.settled += self._settle(connection, place, mailbox, labelled.doubles)
            handled = self._fetch_listed(connection, lease, place, mailbox, new, report, deadline)
            self._prune(state, place, mailbox, listing.listed)
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
                if recognising:
                    self._recognised_all(connection, place)
                return
            if time.monotonic() > deadline or self.stopping():
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
            if connection.selection is Selection.ALL:
                scheduling.recognition_over(session, place.connection_id, place.folder)

    def _fetch_listed(
        self,
        connection: Connection,
        lease: Lease,
        place: Place,
        mailbox: Mailbox,
        refs: Sequence[MailRef],
        report: Report,
        deadline: float,
    ) -> bool:
        """Fetches what is listed; False where time ran out or a mail has to be tried again."""
        limit = self.settings.max_message_bytes
        fitting = [ref for ref in refs if ref.size <= limit]
        oversize = [_oversize(ref, limit) for ref in refs if ref.size > limit]
        if oversize:
            with self.database.transaction() as session:
                report.oversize += ledger.commit_batch(session, lease, place, (), oversize)
        cut = batches(fitting, self.settings.batch_mails, self.settings.batch_bytes)
        interruption: TryAgain | None = None

        def read(batch: Sequence[MailRef]) -> Intake:
            nonlocal interruption
            with ExitStack() as unless_read:
                intake = unless_read.enter_context(Intake(self.store, _correlation_id()))
                try:
                    mailbox.download(batch, intake, limit=limit)
                except TryAgain as error:
                    # What arrived whole before the session broke is worth keeping.
                    if not intake.messages:
                        raise
                    interruption = error
                self.reached("downloaded")
                unless_read.pop_all()
                return intake

        def keep(intake: Intake) -> tuple[Intake, Committed]:
            return intake, self._keep(connection, lease, place, intake)

        def ended() -> bool:
            return interruption is not None or time.monotonic() > deadline or self.stopping()

        complete, handled = True, 0
        with closing(overlapped(cut, read, keep, ended)) as batches_kept:
            for intake, committed in batches_kept:
                if interruption is not None:
                    continue  # nothing can be settled over this session
                report.oversize += committed.quarantined
                report.downloaded += len(committed.messages)
                report.octets += intake.octets
                report.settled += self._settle(connection, place, mailbox, committed.had)
                handled += 1
                complete = (
                    complete and not intake.postponed and len(committed.had) == len(intake.refs)
                )
        if interruption is not None:
            raise interruption
        return complete and handled == len(cut)

    def _keep(
        self, connection: Connection, lease: Lease, place: Place, intake: Intake
    ) -> Committed:
        """Makes a batch durable, commits it to the ledger and hands it on."""
        with intake:
            intake.keep()
            self.reached("stored")
            committed = self.database.perform(
                lambda session: commit(session, lease, connection, place, intake)
            )
            self.reached("committed")
            for message in committed.messages:
                metrics.MESSAGE_SIZE.observe(message.size)
            self.hand_on([message.id for message in committed.messages])
            self.reached("handed-on")
            return committed

    def _settle(
        self, connection: Connection, place: Place, mailbox: Mailbox, refs: Sequence[MailRef]
    ) -> list[MailRef]:
        """Marks read or deletes, and records what the server has confirmed."""
        if not refs:
            return []
        settled = mailbox.settle(refs, connection.after_download)
        self.reached("server-settled")
        deleted = connection.after_download is AfterDownload.DELETE
        with self.database.transaction() as session:
            ledger.settled(session, place, [ref.key for ref in settled], deleted=deleted)
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
        self._settle(connection, place, mailbox, [MailRef(key, 0) for key in keys])
        report.again = report.again or len(waiting) == _UNSETTLED_AT_ONCE


def _oversize(ref: MailRef, limit: int) -> Refused:
    return Refused(
        key=ref.key,
        code="too-large",
        reason=f"The mail has {ref.size:,} octets; the limit is {limit:,} (MAX_MESSAGE_BYTES).",
        size=ref.size,
    )


def _correlation_id() -> uuid.UUID | None:
    """Of the job that this thread runs."""
    told = get_contextvars().get("correlation_id")
    return uuid.UUID(told) if told else None
