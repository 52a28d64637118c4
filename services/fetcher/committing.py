"""Batches become durable and are committed: one alone, or what several mailboxes have ready.

Of several small ones, one pack is synced, one transaction committed, one job sent. Which belong
together says `shared.coalescing`: those that came while the batches before them were committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from services.fetcher import gmail_dedupe, rebinding
from services.fetcher.run import Committed, Ready, Run
from services.fetcher.storing import Intake
from shared.coalescing import Combiner
from shared.errors import LeaseLost, PosthouseError
from shared.mailbox.base import AskingAhead
from shared.messages import NewMessage
from shared.storage import download_failures, ledger
from shared.storage.ledger import Batch
from shared.storage.pool import DatabaseUnavailable, Session
from shared.telemetry import metrics, traces

_log = structlog.get_logger(__name__)

#: Batches, and their octets, that are committed together at most.
_MOST: Final = 64
_LARGEST: Final = 4 << 20
#: Mails of a batch that joins others, at most: a longer one keeps nobody waiting.
FEW: Final = 50


def keep(run: Run, intake: Intake, *, failed_before: bool = False, only: bool = False) -> Committed:
    """Makes a batch durable, commits it to the ledger and hands it on to decryptors.

    With those of other mailboxes that are ready at this moment, where it is small and nothing has
    to be looked up for its commit (`failed_before`: a download of its mails broke off once).
    `only` as of `Ready`. Raises LeaseLost, or TryAgain for our own servers.
    """
    ready = Ready(run, intake, failed_before, only)
    with traces.span("keep", connection=run.connection.id, mails=len(intake.messages)):
        if _joins(ready):
            committed = run.tools.commits(ready)
        else:
            committed = _alone(ready)
            _hand_on([ready], [committed])
    if committed is None:
        raise LeaseLost(f"Another fetcher has taken over {run.lease.mailbox}, or it was deleted.")
    for message in committed.messages:
        metrics.MESSAGE_SIZE.observe(message.size)
    return committed


def new_combiner() -> Combiner[Ready, Committed | None]:
    """For all runs of a process. None: it lost its lease."""
    return Combiner(
        _keep,
        final=(DatabaseUnavailable,),
        most=_MOST,
        largest=_LARGEST,
        size=lambda ready: ready.intake.octets,
        afterwards=_hand_on,
    )


def _joins(ready: Ready) -> bool:
    run, intake = ready.run, ready.intake
    return (
        intake.is_small
        and len(intake.messages) <= FEW
        and not ready.failed_before
        and not run.rebinding
        and not run.in_doubt.contents
        and all(message.gmail_id is None for message in intake.messages)
    )


def _keep(batches: Sequence[Ready]) -> Sequence[Committed | None]:
    metrics.COMMITTED_TOGETHER.observe(len(batches))
    return [_alone(batches[0])] if len(batches) == 1 else _together(batches)


def _alone(ready: Ready) -> Committed:
    run, intake = ready.run, ready.intake
    tools, connection = run.tools, run.connection.id

    def record(session: Session) -> Committed:
        committed = _commit(run, session, intake)
        if ready.failed_before and intake.messages:
            download_failures.note_given(session, run.folder_ref, [ref.key for ref in intake.refs])
        return committed

    with traces.span(
        "store", connection=connection, mails=len(intake.messages), octets=intake.octets
    ):
        intake.keep()
    tools.reached("stored")
    with traces.span("commit", connection=connection, mails=len(intake.messages)):
        committed = tools.database.perform(record, single=_is_one_statement(ready))
    tools.reached("committed")
    _settle_next(ready)
    return committed


def _hand_on(batches: Sequence[Ready], committed: Sequence[Committed | None]) -> None:
    """Sends one job for mails that are safe. A broker may take its time, or never answer: batches
    that are ready meanwhile are committed, and those of others settled."""
    tools = batches[0].run.tools
    tools.hand_on([mail.id for one in committed if one for mail in one.messages])
    tools.reached("handed-on")


def _settle_next(ready: Ready) -> None:
    """Its server opens the folder for changes while the batch is handed on.

    Raises nothing: the batch is committed, and who tried once more would commit it twice.
    """
    mailbox = ready.run.mailbox
    if ready.only and isinstance(mailbox, AskingAhead):
        try:
            mailbox.settling_is_next()
        except PosthouseError:
            pass  # settling finds out, and tells
        except Exception as error:  # of nothing that is committed
            _log.warning("nothing sent ahead of settling", exc_info=error)


def _is_one_statement(ready: Ready) -> bool:
    """Whether its commit is nothing but `ledger.commit_batches`, and that one statement."""
    run, intake = ready.run, ready.intake
    batch = Batch(run.lease, run.folder_ref, intake.messages, intake.refused)
    return _joins(ready) and ledger.is_one_statement(batch)


def _commit(run: Run, session: Session, intake: Intake) -> Committed:
    """Records a batch but for mails that are known already and show it only now."""
    if (run.rebinding and run.folder_ref.uid_validity is None) or run.in_doubt.contents:
        return rebinding.commit(run, session, intake)
    if any(message.gmail_id is not None for message in intake.messages):
        return gmail_dedupe.commit(run, session, intake)
    ledger.commit_batch(session, run.lease, run.folder_ref, intake.messages, intake.refused)
    return Committed(intake.messages, intake.refs)


def _together(batches: Sequence[Ready]) -> list[Committed | None]:
    """Raises DatabaseUnavailable where it is not known what was committed; at any other error
    nothing was."""
    tools = batches[0].run.tools
    messages: list[Sequence[NewMessage]] = []
    with tools.store.pack() as pack:
        mails = sum(len(ready.intake.messages) for ready in batches)
        with traces.span("store", batches=len(batches), mails=mails) as span:
            messages += [ready.intake.keep_in(pack) for ready in batches]
            span.set_attribute("posthouse.octets", pack.size)
            if pack.size:
                pack.commit()
    tools.reached("stored")
    with traces.span("commit", batches=len(batches), mails=mails):
        held = _record(batches, messages)
    tools.reached("committed")
    committed = [
        Committed(mails, ready.intake.refs) if is_held else None
        for ready, mails, is_held in zip(batches, messages, held, strict=True)
    ]
    for ready, is_held in zip(batches, held, strict=True):
        if is_held:
            _settle_next(ready)
    return committed


def _record(batches: Sequence[Ready], messages: Sequence[Sequence[NewMessage]]) -> list[bool]:
    found = [
        Batch(ready.run.lease, ready.run.folder_ref, mails, ready.intake.refused)
        for ready, mails in zip(batches, messages, strict=True)
    ]
    with batches[0].run.tools.database.transaction() as session:
        return ledger.commit_batches(session, found)
