"""Handlers' queues: confirmed events, noticed losses, dead letters. The same on both brokers."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pika
import pytest
import redis

from shared.clock import utc_now
from shared.errors import InvalidInput, NeedsPerson, TryAgain
from shared.queueing.output import NotTaken, Output, Publication, QueueLost, redis_publishing
from shared.queueing.output import redis as output_on_redis
from shared.queueing.output.open import open_output
from shared.queueing.rabbitmq_publishing import ConfirmingPublisher, Outgoing, PublishOutcome
from tests.integration.queueing.conftest import (
    Server,
    consuming,
    event,
    eventually,
    make_queue,
    publish,
    read,
)
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer


@pytest.mark.promise("H1")
def test_what_is_published_arrives_byte_for_byte(
    server: Server, output: Output, handler: str
) -> None:
    assert output.ensure(handler, "g1")
    assert not output.ensure(handler, "g1")
    bodies = [event("Grüße, 日本 🎉 \x00")[1], event("x" * 1_400_000)[1], event()[1]]
    results = output.publish([Publication(handler, b, str(n)) for n, b in enumerate(bodies)])
    assert all(isinstance(result, str) for result in results)
    assert read(server.url, handler) == bodies


def test_thousands_in_one_batch_keep_their_order(
    server: Server, output: Output, handler: str
) -> None:
    output.ensure(handler, "g")
    ids = publish(output, handler, 3000, "y" * 500)
    assert output.inspect(handler).backlog == 3000
    assert [json.loads(body)["id"] for body in read(server.url, handler)] == ids


def test_answers_that_were_not_read_are_nobody_elses(
    redis_server: RedisServer, handler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that was broken off, by a signal or a wait that was too long, has answers left."""
    output = open_output(redis_server.url)
    output.ensure(handler, "g")
    hasty = open_output(f"{redis_server.url}?socket_timeout=0.3")
    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("CLIENT", "PAUSE", 600, "WRITE")
        (late,) = hasty.publish([Publication(handler, event()[1], "1")])
        assert isinstance(late, NotTaken)
        monkeypatch.setattr(redis_publishing, "_answer", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            publish(output, handler, 3)
        monkeypatch.undo()
        for one in (output, hasty):
            _, body = event("mine")
            (position,) = one.publish([Publication(handler, body, "2")])
            ((_, fields),) = client.xrange(f"posthouse:handler:{handler}", position, position)
            assert fields[b"event"] == body
            one.close()


def _interrupted(_connection: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.promise("I2")
def test_publishing_never_makes_a_queue(server: Server, output: Output, handler: str) -> None:
    """A queue that came back by itself would hide what was lost with the old one."""
    output.ensure(handler, "g")
    other = f"{handler}-x"
    (i, body), (j, lost) = event(), event()
    results = output.publish(
        [Publication(other, lost, j), Publication(handler, body, i), Publication(other, lost, j)]
    )
    assert isinstance(results[0], QueueLost)
    assert results[0].handler == other
    assert isinstance(results[1], str)
    assert isinstance(results[2], QueueLost)
    assert not output.inspect(other).exists
    assert read(server.url, handler) == [body]


def test_state_follows_the_handler(server: Server, output: Output, handler: str) -> None:
    assert not output.inspect(handler).exists
    output.ensure(handler, "g1")
    state = output.inspect(handler)
    assert state.exists
    assert state.drained
    assert state.backlog == 0
    publish(output, handler, 3)
    state = output.inspect(handler)
    assert state.backlog == 3
    assert not state.drained
    read(server.url, handler)
    state = output.inspect(handler)
    assert state.backlog == 0
    assert state.drained


def test_redis_knows_the_oldest_unacknowledged_event(
    redis_server: RedisServer, handler: str
) -> None:
    output = open_output(redis_server.url)
    output.ensure(handler, "g1")
    ids = publish(output, handler, 3)
    state = output.inspect(handler)
    assert state.generation == "g1"
    assert state.lowest_pending_event_id == ids[0]
    assert state.oldest_at is not None
    assert abs(state.oldest_at - utc_now()) < timedelta(minutes=1)
    assert state.acknowledged_position == "0-0"
    client: Any = redis.Redis.from_url(redis_server.url, protocol=2)
    key = f"posthouse:handler:{handler}"
    entries = client.xreadgroup("posthouse", "c", {key: ">"}, count=2)[0][1]
    client.xack(key, "posthouse", entries[0][0])
    state = output.inspect(handler)
    assert state.lowest_pending_event_id == ids[1], "a pending one counts as unacknowledged"
    assert state.backlog == 2
    assert not state.drained
    output.trim(handler, state.acknowledged_position)
    assert client.xlen(key) == 2
    client.xack(key, "posthouse", entries[1][0])
    state = output.inspect(handler)
    assert state.lowest_pending_event_id == ids[2], "one not yet delivered too"
    output.trim(handler, state.acknowledged_position)
    assert client.xlen(key) == 1
    output.close()


def milliseconds(client: Any) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def test_trims_what_came_at_different_moments(redis_server: RedisServer, handler: str) -> None:
    """The first entry of a millisecond has number 0: before it is the end of another one."""
    output = open_output(redis_server.url)
    output.ensure(handler, "g")
    client: Any = redis.Redis.from_url(redis_server.url, protocol=2)
    key = f"posthouse:handler:{handler}"
    ids = []
    for _ in range(3):
        ids += publish(output, handler, 1)
        entry = client.xinfo_stream(key)["last-generated-id"]
        while milliseconds(client) <= int(entry.split(b"-")[0]):
            pass
    (first, _), *_rest = client.xreadgroup("posthouse", "c", {key: ">"}, count=2)[0][1]
    client.xack(key, "posthouse", first)
    state = output.inspect(handler)
    assert state.lowest_pending_event_id == ids[1]
    output.trim(handler, state.acknowledged_position)
    assert client.xlen(key) == 2
    output.close()


def test_trimming_forgets_nothing_unacknowledged(redis_server: RedisServer, handler: str) -> None:
    output = open_output(redis_server.url)
    output.ensure(handler, "g")
    publish(output, handler, 5)
    output.trim(handler, output.inspect(handler).acknowledged_position)
    assert output.inspect(handler).backlog == 5
    assert len(read(redis_server.url, handler)) == 5
    output.trim(handler, output.inspect(handler).acknowledged_position)
    publish(output, handler, 1)
    assert len(read(redis_server.url, handler)) == 1, "the group lost its place"
    output.close()


def test_redis_tells_which_entries_a_restart_has_lost(handler: str) -> None:
    """The last second before a crash may be missing; the ids that follow look as if nothing was."""
    with RedisServer(options=["--appendfsync", "no"]) as server:
        output = open_output(server.url)
        output.ensure(handler, "g")
        kept = output.publish([Publication(handler, event()[1], "1")])
        before = output.inspect(handler)
        lost = output.publish([Publication(handler, event()[1], "2")])
        server.kill()
        file = next((server.folder / "appendonlydir").glob("*.incr.aof"))
        content = file.read_bytes()
        file.write_bytes(content[: content.rindex(b"XADD") - len(b"*6\r\n$4\r\n")])
        server.start()
        eventually(lambda: isinstance(output.publish([Publication(handler, b"{}", "3")])[0], str))
        after = output.inspect(handler)
        assert after.incarnation != before.incarnation
        assert output.missing(handler, [str(kept[0]), str(lost[0])]) == {lost[0]}
        output.close()


def test_entries_taken_out_by_hand_are_noticed(redis_server: RedisServer, handler: str) -> None:
    output = open_output(redis_server.url)
    client: Any = redis.Redis.from_url(redis_server.url, protocol=2)
    key = f"posthouse:handler:{handler}"
    output.ensure(handler, "g")
    publish(output, handler, 4)
    client.xreadgroup("posthouse", "c", {key: ">"}, count=2)
    client.xtrim(key, maxlen=0, approximate=False)
    assert output.inspect(handler).entries_gone
    output.ensure(handler, "g2")
    state = output.inspect(handler)
    assert not state.entries_gone, "the same loss would be noticed for ever"
    assert state.drained
    assert state.generation == "g2"
    publish(output, handler, 1)
    assert len(read(redis_server.url, handler)) == 1
    output.close()


def test_rabbitmq_vouches_only_for_what_no_consumer_can_hold(
    rabbit_server: RabbitServer, handler: str
) -> None:
    output = open_output(rabbit_server.url)
    output.ensure(handler, "g")
    publish(output, handler, 2)
    assert output.inspect(handler).acknowledged_before is None
    with consuming(rabbit_server.url, handler) as take:
        assert len(take()) == 2
        state = output.inspect(handler)
        assert state.acknowledged_before is not None
        assert utc_now() - state.acknowledged_before > timedelta(minutes=30)
    eventually(lambda: output.inspect(handler).backlog == 2)
    output.close()


def test_rabbitmq_with_management_sees_what_is_being_handled(
    managed_rabbit: RabbitServer, handler: str
) -> None:
    output = open_output(managed_rabbit.url, management_url=managed_rabbit.management_url)
    make_queue(output, handler)
    publish(output, handler, 2)
    with consuming(managed_rabbit.url, handler) as take:
        assert len(take()) == 2
        eventually(lambda: output.inspect(handler).backlog == 2)
        assert not output.inspect(handler).drained
        take.acknowledge()
        eventually(lambda: output.inspect(handler).drained)
    state = output.inspect(handler)
    assert state.acknowledged_before is not None
    assert utc_now() - state.acknowledged_before < timedelta(minutes=3)
    output.close()


def test_delete_removes_it_and_may_be_repeated(
    server: Server, output: Output, handler: str
) -> None:
    output.ensure(handler, "g")
    publish(output, handler, 2)
    output.delete(handler)
    output.delete(handler)
    assert not output.inspect(handler).exists
    assert output.ensure(handler, "g2")
    assert output.inspect(handler).backlog == 0


def test_a_deleted_queue_is_noticed(server: Server, output: Output, handler: str) -> None:
    output.ensure(handler, "g")
    if isinstance(server, RedisServer):
        redis.Redis.from_url(server.url).delete(f"posthouse:handler:{handler}")
    else:
        with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
            connection.channel().queue_delete(f"posthouse.handler.{handler}")
    assert isinstance(output.publish([Publication(handler, b"{}", "1")])[0], QueueLost)
    assert not output.inspect(handler).exists
    assert output.ensure(handler, "g2")
    publish(output, handler)


def test_a_queue_that_came_back_empty_is_noticed(rabbit_server: RabbitServer, handler: str) -> None:
    """Definitions that are imported into a new broker make queues without their messages."""
    output = open_output(rabbit_server.url)
    output.ensure(handler, "g")
    marker = f"posthouse.handler.{handler}.generation"
    with pika.BlockingConnection(pika.URLParameters(rabbit_server.url)) as connection:
        connection.channel().queue_purge(marker)
    assert not output.inspect(handler).exists
    publish(output, handler, 2)
    assert output.ensure(handler, "g2")
    state = output.inspect(handler)
    assert state.exists
    assert state.backlog == 2, "what was published meanwhile is thrown away"
    output.close()


def test_a_broker_that_hangs_is_given_up(managed_rabbit: RabbitServer, handler: str) -> None:
    output = open_output(managed_rabbit.url)
    make_queue(output, handler)
    publisher = ConfirmingPublisher(managed_rabbit.url)
    message = Outgoing("posthouse.mail", f"handler.{handler}", b"{}", "1", "application/json")
    assert publisher.publish([message]) == [PublishOutcome.CONFIRMED]
    managed_rabbit.process.pause()
    try:
        assert publisher.publish([message], timeout_s=1) == [PublishOutcome.UNKNOWN]
    finally:
        managed_rabbit.process.resume()

    def is_well() -> bool:
        with suppress(TryAgain):
            publisher.check()
            return True
        return False

    # It was the broker that did not answer, and not the queue.
    eventually(is_well)
    assert publisher.publish([message]) == [PublishOutcome.CONFIRMED]
    publisher.close()
    output.close()


def test_a_wrong_password_needs_a_person(rabbit_server: RabbitServer, handler: str) -> None:
    with RedisServer(password="right") as server:
        for url in (
            server.url.replace("right", "s3cret"),
            rabbit_server.url.replace("guest:guest", "guest:s3cret"),
            rabbit_server.url.replace("%2F", "no-such-vhost"),
        ):
            output = open_output(url)
            with pytest.raises(NeedsPerson) as raised:
                output.check()
            assert "s3cret" not in f"{raised.value} {raised.value.hint}"
            result = output.publish([Publication(handler, b"{}", "1")])[0]
            assert isinstance(result, NeedsPerson)
            output.close()


@pytest.mark.parametrize("name", ["", "A", "a b", "a.b", "a:b", "-a", "a" * 65, "ä", "a\n"])
def test_names_that_would_leave_their_place_are_refused(output: Output, name: str) -> None:
    with pytest.raises(InvalidInput):
        output.ensure(name, "g")


def test_a_redis_without_room_takes_nothing(handler: str) -> None:
    with RedisServer(options=["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]) as server:
        output = open_output(server.url)
        output.ensure(handler, "g")
        results = [
            output.publish([Publication(handler, event("x" * 500_000)[1], "1")])[0]
            for _ in range(12)
        ]
        refused = [result for result in results if isinstance(result, NotTaken)]
        assert refused
        assert "memory" in str(refused[-1])
        taken = [result for result in results if isinstance(result, str)]
        assert output.inspect(handler).backlog == len(taken)
        # What is acknowledged has to be trimmed meanwhile, or it never has room again.
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory", 1)
            assert output.inspect(handler).backlog == len(taken) == len(read(server.url, handler))
            state = output.inspect(handler)
            assert state.drained
            assert not output.inspect(f"{handler}-x").exists
            output.trim(handler, state.acknowledged_position)
            assert client.xlen(f"posthouse:handler:{handler}") == 0
        output.close()


@pytest.mark.promise("D2")
def test_a_consumer_that_was_killed_goes_from_the_list_with_nothing_that_it_holds(
    redis_server: RedisServer, handler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = open_output(redis_server.url)
    output.ensure(handler, "g1")
    held, done = publish(output, handler, 2)
    key = f"posthouse:handler:{handler}"
    with redis.Redis.from_url(redis_server.url) as client:
        for name in ("holds", "is-gone"):
            client.xreadgroup("posthouse", name, {key: ">"}, count=1)
        (second,) = client.xpending_range(key, "posthouse", "-", "+", 9, consumername="is-gone")
        client.xack(key, "posthouse", second["message_id"])
        assert _names(output, handler) == {"holds", "is-gone"}
        monkeypatch.setattr(output_on_redis, "_FORGOTTEN_AFTER_MS", -1)
        assert _names(output, handler) == {"holds"}
        left = client.xinfo_consumers(key, "posthouse")
        assert [(one["name"], one["pending"]) for one in left] == [(b"holds", 1)]
    assert output.inspect(handler).lowest_pending_event_id == held != done
    output.close()


def _names(output: Output, handler: str) -> set[str]:
    return {one.name for one in output.inspect(handler).consumers or ()}
