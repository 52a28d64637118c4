"""The dead letters of a handler on Redis: a stream beside its own, read and chosen from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from shared.queueing.output.base import LEAVING_TOGETHER, DeadChoice, DeadLetter, Leaving
from shared.queueing.output.redis_entry_ids import time_of
from shared.queueing.output.redis_publishing import FIELD, stream_key


def dead_key(handler: str) -> str:
    return f"{stream_key(handler)}:dead"


def dead_letters(client: Any, handler: str, limit: int) -> list[DeadLetter]:
    """The oldest ones. Raises RedisError, OSError."""
    return [
        _letter(position, fields)
        for position, fields in client.xrange(dead_key(handler), count=limit)
    ]


def _letter(position: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        event_id=event_id(fields.get(FIELD, b"")),
        reason=fields.get(b"reason", b"").decode(errors="replace"),
        died_at=time_of(position.decode()),
        deliveries=int(fields.get(b"deliveries", b"0")),
        size=len(fields.get(FIELD, b"")),
    )


def chosen_entries(
    client: Any, handler: str, chosen: DeadChoice, leaving: Leaving
) -> Iterator[tuple[bytes, str, dict[bytes, bytes]]]:
    """(position, event id, fields) of those that are there now, and of none that come meanwhile;
    `leaving` is told first. Raises RedisError, OSError."""
    key = dead_key(handler)
    last = client.xrevrange(key, count=1)
    for page in _pages(client, key, last[0][0] if last else b"0"):
        wanted = [
            (position, letter, fields)
            for position, fields in page
            if chosen.holds((letter := _letter(position, fields)).event_id, letter.reason)
        ]
        if wanted:
            leaving([letter for _, letter, _ in wanted])
        for position, letter, fields in wanted:
            yield position, letter.event_id, fields


def _pages(
    client: Any, key: str, last: bytes
) -> Iterator[Sequence[tuple[bytes, dict[bytes, bytes]]]]:
    start = "-"
    while True:
        page = client.xrange(key, min=start, max=last, count=LEAVING_TOGETHER)
        yield page
        if len(page) < LEAVING_TOGETHER:
            return
        start = f"({page[-1][0].decode()}"


def event_id(event: bytes) -> str:
    """The id of an event as it lies in a queue; empty where it is none."""
    try:
        return str(json.loads(event)["id"])
    except (ValueError, KeyError, TypeError):
        return ""
