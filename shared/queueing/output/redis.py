"""Handlers' queues as Redis streams (6.2 or later): one stream and one consumer group a handler.

An entry has one field, `event`. Acknowledged entries stay until they are trimmed, and they are
trimmed only up to what Postgres remembers as acknowledged; so an entry above that mark which is
not in the stream was lost, and is published again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, Final

import redis

from shared.errors import PosthouseError
from shared.queueing.connect import redis_client, translated
from shared.queueing.output.accounts import (
    BrokerAccount,
    make_redis_account,
    remove_redis_account,
)
from shared.queueing.output.base import (
    ALL_DEAD,
    IN_HAND_LISTED,
    DeadChoice,
    DeadLetter,
    InHand,
    Leaving,
    Publication,
    QueueConsumer,
    QueueCounts,
    QueueLost,
    checked_name,
    nobody_notes,
    not_taken,
)
from shared.queueing.output.redis_dead_letters import (
    chosen_entries,
    dead_key,
    dead_letters,
    event_id,
)
from shared.queueing.output.redis_entry_ids import after, before, order, time_of
from shared.queueing.output.redis_publishing import (
    FIELD,
    SIGNATURE,
    append,
    pipelines,
    stream_key,
)

GROUP: Final = "posthouse"

#: Milliseconds without a sign of life after which a consumer that holds nothing is forgotten. One
#: that only waits all the same, in a read without end, is there again with its next event.
_FORGOTTEN_AFTER_MS: Final = 3_600_000
_FORGET: Final = """
for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local one = {}
  for i = 1, #facts, 2 do one[facts[i]] = facts[i + 1] end
  if one.pending == 0 and one.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], one.name)
  end
end
"""
#: Answers, for each id given, whether the stream has that entry (without sending the entry).
_PRESENT: Final = """
local found = {}
for i, id in ipairs(ARGV) do
  found[i] = #redis.call('XRANGE', KEYS[1], id, id)
end
return found
"""

#: No handler's, as its name would be empty, and yet among the keys that whoever publishes may use.
_NO_STREAM: Final = "posthouse:handler::check"


def _generation_key(handler: str) -> str:
    return f"{stream_key(handler)}:generation"


class RedisOutput:
    """See `shared.queueing.output.base.Output`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = redis_client(url)

    def ensure(self, handler: str, generation: str) -> bool:
        with _translating(self._url):
            pipeline = self._client.pipeline(transaction=True)
            # From 0: a group that was lost alone gets what its stream still holds.
            pipeline.execute_command("XGROUP CREATE", stream_key(handler), GROUP, "0", "MKSTREAM")
            pipeline.execute_command("SET", _generation_key(handler), generation)
            answer, _ = pipeline.execute(raise_on_error=False)
            if isinstance(answer, Exception):
                if not str(answer).startswith("BUSYGROUP"):
                    raise answer
                self._forget_gone(stream_key(handler))
                return False
            return True

    def publish(self, batch: Sequence[Publication]) -> list[str | PosthouseError]:
        results: list[str | PosthouseError] = []
        for part in pipelines(batch):
            try:
                answers = append(self._client, part)
            except (redis.RedisError, OSError) as error:
                failure = not_taken(translated(error, self._url))
                results.extend([failure] * (len(batch) - len(results)))
                return results
            results.extend(self._result(p, a) for p, a in zip(part, answers, strict=True))
        return results

    def inspect(self, handler: str) -> QueueCounts:
        key = stream_key(handler)
        with _translating(self._url):
            try:
                answers = self._facts(handler, at_once=True)
            except redis.exceptions.OutOfMemoryError:
                # Redis without memory refuses transactions, and only what is trimmed hereafter
                # gives it room. In this order the answers say no more than is acknowledged: what
                # was delivered before it is asked what is pending.
                answers = self._facts(handler, at_once=False)
            stream, groups, pending, dead, generation, info, consumers, held = answers
            for answer in answers:
                if isinstance(answer, Exception) and not _is_absent(answer):
                    raise answer
            facts: dict[str, Any] = {
                "generation": (generation or b"").decode(),
                "incarnation": str(info["run_id"]),
                "dead": int(dead),
            }
            group = next((g for g in groups if g["name"] == GROUP.encode()), None) if isinstance(
                groups, list
            ) else None  # fmt: skip
            if isinstance(stream, Exception) or group is None or isinstance(pending, Exception):
                return QueueCounts(exists=False, **facts)
            facts |= _at_work(group, pending, self._without_gone(key, consumers), held)
            return self._state(key, stream, group, pending, facts)

    def _facts(self, handler: str, *, at_once: bool) -> list[Any]:
        """What Redis answers of a queue, in this order. Raises RedisError and OSError."""
        key = stream_key(handler)
        pipeline = self._client.pipeline(transaction=at_once)
        pipeline.execute_command("XINFO STREAM", key)
        pipeline.execute_command("XINFO GROUPS", key)
        pipeline.execute_command("XPENDING", key, GROUP)
        pipeline.execute_command("XLEN", dead_key(handler))
        pipeline.execute_command("GET", _generation_key(handler))
        pipeline.execute_command("INFO", "server")
        pipeline.execute_command("XINFO CONSUMERS", key, GROUP)
        pipeline.execute_command(
            "XPENDING", key, GROUP, "-", "+", IN_HAND_LISTED, parse_detail=True
        )
        return list(pipeline.execute(raise_on_error=False))

    def _without_gone(self, key: str, consumers: Any) -> Any:
        """A program that was killed leaves its name to the group: it is forgotten after a while.

        Only one that holds nothing, which the script looks at once more: what a consumer holds
        goes with its name."""
        kept = [one for one in consumers if one["pending"] or one["idle"] <= _FORGOTTEN_AFTER_MS]
        if len(kept) < len(consumers):
            script = self._client.register_script(_FORGET)
            script(keys=[key], args=[GROUP, _FORGOTTEN_AFTER_MS])
        return kept

    def missing(self, handler: str, positions: Collection[str]) -> set[str]:
        key, wanted = stream_key(handler), list(positions)
        gone: set[str] = set()
        with _translating(self._url):
            script = self._client.register_script(_PRESENT)
            for start in range(0, len(wanted), 1000):
                part = wanted[start : start + 1000]
                found = script(keys=[key], args=part)
                gone.update(p for p, present in zip(part, found, strict=True) if not present)
        return gone

    def trim(self, handler: str, up_to: str) -> None:
        if not up_to:
            return
        with _translating(self._url):
            self._client.execute_command("XTRIM", stream_key(handler), "MINID", "=", after(up_to))

    def delete(self, handler: str) -> None:
        with _translating(self._url):
            self._client.delete(stream_key(handler), dead_key(handler), _generation_key(handler))

    def dead(self, handler: str, limit: int = 100) -> list[DeadLetter]:
        with _translating(self._url):
            return dead_letters(self._client, handler, limit)

    def deliver_dead_again(
        self, handler: str, chosen: DeadChoice = ALL_DEAD, leaving: Leaving = nobody_notes
    ) -> dict[str, str]:
        moved = {}
        with _translating(self._url):
            entries = chosen_entries(self._client, handler, chosen, leaving)
            for position, identifier, fields in entries:
                # As it was signed: signing it here would vouch for whatever somebody put there.
                signature = fields.get(SIGNATURE, b"").decode(errors="replace")
                event = fields.get(FIELD, b"")
                result = self.publish([Publication(handler, event, identifier, signature)])[0]
                if isinstance(result, PosthouseError):
                    raise result
                self._client.xdel(dead_key(handler), position)
                moved[identifier] = result
        return moved

    def discard_dead(
        self, handler: str, chosen: DeadChoice = ALL_DEAD, leaving: Leaving = nobody_notes
    ) -> list[str]:
        gone = []
        with _translating(self._url):
            for position, identifier, _ in chosen_entries(self._client, handler, chosen, leaving):
                self._client.xdel(dead_key(handler), position)
                gone.append(identifier)
        return gone

    def make_account(self, handler: str, password: str) -> BrokerAccount:
        with _translating(self._url):
            return make_redis_account(
                self._client, handler, stream_key(handler), dead_key(handler), password
            )

    def remove_account(self, handler: str) -> None:
        with _translating(self._url), suppress(redis.exceptions.ResponseError):
            remove_redis_account(self._client, checked_name(handler))

    def check(self) -> None:
        with _translating(self._url):
            self._client.ping()

    def check_publishing(self) -> None:
        with _translating(self._url):
            # Adds nothing, as there is no such stream; refused where an event is.
            self._client.xadd(_NO_STREAM, {FIELD: b""}, nomkstream=True)

    def close(self) -> None:
        self._client.close()

    def _result(self, publication: Publication, answer: Any) -> str | PosthouseError:
        if isinstance(answer, bytes):
            return answer.decode()
        if answer is None:
            return QueueLost(publication.handler)
        return not_taken(translated(answer, self._url))

    def _state(
        self, key: str, stream: dict[str, Any], group: dict[str, Any], pending: Any, facts: Any
    ) -> QueueCounts:
        last = stream["last-generated-id"].decode()
        delivered = group["last-delivered-id"].decode()
        waiting = self._client.xrange(key, min=f"({delivered}", count=1)
        count, lowest = int(pending["pending"]), pending["min"]
        backlog = count + _undelivered(stream, group, waiting)
        if count:
            position = lowest.decode()
            entry = self._client.xrange(key, min=position, max=position)
            acknowledged = before(position)
        else:
            position = waiting[0][0].decode() if waiting else ""
            entry = waiting
            acknowledged = delivered
        gone = (not entry) if count else (not waiting and order(delivered) < order(last))
        return QueueCounts(
            exists=True,
            backlog=backlog,
            oldest_at=time_of(position) if position else None,
            drained=not count and order(delivered) >= order(last),
            entries_gone=gone,
            acknowledged_position=acknowledged,
            lowest_pending_event_id=event_id(entry[0][1].get(FIELD, b"")) if entry else "",
            last_position=last,
            **facts,
        )

    def _forget_gone(self, key: str) -> None:
        """What was pending and is not in the stream any more can never be acknowledged."""
        start = "-"
        while True:
            page = self._client.xpending_range(key, GROUP, min=start, max="+", count=1000)
            if not page:
                break
            positions = [entry["message_id"] for entry in page]
            present = self._client.eval(_PRESENT, 1, key, *positions)
            gone = [p for p, found in zip(positions, present, strict=True) if not found]
            if gone:
                self._client.xack(key, GROUP, *gone)
            start = f"({positions[-1].decode()}"
        stream = self._client.execute_command("XINFO STREAM", key)
        groups = self._client.execute_command("XINFO GROUPS", key)
        last = stream["last-generated-id"].decode()
        delivered = next(g["last-delivered-id"] for g in groups if g["name"] == GROUP.encode())
        behind = order(delivered.decode()) < order(last)
        if behind and not self._client.xrange(key, min=f"({delivered.decode()}", max=last, count=1):
            # None is waiting up to `last`; one that came since has a higher id.
            self._client.xgroup_setid(key, GROUP, last)


def _at_work(group: dict[str, Any], pending: Any, consumers: Any, held: Any) -> dict[str, Any]:
    """Who reads the queue, what is in hand, and how many were acknowledged so far."""
    whole = int(pending["pending"]) <= IN_HAND_LISTED
    read = group.get("entries-read")  # since Redis 7
    return {
        "consumers": tuple(
            QueueConsumer(
                name=one["name"].decode(errors="replace"),
                in_hand=int(one["pending"]),
                idle_s=one["idle"] / 1000,
            )
            for one in consumers
        ),
        "in_hand": tuple(
            InHand(
                position=one["message_id"].decode(),
                consumer=one["consumer"].decode(errors="replace"),
                idle_s=one["time_since_delivered"] / 1000,
                deliveries=int(one["times_delivered"]),
            )
            for one in held
        ),
        "read_position": group["last-delivered-id"].decode() if whole else "",
        "acknowledgements": None if read is None else int(read) - int(pending["pending"]),
    }


class _translating:
    """Failures of Redis leave as errors of ours."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, redis.RedisError | OSError):
            raise translated(error, self._url) from error


def _is_absent(answer: Exception) -> bool:
    text = str(answer)
    return text.startswith("NOGROUP") or "no such key" in text


def _undelivered(stream: dict[str, Any], group: dict[str, Any], waiting: Any) -> int:
    """How many entries no consumer was given yet. Redis 6.2 keeps no `lag`: then at most."""
    if not waiting:
        return 0
    lag = group.get("lag")
    return int(stream["length"]) if lag is None else int(lag)
