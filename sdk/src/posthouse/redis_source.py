"""A handler's queue on Redis: the stream `posthouse:handler:<name>`, consumer group `posthouse`."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
import redis.backoff
import redis.exceptions
import redis.retry

from posthouse import signing
from posthouse.redis_connection import is_wrong_server, open_moving_client
from posthouse.source import AccessRefused, Held, SourceLost

GROUP = "posthouse"
FIELD = b"event"
SIGNATURE = signing.FIELD.encode()
_BEGINNING = b"0-0"
#: Calls at once in search of what a consumer left, however many are in hand.
_MOST_LOOKS = 100


def stream_key(handler: str) -> str:
    return f"posthouse:handler:{handler}"


def open_client(url: str) -> Any:
    """A client whose every wait is bounded, longer than the longest blocking read."""
    return open_moving_client(
        url,
        protocol=2,
        socket_connect_timeout=5,
        socket_timeout=15,
        socket_keepalive=True,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    )


class RedisSource:
    """See `posthouse.source.Source`."""

    longest_delay_s = 7 * 86400.0
    keeps_held = True

    def __init__(self, url: str, handler: str, *, stale_after_s: float) -> None:
        self._client = open_client(url)
        self._key = stream_key(handler)
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._stale_ms = int(stale_after_s * 1000)
        self._looked_at = 0.0
        self._looked_to = _BEGINNING

    def receive(self, room: int, wait_s: float) -> list[Held]:
        if room <= 0:
            return []
        with border():
            taken = self._take_over(room)
            if taken:
                return taken
            command = ["XREADGROUP", "GROUP", GROUP, self._name, "COUNT", room]
            if wait_s > 0:
                command += ["BLOCK", max(1, int(wait_s * 1000))]
            answer = self._client.execute_command(*command, "STREAMS", self._key, ">")
            entries = entries_of(answer)
            return [_held(position, fields, 1) for position, fields in entries]

    def acknowledge(self, done: Sequence[Held]) -> None:
        with border():
            self._client.xack(self._key, GROUP, *(held.token for held in done))

    def again(self, held: Held, *, counts: bool) -> Held | None:
        attempt = held.attempt + counts
        with border():
            if not self._ours([held]):
                return None
            # Claiming one's own entry gives the octets again.
            answer = self._client.execute_command(
                "XCLAIM", self._key, GROUP, self._name, 0, held.token, "RETRYCOUNT", attempt
            )
            entries = self._present(_pairs(answer))
            return _held(held.token, entries[0][1], attempt) if entries else None

    def dead_letter(self, held: Held, reason: str) -> None:
        with border():
            if not self._ours([held]):
                return  # who has it now may handle it
            dead = {
                FIELD: held.body,
                SIGNATURE: held.signature.encode(),
                b"reason": reason.encode(),
                b"deliveries": str(held.attempt).encode(),
                b"position": held.token,
            }
            pipeline = self._client.pipeline(transaction=True)
            if held.body:  # else the entry has no event
                pipeline.xadd(f"{self._key}:dead", dead)
            pipeline.xack(self._key, GROUP, held.token)
            pipeline.execute()

    def keep(self, held: Sequence[Held]) -> None:
        if not held:
            return
        with border():
            if alive := self._ours(held):
                self._client.xclaim(self._key, GROUP, self._name, 0, alive, justid=True)

    def give_back(self, held: Sequence[Held]) -> None:
        if not held:
            return
        with border():
            # So idle that the next look of any consumer takes them over, and counts a delivery.
            for attempt in {one.attempt for one in held}:
                self._client.xclaim(
                    self._key,
                    GROUP,
                    self._name,
                    0,
                    [one.token for one in held if one.attempt == attempt],
                    idle=self._stale_ms,
                    retrycount=attempt - 1,
                    justid=True,
                )

    def close(self) -> None:
        try:
            # A consumer without pending entries is only a name; with some it must stay.
            consumers = self._client.xinfo_consumers(self._key, GROUP)
            if any(c["name"].decode() == self._name and not c["pending"] for c in consumers):
                self._client.xgroup_delconsumer(self._key, GROUP, self._name)
        except (redis.RedisError, OSError):
            pass
        self._client.close()

    def _ours(self, held: Sequence[Held]) -> list[bytes]:
        """The tokens of those that are still ours: another consumer may have taken over what we
        left idle."""
        wanted = {one.token for one in held}
        first, last = ("-", "+") if len(held) > 1 else (held[0].token, held[0].token)
        mine = self._client.xpending_range(
            self._key, GROUP, min=first, max=last, count=len(wanted) + 1000,
            consumername=self._name,
        )  # fmt: skip
        return [entry["message_id"] for entry in mine if entry["message_id"] in wanted]

    def _take_over(self, room: int) -> list[Held]:
        """Entries that a consumer took and showed no sign of life for since; now and then."""
        if time.monotonic() - self._looked_at < self._stale_ms / 4000:
            return []
        entries = self._stale(room)
        if not entries:
            return []
        counts = self._client.xpending_range(
            self._key, GROUP, min=entries[0][0], max=entries[-1][0], count=len(entries) + 1000,
            consumername=self._name,
        )  # fmt: skip
        delivered = {entry["message_id"]: int(entry["times_delivered"]) for entry in counts}
        return [_held(p, fields, delivered.get(p, 2)) for p, fields in entries]

    def _stale(self, room: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """A call looks at ten entries for each it may claim: this goes on behind those alive."""
        for _ in range(_MOST_LOOKS):
            answer = self._client.execute_command(
                "XAUTOCLAIM", self._key, GROUP, self._name, self._stale_ms, self._looked_to,
                "COUNT", room,
            )  # fmt: skip
            self._looked_to = answer[0]
            if entries := self._present(_pairs(answer[1])):
                return entries
            if self._looked_to == _BEGINNING:
                self._looked_at = time.monotonic()
                break
        return []

    def _present(
        self, entries: Sequence[tuple[bytes, dict[bytes, bytes] | None]]
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Those whose octets are there; Redis 6.2 also names entries that were deleted."""
        gone = [position for position, fields in entries if fields is None]
        if gone:
            self._client.xack(self._key, GROUP, *gone)
        return [(p, fields) for p, fields in entries if fields is not None]


def _held(position: bytes, fields: dict[bytes, bytes], attempt: int) -> Held:
    signature = fields.get(SIGNATURE, b"").decode(errors="replace")
    return Held(position, fields.get(FIELD, b""), attempt, signature)


@contextmanager
def border() -> Iterator[None]:
    """Failures of redis-py as SourceLost or AccessRefused."""
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise AccessRefused(f"Redis refuses user or password: {error}") from error
    except redis.exceptions.NoPermissionError as error:
        raise AccessRefused(f"Redis: {error}") from error
    except redis.exceptions.RedisError as error:
        if is_wrong_server(error):
            # The next question goes to whatever server is behind the address by then.
            raise SourceLost(f"Redis failed over, connecting anew: {error}") from error
        if not isinstance(error, redis.exceptions.ResponseError):
            raise SourceLost(f"Redis is away: {error}") from error
        if str(error).startswith(("NOGROUP", "UNBLOCKED")) or "no such key" in str(error):
            raise SourceLost("Posthouse has not created the queue (again) yet") from error
        raise SourceLost(f"Redis: {error}", 5.0) from error
    except OSError as error:
        raise SourceLost(f"Redis is away: {error}") from error


def entries_of(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of the only stream in an answer of XREAD or XREADGROUP."""
    if not answer:
        return []
    if isinstance(answer, dict):  # as redis-py gives it under RESP3
        return [entry for groups in answer.values() for group in groups for entry in group]
    return [(position, fields or {}) for position, fields in answer[0][1]]


def _pairs(answer: Any) -> list[tuple[bytes, dict[bytes, bytes] | None]]:
    """Entries of XCLAIM and XAUTOCLAIM, parsed by the library or not."""
    found: list[tuple[bytes, dict[bytes, bytes] | None]] = []
    for entry in answer or ():
        if entry is None or entry[0] is None:
            continue
        position, fields = entry
        if isinstance(fields, list):
            fields = dict(zip(fields[::2], fields[1::2], strict=True))
        found.append((position, fields))
    return found
