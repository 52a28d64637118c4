"""The dead letters of a handler on RabbitMQ, read one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from posthouse.signing import HEADER
from shared.queueing.output.base import LEAVING_TOGETHER, DeadLetter
from shared.queueing.output.rabbitmq_queues import connected, counts_of, dead_name


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """`acknowledge` takes it out of the queue; else it goes back when the reading ends."""

    letter: DeadLetter
    body: bytes
    #: As it was signed: signing it here would vouch for whatever somebody put there.
    signature: str
    acknowledge: Callable[[], None]


def dead_messages(url: str, handler: str, limit: int | None) -> Iterator[Sequence[DeadMessage]]:
    """Each of the present dead letters once, some at a time; those not acknowledged go back at the
    end."""
    name = dead_name(handler)
    with connected(url) as connection:
        counts = counts_of(connection, name)
        left = counts.messages if counts else 0
        channel = connection.channel()
        together: list[DeadMessage] = []
        for _ in range(left if limit is None else min(left, limit)):
            method, properties, body = channel.basic_get(name)
            if method is None:
                break
            message = DeadMessage(
                letter=_letter(properties, body),
                body=body,
                signature=str((properties.headers or {}).get(HEADER) or ""),
                acknowledge=partial(channel.basic_ack, method.delivery_tag),
            )
            together.append(message)
            if len(together) == LEAVING_TOGETHER:
                yield together
                together = []
        yield together


def _letter(properties: Any, body: bytes) -> DeadLetter:
    died_at, reason, deliveries = _death(properties)
    return DeadLetter(
        event_id=_event_id(properties, body),
        reason=reason,
        died_at=died_at,
        deliveries=deliveries,
        size=len(body),
    )


def _death(properties: Any) -> tuple[datetime | None, str, int]:
    """When, why and after how many deliveries: our own headers, else RabbitMQ's `x-death`."""
    headers = properties.headers or {}
    deaths = headers.get("x-death") or [{}]
    reason = str(headers.get("x-posthouse-reason") or deaths[0].get("reason") or "")
    died = headers.get("x-posthouse-died-at")
    if died is not None:
        at: datetime | None = datetime.fromtimestamp(int(died), UTC)
    else:
        # pika gives AMQP timestamps as naive UTC.
        stamp = deaths[0].get("time")
        at = stamp.replace(tzinfo=UTC) if isinstance(stamp, datetime) else None
    deliveries = headers.get("x-posthouse-deliveries", headers.get("x-delivery-count", 0))
    return at, reason, int(deliveries)


def _event_id(properties: Any, body: bytes) -> str:
    if properties.message_id:
        return str(properties.message_id)
    try:
        return str(json.loads(body)["id"])
    except (ValueError, KeyError, TypeError):
        return ""
