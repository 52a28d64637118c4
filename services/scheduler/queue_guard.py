"""Looks after the handlers' queues: creates them, refills lost ones, keeps the watermark.

The broker may lose a queue at any instant. What it had and nobody acknowledged is published again
from Postgres: everything recorded at or after the handler's watermark.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from services.scheduler.repeated_errors import RepeatedErrors
from shared.errors import PosthouseError
from shared.queueing.output import Output, QueueCounts
from shared.storage import dead_letters, delivering_again, handler_queues
from shared.storage.handler_queues import HandlerName, Remembered
from shared.storage.pool import Database, Session
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: An event is recorded as published within this time of being published: a claim lasts no longer.
#: So an event that entered the queue after another was recorded at most this much earlier.
RECORDING_MARGIN = timedelta(minutes=10)
#: After a restart of the broker: what was confirmed before is recorded within this time.
RESTART_GRACE = timedelta(seconds=30)
#: Between Postgres' clock and that of this machine, which reads the broker's.
CLOCK_MARGIN = timedelta(minutes=1)
#: Handlers that the log names of those whose queues could not be looked at for one reason.
_HANDLERS_NAMED = 10


@dataclass(frozen=True, slots=True)
class Guard:
    database: Database
    output: Output
    #: Where `output` is, without secrets: queues on another broker are new ones.
    place: str
    errors: RepeatedErrors = field(default_factory=RepeatedErrors)

    def check_all(self) -> int:
        """One look at every handler's queue; how many were created. One that fails waits."""
        with self.database.transaction() as session:
            names = handler_queues.handlers(session)
        refilled = 0
        failed: dict[str, list[str]] = {}
        for handler in names:
            try:
                with self.database.transaction() as session:
                    generation = self._check(session, handler)
                # Only after the commit: a queue that is there counts as filled.
                if generation is not None and self._make(handler, generation):
                    refilled += 1
            except PosthouseError as error:
                failed.setdefault(str(error), []).append(handler.name)
        # A broker that is away fails all of them with the same words, at every look.
        for text in self.errors.to_log(failed):
            unseen = failed[text]
            _log.warning(
                "queues of handlers not checked",
                count=len(unseen),
                handlers=unseen[:_HANDLERS_NAMED],
                error=text,
            )
        return refilled

    def _make(self, handler: HandlerName, generation: uuid.UUID) -> bool:
        """Creates the queue of this generation; False where another scheduler does it.

        Only one may: RabbitMQ breaks a quorum queue that one client declares while another
        deletes it as unsound. It is then listed, refuses every event and cannot be made again.
        """
        with self.database.transaction() as session:
            remembered = handler_queues.lock(session, handler.id)
            if remembered is None or remembered.generation != generation:
                return False
            self.output.ensure(handler.name, str(generation))
        return True

    def _check(self, session: Session, handler: HandlerName) -> uuid.UUID | None:
        """The generation of the queue that is to be created now, where the old one was lost."""
        remembered = handler_queues.lock(session, handler.id)
        if remembered is None:
            return None  # another scheduler looks at it right now
        positions: list[str] = []
        if remembered.created_at is not None:
            positions = handler_queues.recent_positions(session, handler.id, remembered.created_at)
        # Read after the positions: whatever they say was in the queue by then.
        state = self.output.inspect(handler.name)
        reason = self._loss(handler, remembered, state, positions) or self._lost_in_restart(
            session, handler, remembered, state
        )
        if reason:
            return self._refill(session, handler, remembered, reason)
        if _is_settling(remembered, state):
            handler_queues.record_restart(session, handler.id)
            return None
        handler_queues.record_observation(session, handler.id, state)
        handler_queues.record_check(
            session,
            handler.id,
            watermark=self._watermark(session, handler, remembered, state),
            incarnation=state.incarnation,
            acknowledged=state.acknowledged_position,
            backlog=state.backlog,
            oldest_at=state.oldest_at,
            dead=state.dead,
        )
        if dead_letters.has_new(session, handler.id, state.dead):
            self._list_dead(session, handler, state.dead)
        if state.acknowledged_position:
            self.output.trim(handler.name, state.acknowledged_position)
        return None

    def _list_dead(self, session: Session, handler: HandlerName, dead: int) -> None:
        """Makes mails be found by what their handlers rejected."""
        letters = self.output.dead(handler.name, dead_letters.MOST_NOTED) if dead else []
        whole = len(letters) >= dead
        dead_letters.record(session, handler.id, letters, dead=dead, whole=whole)

    def _loss(
        self,
        handler: HandlerName,
        remembered: Remembered,
        state: QueueCounts,
        positions: list[str],
    ) -> str:
        """Why the queue, or a part of it, must be taken for lost; empty where it is whole."""
        if remembered.created_at is None:
            return "new"
        if not state.exists:
            return "gone"
        if remembered.output != self.place:
            return "another broker"
        if state.generation and state.generation != str(remembered.generation):
            return "created by somebody else"
        if state.entries_gone:
            return "entries are gone"
        ordered = sorted(positions, key=_order)
        if ordered and _order(ordered[-1]) > _order(state.last_position):
            return "its end is gone"
        return ""

    def _lost_in_restart(
        self, session: Session, handler: HandlerName, remembered: Remembered, state: QueueCounts
    ) -> str:
        """A broker that crashed may have lost its last moments, and gone on since.

        Entries are trimmed only up to what was remembered as acknowledged, so whatever was
        confirmed above that and is not there was lost, even where later ones are acknowledged.
        """
        if state.incarnation == remembered.incarnation or remembered.created_at is None:
            return ""
        since = max(remembered.watermark, remembered.created_at)
        expected = [
            position
            for position in handler_queues.unacknowledged_positions(session, handler.id, since)
            if _order(position) > _order(remembered.acknowledged)
        ]
        if expected and self.output.missing(handler.name, expected):
            return "the broker was restarted and has lost some of it"
        return ""

    def _refill(
        self, session: Session, handler: HandlerName, remembered: Remembered, reason: str
    ) -> uuid.UUID:
        generation = uuid.uuid4()
        handler_queues.record_creation(session, handler.id, self.place, generation)
        if remembered.created_at is None:
            _log.info("queue of a handler created", handler=handler.name)
            return generation
        if not handler_queues.has_published(session, handler.id, remembered.created_at):
            # It was noted and then not made, or another scheduler is making it right now: what
            # belongs into it waits already. Only what is on its way may have been in it.
            delivering_again.withdraw(session, handler.id, remembered.created_at)
            _log.info("queue of a handler made again", handler=handler.name, reason=reason)
            return generation
        again = delivering_again.refill(session, handler.id, remembered.watermark)
        metrics.RESENT.labels("refill").inc(len(again))
        _log.warning(
            "queue of a handler lost and refilled",
            handler=handler.name,
            reason=reason,
            since=remembered.watermark.isoformat(),
            mails=len(again),
        )
        return generation

    def _watermark(
        self, session: Session, handler: HandlerName, remembered: Remembered, state: QueueCounts
    ) -> datetime:
        """The latest instant before which everything recorded is surely acknowledged."""
        if state.acknowledged_before is not None:
            return min(state.acknowledged_before, remembered.now) - CLOCK_MARGIN
        if state.drained:
            # `now` was read before the queue was looked at: what is published later is recorded
            # later, and what was published before is acknowledged.
            return remembered.now
        if state.lowest_pending_event_id:
            published = handler_queues.published_at(
                session, handler.id, uuid.UUID(state.lowest_pending_event_id)
            )
            if published is not None:
                return published - RECORDING_MARGIN
        return remembered.watermark


def _is_settling(remembered: Remembered, state: QueueCounts) -> bool:
    """Whether events that were confirmed before a restart may still be about to be recorded."""
    if not remembered.incarnation or state.incarnation == remembered.incarnation:
        return False
    since = remembered.restarted_at or remembered.now
    return remembered.now - since < RESTART_GRACE


def _order(position: str) -> tuple[int, int]:
    """A stream id as Redis compares it; the empty one is the lowest."""
    milliseconds, _, number = position.partition("-")
    return (int(milliseconds or 0), int(number or 0))
