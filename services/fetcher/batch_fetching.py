"""What a server listed, fetched a batch at a time: downloaded, stored, committed, settled."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import ExitStack, closing

from structlog.contextvars import get_contextvars

from services.fetcher import mixed_up_mails
from services.fetcher.committing import FEW, keep
from services.fetcher.downloading import Downloads
from services.fetcher.full_store import too_large_for_store
from services.fetcher.prefetch import pipelined
from services.fetcher.quarantining import blame, leave_oversize, with_headers
from services.fetcher.released_mails import forget_vanished_releases
from services.fetcher.run import Committed, Run, SessionBroke
from services.fetcher.settling import settle
from services.fetcher.storing import Intake, batches
from shared.errors import TryAgain
from shared.mailbox.base import MailRef
from shared.messages import Key
from shared.storage import download_failures
from shared.storage.download_failures import DownloadFailure
from shared.store import StoreFull
from shared.store.base import CHUNK
from shared.telemetry import traces


class Batches:
    """The new mails of one listing. Those at which an earlier download broke off are asked for
    alone, after all others, and once in a run. `more`: the listing left some out."""

    def __init__(self, run: Run, refs: Sequence[MailRef], *, more: bool) -> None:
        self._run = run
        asked = [ref for ref in refs if ref.key not in run.report.broke_alone]
        self._left_out = len(refs) - len(asked)
        waiting = too_large_for_store(run, asked)
        self._refs = [ref for ref in asked if ref.key not in waiting]
        self._failed = _failed_downloads(run, refs, complete=not more)
        self._more = more
        #: Octets of the batch for which the store had no room.
        self._without_room = 0
        #: What was had, refused or postponed.
        self._handled: set[Key] = set()
        #: It is one batch.
        self._is_one = False
        sizes = mixed_up_mails.of_server(run.connection.endpoint)
        self._downloads = Downloads(run.mailbox, run.tools.settings.max_message_bytes, sizes)

    def fetch(self) -> bool:
        """False where time ran out or a mail has to be tried again.

        Raises what stopped it, SessionBroke where a fresh session may bring more.
        """
        cut = self._cut()
        self._is_one = len(cut) == 1
        try:
            batches_settled, complete, trouble = self._fetch_batches(cut)
        except StoreFull as full:
            self._go_on_in_smaller_batches(full)
            raise
        if self._downloads.broken:
            self._end_broken_session()
            return False
        if self._downloads.no_room_for is not None:
            self._go_on_with_smaller(self._downloads.no_room_for)
        failure = self._downloads.stopped or trouble
        if failure is not None:
            raise failure
        all_settled = batches_settled == len(cut)
        if self._left_out and not self._more and all_settled:
            raise self._last_that_broke_alone
        return complete and all_settled

    def _fetch_batches(self, cut: Sequence[Sequence[MailRef]]) -> tuple[int, bool, TryAgain | None]:
        """How many batches were settled, whether nothing of them has to be tried again, and what
        was refused in a way that may pass."""
        run, downloads = self._run, self._downloads
        settled, complete = 0, not self._settles_first
        trouble: TryAgain | None = None
        with closing(pipelined(cut, self._read, self._keep, self._ended)) as kept:
            for intake, committed in kept:
                run.report.downloaded += len(committed.messages)
                run.report.octets += intake.octets
                self._handled |= intake.handled
                run.in_doubt.compared([ref.key for ref in intake.refs])
                run.in_doubt.compared([item.key for item in intake.refused])
                for ref, reason in intake.suspected:
                    if not blame(run, [ref], reason, alone=True):
                        trouble = reason.of_server()
                if downloads.out_of_step and not run.mailbox.capabilities.settles_by_ending:
                    continue  # nothing can be settled over this session
                settle(
                    run,
                    committed.already_known,
                    stopped=downloads.stopped,
                    last=self._is_one and len(committed.already_known) <= FEW,
                )
                settled += 1
                all_known = len(committed.already_known) + len(committed.kept) == len(intake.refs)
                left = [ref for ref, why in intake.postponed if why.code != "mail-vanished"]
                gone = {ref.key for ref, _ in intake.postponed}.difference(ref.key for ref in left)
                released = [key for key in gone & self._failed.keys() if self._failed[key].released]
                forget_vanished_releases(run, released)
                run.report.absent |= gone.difference(released)
                complete = complete and not left and all_known
        return settled, complete, trouble

    def _go_on_in_smaller_batches(self, full: StoreFull) -> None:
        """The store had no room for a batch: raises SessionBroke where some of it may have."""
        if self._without_room <= CHUNK:
            return
        self._run.tools.store.check()  # raises where there is no room for anything
        self._run.report.batch_octets = self._without_room // 2
        self._run.broke(full, hurried=False)
        if self._run.may_go_on(full):
            raise SessionBroke(full)

    def _go_on_with_smaller(self, ref: MailRef) -> None:
        """The store had no room for a mail: raises SessionBroke where smaller ones are left, which
        may have it."""
        report, stopped = self._run.report, self._downloads.stopped
        assert stopped is not None
        self._run.tools.store.check()  # raises where there is no room for anything
        self._run.broke(stopped, hurried=False)
        report.no_room_for |= {ref.key, *(o.key for o in self._refs if 0 < ref.size <= o.size)}
        done = self._handled | report.no_room_for
        left = self._more or any(other.key not in done for other in self._fitting)
        if left and self._run.may_go_on(stopped):
            raise SessionBroke(stopped)

    def _end_broken_session(self) -> None:
        """The session broke at a mail. Either

        - other mails are left and the run may go on: raises SessionBroke, for a fresh session;
        - or that mail is the cause and is in quarantine: the run ends well;
        - or nobody knows the cause, or only mails are left that broke a session when asked for
          alone: raises what broke it, and the run fails.
        """
        report, stopped = self._run.report, self._downloads.stopped
        assert stopped is not None
        self._run.broke(stopped, hurried=self._downloads.hurried)
        is_cause = self._blame_first(stopped)
        done = self._handled | report.broke_alone.keys()
        left = self._more or any(ref.key not in done for ref in self._fitting)
        if left and self._run.may_go_on(stopped):
            raise SessionBroke(stopped)
        if not is_cause:
            raise stopped
        if report.broke_alone and not left:
            raise self._last_that_broke_alone

    def _blame_first(self, stopped: TryAgain) -> bool:
        """Whether the mail under way was quarantined as the cause."""
        downloads, bad = self._downloads, self._downloads.broken[0].key
        alone, octets = downloads.alone, downloads.broken_after
        waited = not (downloads.hurried and stopped.code == "read-timeout")
        if blame(self._run, downloads.broken, stopped, alone=alone, octets=octets, final=waited):
            self._handled.add(bad)
            return True
        if alone:
            self._run.report.broke_alone[bad] = stopped
        return False

    @property
    def _last_that_broke_alone(self) -> TryAgain:
        return next(reversed(self._run.report.broke_alone.values()))

    def _cut(self) -> list[Sequence[MailRef]]:
        settings, failed = self._run.tools.settings, self._failed
        most = self._run.report.batch_octets or settings.batch_bytes
        limit = settings.max_message_bytes
        fitting = self._fitting
        leave_oversize(self._run, [ref for ref in self._refs if ref.size > limit], limit)
        together = [ref for ref in fitting if ref.key not in failed]
        alone = [ref for ref in fitting if ref.key in failed]
        if self._settles_first:
            alone = [ref for ref in alone if not failed[ref.key].suspect]
        alone.sort(key=lambda ref: (failed[ref.key].alone, failed[ref.key].first))
        return [
            *batches(together, settings.batch_mails, min(settings.batch_bytes, most)),
            *([ref] for ref in alone),
        ]

    @property
    def _settles_first(self) -> bool:
        """Mails of earlier runs wait to be settled over a session that may not break, as the next
        login has to wait: what broke one is left for the next run."""
        report = self._run.report
        return bool(report.pause and report.unsettled and self._failed)

    @property
    def _fitting(self) -> list[MailRef]:
        limit = self._run.tools.settings.max_message_bytes
        return [ref for ref in self._refs if ref.size <= limit]

    def _read(self, batch: Sequence[MailRef]) -> Intake:
        timed = traces.span("download", connection=self._run.connection.id, mails=len(batch))
        with timed as span, ExitStack() as unless_read:
            intake = unless_read.enter_context(Intake(self._run.tools.store, _correlation_id()))
            self._downloads.into(intake, batch, longest_wait_s=self._longest_wait_s(batch))
            if intake.refused and self._downloads.stopped is None:
                self._add_headers(intake)
            span.set_attribute("posthouse.octets", intake.octets)
            self._run.tools.reached("downloaded")
            unless_read.pop_all()
            return intake

    def _add_headers(self, intake: Intake) -> None:
        """Of mails that are quarantined. What came with them is kept whatever the server answers:
        it would be so in each run."""
        try:
            intake.refused = with_headers(self._run.mailbox, intake.refused)
        except TryAgain as error:
            self._downloads.stopped = error

    def _longest_wait_s(self, batch: Sequence[MailRef]) -> float | None:
        """Seconds for the next octet of these mails; None: as long as usual.

        One silence in a run is waited for in full, so that several cost the others little: at a
        mail of which nothing bad is known, or one that is quarantined by it, and by no shorter one.
        """
        failed = self._failed.get(batch[0].key) if len(batch) == 1 else None
        known_and_open = failed is not None and failed.alone > 0 and not failed.is_due
        if self._run.report.waited_in_full or known_and_open:
            return self._run.hurried_wait_s
        return None

    def _keep(self, intake: Intake) -> tuple[Intake, Committed]:
        with intake:
            try:
                failed_before = bool(self._failed)
                only = self._is_one and self._downloads.stopped is None
                return intake, keep(self._run, intake, failed_before=failed_before, only=only)
            except StoreFull:
                self._without_room = intake.octets
                raise

    def _ended(self) -> bool:
        return self._downloads.stopped is not None or not self._run.begins_batch()


def _failed_downloads(
    run: Run, refs: Sequence[MailRef], *, complete: bool
) -> dict[Key, DownloadFailure]:
    """Those of `refs` at which an earlier download broke off."""
    if not run.state.has_failed_downloads:
        return {}
    listed = {ref.key for ref in refs}
    with run.tools.database.transaction() as session:
        failed = download_failures.of_folder(session, run.folder_ref)
        if complete:
            download_failures.forget(session, run.folder_ref, failed.keys() - listed)
    return {key: failure for key, failure in failed.items() if key in listed}


def _correlation_id() -> uuid.UUID | None:
    """Of the job that this thread runs."""
    value = get_contextvars().get("correlation_id")
    return uuid.UUID(value) if value else None
