"""Handlers' queues on RabbitMQ (3.10 or later): a durable quorum queue a handler.

What is being handled right now cannot be asked over AMQP, only what waits. Without a management
address, a queue that is seen empty therefore vouches only for what was published long enough ago
that no consumer can still hold it: RabbitMQ takes a delivery back after its consumer timeout, and
at most `DELIVERY_LIMIT` times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from typing import Final

from posthouse.signing import HEADER
from shared.clock import utc_now
from shared.errors import PosthouseError
from shared.queueing.connect import rabbitmq_parameters
from shared.queueing.output import rabbitmq_queues
from shared.queueing.output.accounts import (
    BrokerAccount,
    make_rabbitmq_account,
    remove_rabbitmq_account,
)
from shared.queueing.output.base import (
    ALL_DEAD,
    CONTENT_TYPE,
    DeadChoice,
    DeadLetter,
    Leaving,
    NotTaken,
    Publication,
    QueueCounts,
    QueueLost,
    checked_name,
    nobody_notes,
    not_taken,
)
from shared.queueing.output.rabbitmq_dead_letters import DeadMessage, dead_messages
from shared.queueing.output.rabbitmq_queues import (
    DELIVERY_LIMIT,
    EXCHANGE,
    connected,
    counts_of,
    dead_name,
    is_sound,
    marker_name,
    queue_name,
)
from shared.queueing.output.rabbitmq_statistics import figures_of
from shared.queueing.rabbitmq_publishing import ConfirmingPublisher, Outgoing, PublishOutcome

#: RabbitMQ's default for how long a consumer may hold a delivery.
CONSUMER_TIMEOUT: Final = timedelta(minutes=30)

#: The management plugin's figures are a few seconds old.
_FIGURES_AGE: Final = timedelta(seconds=60)

#: Looks, a quarter of a second apart, at a queue that may be recovering.
_RECOVERY_LOOKS: Final = 12


class RabbitmqOutput:
    """See `shared.queueing.output.base.Output`."""

    def __init__(self, url: str, *, management_url: str = "") -> None:
        self._url = url
        self._parameters = rabbitmq_parameters(url)
        self._management_url = management_url
        self._publisher = ConfirmingPublisher(url)

    def ensure(self, handler: str, generation: str) -> bool:
        return rabbitmq_queues.ensure(self._url, handler, generation)

    def publish(self, batch: Sequence[Publication]) -> list[str | PosthouseError]:
        try:
            outcomes = self._publisher.publish(
                [
                    Outgoing(
                        EXCHANGE,
                        f"handler.{p.handler}",
                        p.event,
                        p.message_id,
                        CONTENT_TYPE,
                        {HEADER: p.signature},
                    )
                    for p in batch
                ]
            )
        except PosthouseError as error:
            return [not_taken(error)] * len(batch)
        return [_result(p, outcome) for p, outcome in zip(batch, outcomes, strict=True)]

    def inspect(self, handler: str) -> QueueCounts:
        asked_at = utc_now()
        names = queue_name(handler), dead_name(handler), marker_name(handler)
        with connected(self._url) as connection:
            queue, dead, marker = (counts_of(connection, name) for name in names)
            for _ in range(_RECOVERY_LOOKS):
                sound = is_sound(self._url, names[0], queue)
                if queue is None or marker is None or (sound and marker.messages):
                    break
                # A queue that is still recovering after a restart answers as if it were empty.
                connection.sleep(0.25)
                queue, dead, marker = (counts_of(connection, name) for name in names)
        dead_letters = dead.messages if dead else 0
        if queue is None or marker is None or not (sound and marker.messages):
            return QueueCounts(exists=False, dead=dead_letters)
        figures = figures_of(self._management_url, self._parameters.virtual_host, names[0])
        handled = figures and figures.handled
        drained = not queue.messages and not handled
        if handled is None:
            vouched = asked_at - CONSUMER_TIMEOUT * (DELIVERY_LIMIT + 1)
        else:
            vouched = asked_at - _FIGURES_AGE
        return QueueCounts(
            exists=True,
            backlog=queue.messages + (handled or 0),
            dead=dead_letters,
            drained=drained,
            acknowledged_before=vouched if drained else None,
            consumers=figures and figures.consumers,
            acknowledgements=figures and figures.acknowledgements,
        )

    def missing(self, handler: str, positions: Collection[str]) -> set[str]:
        return set()

    def trim(self, handler: str, up_to: str) -> None:
        pass

    def delete(self, handler: str) -> None:
        rabbitmq_queues.delete(self._url, handler)

    def dead(self, handler: str, limit: int = 100) -> list[DeadLetter]:
        return [
            message.letter
            for together in dead_messages(self._url, handler, limit)
            for message in together
        ]

    def deliver_dead_again(
        self, handler: str, chosen: DeadChoice = ALL_DEAD, leaving: Leaving = nobody_notes
    ) -> dict[str, str]:
        moved = {}
        for message in self._chosen(handler, chosen, leaving):
            event_id = message.letter.event_id
            again = Publication(handler, message.body, event_id, message.signature)
            result = self.publish([again])[0]
            if isinstance(result, PosthouseError):
                raise result
            message.acknowledge()
            moved[event_id] = result
        return moved

    def discard_dead(
        self, handler: str, chosen: DeadChoice = ALL_DEAD, leaving: Leaving = nobody_notes
    ) -> list[str]:
        gone = []
        for message in self._chosen(handler, chosen, leaving):
            message.acknowledge()
            gone.append(message.letter.event_id)
        return gone

    def _chosen(self, handler: str, chosen: DeadChoice, leaving: Leaving) -> Iterator[DeadMessage]:
        for together in dead_messages(self._url, handler, None):
            wanted = [
                message
                for message in together
                if chosen.holds(message.letter.event_id, message.letter.reason)
            ]
            if wanted:
                leaving([message.letter for message in wanted])
            yield from wanted

    def make_account(self, handler: str, password: str) -> BrokerAccount:
        return make_rabbitmq_account(
            self._management_url,
            self._parameters.virtual_host,
            handler,
            queue_name(handler),
            dead_name(handler),
            password,
        )

    def remove_account(self, handler: str) -> None:
        remove_rabbitmq_account(self._management_url, checked_name(handler))

    def check(self) -> None:
        with connected(self._url):
            pass

    def check_publishing(self) -> None:
        self._publisher.check()

    def close(self) -> None:
        self._publisher.close()


def _result(publication: Publication, outcome: PublishOutcome) -> str | PosthouseError:
    if outcome is PublishOutcome.CONFIRMED:
        return ""
    if outcome is PublishOutcome.RETURNED:
        return QueueLost(publication.handler)
    if outcome is PublishOutcome.REFUSED:
        return NotTaken("RabbitMQ refused the event.")
    return NotTaken("RabbitMQ did not confirm the event in time.")
