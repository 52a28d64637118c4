"""Events to the handlers' queues, on Redis or on RabbitMQ."""

from shared.queueing.output.accounts import BrokerAccount
from shared.queueing.output.base import (
    ALL_DEAD,
    DeadChoice,
    DeadLetter,
    NotTaken,
    Output,
    Publication,
    QueueCounts,
    QueueLost,
)

__all__ = [
    "ALL_DEAD",
    "BrokerAccount",
    "DeadChoice",
    "DeadLetter",
    "NotTaken",
    "Output",
    "Publication",
    "QueueCounts",
    "QueueLost",
]
