"""Whether RabbitMQ takes what is published: all of it, and what goes to each queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Final

import pika
import pika.exceptions

from shared.queueing.connect import BrokerDown, place, rabbitmq_parameters, translated

#: Seconds for which a check lets the broker block its connection, as an alarm of memory or disk
#: does: time for an alarm that ends just now, and less than a check of readiness may take.
_BLOCKED_S = 1.0
#: Seconds between heartbeats of a check's connection. From one that it blocks, the broker reads no
#: end: it forgets it when a heartbeat of its own does not arrive.
_HEARTBEAT_S = 5
#: No queue's name: the default exchange gives a message to the queue of that name, if any.
_NO_QUEUE = "posthouse:check"
_ACCESS_REFUSED = 403  # AMQP 0-9-1 section 1.3, reply codes

#: Seconds for which a queue that did not confirm is told of where nothing more is published to it:
#: longer than it takes until what it did not take is published again.
_UNCONFIRMED_S: Final = 120.0


def check_publishing(url: str) -> None:
    """Publishes a message that no queue gets, and waits for its confirm.

    A broker with an alarm takes connections all the same, and blocks one once it publishes
    (https://www.rabbitmq.com/docs/alarms). Raises BrokerDown or BrokerRefused.
    """
    parameters = rabbitmq_parameters(url)
    parameters.blocked_connection_timeout = _BLOCKED_S
    parameters.heartbeat = _HEARTBEAT_S
    try:
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", _NO_QUEUE, b"")
        except pika.exceptions.ChannelClosedByBroker as error:
            # It took the message, and looked who may publish where. Not everybody who publishes
            # may do so to the default exchange.
            if error.reply_code != _ACCESS_REFUSED:
                raise
        finally:
            if connection.is_open:
                connection.close()
    except (pika.exceptions.AMQPError, OSError) as error:
        raise translated(error, url) from error


class Unconfirmed:
    """Routing keys under which what was published was last not confirmed in time. Thread-safe.

    A quorum queue without a majority of its nodes is like that on a broker that takes the rest. It
    cannot be asked: it is listed with what lies in it, and only who publishes learns it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def note(self, unconfirmed: Collection[str], confirmed: Collection[str]) -> None:
        now = time.monotonic()
        with self._lock:
            kept = {key: at for key, at in self._since.items() if now - at < _UNCONFIRMED_S}
            kept |= dict.fromkeys(unconfirmed, now)
            self._since = {key: at for key, at in kept.items() if key not in confirmed}

    def check(self, url: str) -> None:
        """Raises BrokerDown where there are any."""
        self.note((), ())
        with self._lock:
            silent = sorted(self._since)
        if silent:
            raise BrokerDown(
                f"{place(url)} does not confirm what is published to {', '.join(silent)}.",
                hint="A quorum queue takes nothing without a majority of its nodes: bring those "
                "back that are away (`rabbitmqctl list_queues name online members`).",
            )
