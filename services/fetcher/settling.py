"""Telling the server what is done: marking read or deleting what is committed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from services.fetcher.reused_keys import replaced
from services.fetcher.run import Run
from shared.connections import AfterDownload
from shared.errors import TryAgain
from shared.mailbox.base import MailRef
from shared.mailbox.failures import LoginTooSoon, Refused, SessionLost, StepFailed
from shared.messages import Key
from shared.storage import leases, settlements
from shared.storage.settlements import Settled
from shared.telemetry import metrics, traces

_log = structlog.get_logger(__name__)

_UNSETTLED_AT_ONCE: Final = 1000
#: Mails that a server confirmed and that are recorded with the end of the run, at most.
_RECORDED_LATER: Final = 50
#: Errors of Graph that are no StepFailed.
_BUSY: Final = frozenset({"mailbox-busy", "broken-off", "timeout", "unreachable"})


def settle(
    run: Run, refs: Sequence[MailRef], *, stopped: TryAgain | None = None, last: bool = False
) -> None:
    """Settles what is committed; where the server `stopped` giving mails, as far as it lets us.
    Where somebody has to let us first, mails go on coming, and the run fails with that at its end.

    At the end of the run where settling ends the session: more may have been read ahead than is
    committed. `last`: nothing else is to come in this run, with whose end it is recorded.
    """
    if run.mailbox.capabilities.settles_by_ending:
        run.report.unsettled += refs
        return
    with unless_stopped(stopped), _refusal_noted(run, Refused):
        run.report.settled += _settle_now(run, refs, last=last)


def settle_at_end(run: Run) -> None:
    """Settles what waited for the end. Whatever is left, the next run finds in the ledger."""
    refs = list({ref.key: ref for ref in run.report.unsettled}.values())
    run.report.unsettled = []
    try:
        with _refusal_noted(run):
            run.report.settled += _settle_now(run, refs, last=len(refs) <= _RECORDED_LATER)
    except LoginTooSoon as error:
        run.report.again = True
        run.report.pause = error.retry_after or run.report.pause


def settle_leftovers(run: Run) -> None:
    """Finishes what an earlier run committed and could not tell the server any more."""
    waiting = _waiting(run)
    compared = {ref.key for ref in run.report.unsettled}
    if replaced(run, [key for key in waiting if key not in compared]):
        waiting = _waiting(run)
    with _refusal_noted(run):
        settle(run, [MailRef(key, 0) for key in waiting])
    run.report.again = run.report.again or len(waiting) == _UNSETTLED_AT_ONCE


def _waiting(run: Run) -> list[Key]:
    with run.tools.database.transaction() as session:
        return settlements.unsettled(session, run.folder_ref, _UNSETTLED_AT_ONCE)


@contextlib.contextmanager
def _refusal_noted(run: Run, kind: type[StepFailed] = StepFailed) -> Iterator[None]:
    """A server that will not delete (or mark) mails which are safe here must not keep others from
    coming: the run goes on, and fails with this at its end."""
    try:
        yield
    except kind as error:
        waits = isinstance(error, TryAgain) and error.retry_after is not None
        if waits or isinstance(error, SessionLost) or error.step == "folder":
            raise  # nothing else comes either
        run.report.settling_refused = error


@contextlib.contextmanager
def unless_stopped(stopped: TryAgain | None) -> Iterator[None]:
    """Where a run is stopped already, why it is comes first: the next run settles the rest."""
    try:
        yield
    except TryAgain as error:
        if stopped is None or not (isinstance(error, StepFailed) or error.code in _BUSY):
            raise


def _settle_now(run: Run, refs: Sequence[MailRef], *, last: bool = False) -> list[MailRef]:
    """Tells the server, and records what it has confirmed; where it is the `last`, with the end of
    the run. Whoever dies before that is told the same by the server once more."""
    if not refs:
        return []
    tools, folder_ref = run.tools, run.folder_ref
    after_download = run.connection.after_download
    deleted = after_download is AfterDownload.DELETE
    only_flags = deleted and not run.mailbox.capabilities.exact_delete
    if only_flags:
        # What could only be flagged before is ours as well, and goes with these.
        asked = {ref.key for ref in refs}
        with tools.database.transaction() as session:
            earlier = settlements.flagged(session, folder_ref)
        refs = [*refs, *(MailRef(key, 0) for key in earlier if key not in asked)]
    if deleted or run.mailbox.capabilities.expires_days == 0:
        # Not where somebody just chose to keep the mails, or other ones: that takes the lease away.
        with tools.database.autocommit() as session:
            leases.assert_held(session, run.lease)
    span = traces.span(
        "settle",
        connection=folder_ref.connection_id,
        mails=len(refs),
        action=after_download.value,
    )
    with span:
        settled = run.mailbox.settle(refs, after_download)
    tools.reached("server-settled")
    done = {ref.key for ref in settled}
    left = [ref.key for ref in refs if ref.key not in done] if only_flags else []
    marks = run.mailbox.capabilities.read_flag
    confirmed = Settled(folder_ref, list(done), deleted, marks)
    if last and not left:
        run.report.confirmed.append(confirmed)
    else:
        with tools.database.transaction() as session:
            settlements.record_settled(session, [confirmed])
            if left:
                settlements.record_flagged(session, folder_ref, left)
        tools.reached("settled")
    if left:
        _log.warning("mails flagged deleted, not removed yet", mails=len(left))
    metrics.SETTLED_MESSAGES.labels(after_download.value).inc(len(settled))
    return settled
