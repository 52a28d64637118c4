"""Looks after the handlers' queues: creates them, refills lost ones, keeps the watermark.

The broker may lose a queue at any instant. What it had and nobody acknowledged is published again
from Postgres: everything recorded at or after the handler's watermark.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from shared.errors import PosthouseError
from shared.queueing.output.base import Output, QueueState
from shared.storage import handler_queues, outbox
from shared.storage.handler_queues import HandlerName, Remembered
from shared.storage.pool import Database, Session
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)

#: An event is recorded as published within this time of being published: a claim lasts no longer.
#: So an event that entered the queue after another was recorded at most this much earlier.
RECORDING_MARGIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Guard:
    database: Database
    output: Output

    def look(self) -> int:
        """One look at every handler's queue; how many were refilled. One that fails waits."""
        with self.database.transaction() as session:
            names = handler_queues.handlers(session)
        refilled = 0
        for handler in names:
            try:
                with self.database.transaction() as session:
                    refilled += self._look_at(session, handler)
            except PosthouseError as error:
                _log.warning(
                    "a handler's queue was not checked", handler=handler.name, error=str(error)
                )
        return refilled

    def _look_at(self, session: Session, handler: HandlerName) -> bool:
        remembered = handler_queues.lock(session, handler.id)
        if remembered is None:
            return False  # another scheduler looks at it right now
        positions: list[str] = []
        if remembered.created_at is not None:
            positions = handler_queues.recent_positions(session, handler.id, remembered.created_at)
        # Read after the positions: whatever they say was in the queue by then.
        state = self.output.inspect(handler.name)
        if self._is_lost(remembered, state, positions):
            self._restore(session, handler, remembered)
            return remembered.created_at is not None
        watermark = self._watermark(session, handler, remembered, state)
        handler_queues.checked(
            session,
            handler.id,
            watermark=watermark,
            backlog=state.backlog,
            oldest_at=state.oldest_at,
            dead=state.dead,
        )
        return False

    def _is_lost(self, remembered: Remembered, state: QueueState, positions: list[str]) -> bool:
        return (
            not state.exists
            or remembered.created_at is None
            or remembered.output != self.output.place
            or (bool(positions) and not self.output.holds(state, positions))
        )

    def _restore(self, session: Session, handler: HandlerName, remembered: Remembered) -> None:
        generation = uuid.uuid4()
        self.output.ensure(handler.name)
        handler_queues.created(session, handler.id, self.output.place, generation)
        if remembered.created_at is None:
            _log.info("handler's queue created", handler=handler.name)
            return
        again = outbox.refill(session, handler.id, remembered.watermark)
        metrics.REDRIVEN.labels("refill").inc(len(again))
        _log.warning(
            "a handler's queue was lost and is filled again",
            handler=handler.name,
            since=remembered.watermark.isoformat(),
            mails=len(again),
        )

    def _watermark(
        self, session: Session, handler: HandlerName, remembered: Remembered, state: QueueState
    ) -> datetime:
        """The latest instant before which everything recorded is surely acknowledged."""
        if state.drained:
            # `now` was read before the queue was looked at. What is published later is recorded
            # later; what was published before is acknowledged.
            return remembered.now - state.unseen
        if state.lowest_event_id is not None:
            published = handler_queues.published_at(
                session, handler.id, uuid.UUID(state.lowest_event_id)
            )
            if published is not None:
                return published - RECORDING_MARGIN
        return remembered.watermark
