"""Events appended to Redis streams, many with one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import redis

from posthouse import signing
from shared.queueing.output.base import Publication, checked_name

FIELD: Final = b"event"
SIGNATURE: Final = signing.FIELD.encode()

#: What is sent before answers are read: bounds what either side holds in memory.
_PIPELINE_BYTES: Final = 8 << 20
#: What is handed to the socket at once: some events of small mails, for which both sides then
#: make one call.
_SENT_BYTES: Final = 128 << 10


def stream_key(handler: str) -> str:
    return f"posthouse:handler:{checked_name(handler)}"


def pipelines(batch: Iterable[Publication]) -> Iterator[list[Publication]]:
    """In parts of which each is one round trip."""
    return _by_size(batch, _PIPELINE_BYTES)


def append(client: Any, part: Sequence[Publication]) -> list[Any]:
    """Redis' answer for each: its position, None where there is no such stream, or an error.

    A pipeline of redis-py makes all commands before it sends the first one, and each has a call of
    its own to the socket: 6 of 15 µs an event here, and as many of 38 in Redis. Raises RedisError
    and OSError; how many were appended is not known then.
    """
    connection = client.connection_pool.get_connection()
    try:
        connection.send_packed_command(
            b"".join(chain.from_iterable(map(command, some)))
            for some in _by_size(part, _SENT_BYTES)
        )
        return [_answer(connection) for _ in part]
    except BaseException:
        connection.disconnect()  # answers that are on their way are not those of the next one
        raise
    finally:
        client.connection_pool.release(connection)


def command(publication: Publication) -> tuple[bytes, bytes, bytes]:
    """The command of one event in Redis' protocol (RESP), in pieces, the event among them as it is:
    the library would copy it once more, a third of the time of making and joining commands."""
    event = publication.event
    return (
        _before_event(publication.handler) + b"$%d\r\n" % len(event),
        event,
        b"\r\n" + _bulk(SIGNATURE) + _bulk(publication.signature.encode()),
    )


@lru_cache(maxsize=256)
def _before_event(handler: str) -> bytes:
    # Without NOMKSTREAM a stream that was flushed away would come back without its group, and
    # nobody would notice what went with it.
    words = (b"XADD", stream_key(handler).encode(), b"NOMKSTREAM", b"*", FIELD)
    return b"*8\r\n" + b"".join(map(_bulk, words))


def _bulk(octets: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(octets), octets)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error


def _by_size(batch: Iterable[Publication], octets: int) -> Iterator[list[Publication]]:
    """In parts of at least so many octets, but for the last."""
    part: list[Publication] = []
    size = 0
    for publication in batch:
        part.append(publication)
        size += len(publication.event)
        if size >= octets:
            yield part
            part, size = [], 0
    if part:
        yield part
