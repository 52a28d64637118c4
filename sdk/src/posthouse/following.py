"""Watching a handler's events without taking any from it: for looking, not for handling."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from posthouse.broker_address import REDIS_SCHEMES
from posthouse.event import MailEvent
from posthouse.signing import FIELD as SIGNATURE
from posthouse.signing import HEADER, Unverified, Verifier
from posthouse.source import SourceLost
from posthouse.source_opening import open_source

_log = logging.getLogger("posthouse")
_WAIT_S = 1.0


def follow(
    url: str,
    handler: str,
    *,
    backlog: bool = False,
    stop: threading.Event | None = None,
    signing_key: str | Sequence[str] | None = None,
    verify: bool = True,
) -> Iterator[MailEvent]:
    """Events as they come, until `stop` is set. Nothing is acknowledged, nobody misses anything.

    `backlog` (Redis): also what the stream still holds, from the oldest on. On RabbitMQ this reads
    from a queue of its own that is bound beside the handler's, and vanishes with this program: it
    sees what is published from now on. Events whose signature does not fit (see `Consumer`) are
    logged and left out; `verify=False` yields them too. Raises ValueError without a key,
    SourceLost where the broker goes away, AccessRefused where it does not let us in.
    """
    open_source(url, handler, prefetch=1, stale_after_s=60).close()  # checks both, and the library
    verifier = Verifier(handler, signing_key) if verify else None
    stop = stop or threading.Event()
    bodies = _redis if urlsplit(url).scheme in REDIS_SCHEMES else _rabbitmq
    for body, signature in bodies(url, handler, backlog, stop):
        try:
            if verifier is not None:
                verifier.check(body, signature)
        except Unverified as error:
            _log.error("an event is left out: %s", error)
            continue
        yield MailEvent.from_json(body)


def _redis(
    url: str, handler: str, backlog: bool, stop: threading.Event
) -> Iterator[tuple[bytes, str]]:
    from posthouse.redis_source import FIELD, border, entries_of, open_client, stream_key

    key = stream_key(handler)
    client = open_client(url)
    try:
        position: Any = "0"
        if not backlog:
            with border():
                last = client.xrevrange(key, count=1)
                position = last[0][0] if last else "0"
        while not stop.is_set():
            with border():
                answer = client.execute_command(
                    "XREAD", "COUNT", 20, "BLOCK", int(_WAIT_S * 1000), "STREAMS", key, position
                )
            for entry in entries_of(answer):
                position = entry[0]
                signature = entry[1].get(SIGNATURE.encode(), b"").decode(errors="replace")
                yield entry[1].get(FIELD, b""), signature
    finally:
        client.close()


def _rabbitmq(
    url: str, handler: str, _backlog: bool, stop: threading.Event
) -> Iterator[tuple[bytes, str]]:
    import pika.exceptions

    from posthouse.rabbitmq_source import EXCHANGE, connect

    connection = connect(url)
    try:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
        channel.queue_bind(queue, EXCHANGE, f"handler.{handler}")
        channel.basic_qos(prefetch_count=20)
        for method, properties, body in channel.consume(queue, inactivity_timeout=_WAIT_S):
            if stop.is_set():
                return
            if method is not None:
                channel.basic_ack(method.delivery_tag)
                yield body, str((properties.headers or {}).get(HEADER) or "")
    except (pika.exceptions.AMQPError, OSError) as error:
        raise SourceLost(f"RabbitMQ is away: {error!r}") from error
    finally:
        if connection.is_open:
            connection.close()
