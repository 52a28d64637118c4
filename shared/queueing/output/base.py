"""The handlers' queues: one durable queue a handler, created by Posthouse alone.

The names and the form of an entry are a contract with the handlers (see the SDK): whoever reads a
queue never creates it, so a queue that was lost is noticed and filled again from Postgres.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from posthouse.outcome import GIVEN_UP
from shared.errors import InvalidInput, NeedsPerson, PosthouseError, TryAgain
from shared.queueing.output.accounts import BrokerAccount

CONTENT_TYPE = "application/cloudevents+json"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")


class QueueLost(TryAgain):
    """A handler's queue is not there (any more): it must be created and filled again."""

    code = "queue-lost"

    def __init__(self, handler: str) -> None:
        super().__init__(
            f"The queue of handler {handler} does not exist on the broker.",
            hint="Posthouse creates it again and publishes what was not acknowledged.",
        )
        self.handler = handler


class NotTaken(TryAgain):
    """The broker did not confirm an event. It may be there: publishing again may repeat it."""

    code = "not-taken"


class Publication(NamedTuple):
    """One event for one handler. `event` is the JSON as it goes out, `signature` shows the handler
    who wrote it (see `posthouse.signing`)."""

    handler: str
    event: bytes
    message_id: str
    signature: str = ""


#: How many events in hand are told of one by one.
IN_HAND_LISTED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConsumer:
    """A program at the queue. `in_hand`: events that it holds; `idle_s`: since its last sign of
    life. None where the broker does not tell."""

    name: str
    in_hand: int | None
    idle_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InHand:
    """An event that a consumer took and did not acknowledge. `deliveries`: how often it was given;
    `idle_s`: since then, or since the consumer said that it is at work on it."""

    position: str
    consumer: str
    idle_s: float
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """What a handler's queue looks like now; the facts from which the watermark is decided.

    Everything up to `acknowledged_position` (Redis) or published before `acknowledged_before`
    (RabbitMQ) has been acknowledged, provided that no loss is seen. A loss is seen by `exists`
    false; by `entries_gone`; and on Redis by another `generation` than the one given to `ensure`,
    by a `last_position` below one that was confirmed before, or by another `incarnation` (the
    server was restarted or replaced and may have lost the end): then ask `missing`.
    """

    exists: bool
    generation: str = ""
    incarnation: str = ""
    #: Not acknowledged yet. RabbitMQ without a management address: without those being handled.
    backlog: int = 0
    #: When the oldest of them came in; None where there is none, or the broker cannot tell.
    oldest_at: datetime | None = None
    dead: int = 0
    #: Nothing waits, and nothing is being handled as far as the broker tells.
    drained: bool = False
    entries_gone: bool = False
    #: Redis: stream ids. Empty on RabbitMQ.
    acknowledged_position: str = ""
    lowest_pending_event_id: str = ""
    last_position: str = ""
    #: RabbitMQ: None while it is not drained.
    acknowledged_before: datetime | None = None
    #: Who reads it, as far as the broker tells; None where it does not tell.
    consumers: tuple[QueueConsumer, ...] | None = None
    #: What is in hand, the oldest first, at most IN_HAND_LISTED. Only Redis tells.
    in_hand: tuple[InHand, ...] = ()
    #: Redis, where `in_hand` is all there is: up to here everything else is acknowledged.
    read_position: str = ""
    #: A number that rises with each acknowledgement; None where the broker does not count them.
    acknowledgements: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that its handler rejected, or did not manage in too many attempts."""

    event_id: str
    reason: str
    died_at: datetime | None
    deliveries: int
    size: int

    @property
    def given_up(self) -> bool:
        """Nobody rejected it: it was given too often. `delivery_limit`: RabbitMQ's own word."""
        return self.reason == "delivery_limit" or self.reason.startswith(GIVEN_UP)


@dataclass(frozen=True, slots=True)
class DeadChoice:
    """Which dead letters: of these events, and of those the ones with this reason; None: all."""

    event_ids: Collection[str] | None = None
    reason: str | None = None

    def holds(self, event_id: str, reason: str) -> bool:
        return (self.event_ids is None or event_id in self.event_ids) and (
            self.reason is None or reason == self.reason
        )


ALL_DEAD: Final = DeadChoice()

#: Is told dead letters that are about to leave, so many at a time.
Leaving = Callable[[Sequence[DeadLetter]], None]
LEAVING_TOGETHER: Final = 50


def nobody_notes(letters: Sequence[DeadLetter]) -> None:
    """Where there is no ledger."""


class Output(Protocol):
    """Where events go. Thread-safe. Every method is bounded in time and raises TryAgain
    (BrokerDown) or NeedsPerson (BrokerRefused) where the broker cannot be asked."""

    def ensure(self, handler: str, generation: str) -> bool:
        """Creates the queue where it is missing; True where it was. One that is there and whose
        entries are partly gone is made whole again: what is gone no longer counts as pending.

        Call it only after noting in Postgres that the queue of this `generation` has still to be
        filled: a queue created without that would hide what was lost.
        """
        ...

    def publish(self, batch: Sequence[Publication]) -> list[str | PosthouseError]:
        """Publishes a batch at the price of about one round trip.

        For each event, in order: its position (Redis: the stream id; RabbitMQ: empty) once the
        broker has it, or why not: QueueLost, or NotTaken.
        """
        ...

    def inspect(self, handler: str) -> QueueCounts: ...

    def missing(self, handler: str, positions: Collection[str]) -> set[str]:
        """Which of these confirmed, not yet acknowledged positions are no longer in the queue.

        Ask before `trim`. On RabbitMQ, where positions are unknown, none.
        """
        ...

    def trim(self, handler: str, up_to: str) -> None:
        """Forgets what was acknowledged, up to and including the position `up_to`.

        Redis keeps acknowledged entries until then; RabbitMQ drops them by itself.
        """
        ...

    def delete(self, handler: str) -> None:
        """Removes the queue with its dead letters; one that is gone already is fine."""
        ...

    def dead(self, handler: str, limit: int = 100) -> list[DeadLetter]:
        """Dead letters, oldest first."""
        ...

    def deliver_dead_again(
        self, handler: str, chosen: DeadChoice = ALL_DEAD, leaving: Leaving = nobody_notes
    ) -> dict[str, str]:
        """Puts dead letters at the end of the queue: the position there of each event."""
        ...

    def discard_dead(
        self, handler: str, chosen: DeadChoice = ALL_DEAD, leaving: Leaving = nobody_notes
    ) -> list[str]:
        """Removes dead letters for good; the ids of their events."""
        ...

    def make_account(self, handler: str, password: str) -> BrokerAccount:
        """An account of the broker that can consume this handler's queue and nothing else; one
        that is there gets this password. Where Posthouse's own account may not make it, the answer
        has the commands that do."""
        ...

    def remove_account(self, handler: str) -> None:
        """Removes that account, where there is one and Posthouse may."""
        ...

    def check(self) -> None:
        """Raises where the broker cannot be reached or does not let us in."""
        ...

    def check_publishing(self) -> None:
        """Raises also where it takes nothing: for who publishes. Leaves nothing behind."""
        ...

    def close(self) -> None: ...


def checked_name(handler: str) -> str:
    """The name where it may stand in a queue's name. Raises InvalidInput."""
    if not _NAME.fullmatch(handler):
        raise InvalidInput(
            f"{handler!r} is no name for a handler: use a-z, 0-9 and -, at most 64 characters.",
            field="name",
        )
    return handler


def not_taken(error: PosthouseError) -> PosthouseError:
    """A failure of the broker as the outcome of one event: what needs a person stays as it is."""
    if isinstance(error, NeedsPerson):
        return error
    failure = NotTaken(str(error), hint=error.hint)
    failure.__cause__ = error
    return failure
