"""Reads what is on a handler's queue, without the SDK: the contract as any language sees it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Protocol

import pika
import pika.exceptions
import redis


class Queue(Protocol):
    def events(self) -> list[dict[str, Any]]:
        """Every event that was on the queue so far, in order, repeats included."""
        ...


class RedisQueue:
    def __init__(self, url: str, handler: str) -> None:
        self._client: Any = redis.Redis.from_url(url)
        self._key = f"posthouse:handler:{handler}"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(entry[b"event"]) for _, entry in self._client.xrange(self._key)]


class RabbitmqQueue:
    """Takes and acknowledges what is there, and remembers it."""

    def __init__(self, url: str, handler: str) -> None:
        self._parameters = pika.URLParameters(url)
        self._queue = f"posthouse.handler.{handler}"
        self._seen: list[dict[str, Any]] = []

    def events(self) -> list[dict[str, Any]]:
        connection, tag = pika.BlockingConnection(self._parameters), 0
        try:
            channel = connection.channel()
            # One by one (basic.get) a quorum queue takes seconds for a thousand.
            for method, _, body in channel.consume(self._queue, inactivity_timeout=0.5):
                if method is None:
                    break
                self._seen.append(json.loads(body))
                tag = method.delivery_tag
            if tag:
                channel.basic_ack(tag, multiple=True)
            channel.cancel()
        finally:
            connection.close()
        return list(self._seen)


def open_queue(url: str, handler: str) -> Queue:
    return RedisQueue(url, handler) if url.startswith("redis") else RabbitmqQueue(url, handler)


def inline(events: list[dict[str, Any]]) -> Iterator[bytes]:
    """The raw mails of events that carry them."""
    for event in events:
        if "inline" in event["data"]["raw"]:
            yield base64.b64decode(event["data"]["raw"]["inline"])


def emptied(url: str, handlers: tuple[str, ...] = ("archive", "crm")) -> str:
    """The same address, once nothing of an earlier stack is left there."""
    if url.startswith("redis"):
        redis.Redis.from_url(url).flushdb()
        return url
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        jobs = [name + end for name in ("fetch", "fetch-slow", "decrypt") for end in ("", ".XQ")]
        outputs = [f"posthouse.handler.{name}{end}" for name in handlers for end in ("", ".dead")]
        for queue in jobs + outputs:
            channel.queue_delete(queue)
    finally:
        connection.close()
    return url


def delete_queue(url: str, handler: str) -> None:
    """The broker loses a handler's queue."""
    if url.startswith("redis"):
        redis.Redis.from_url(url).delete(f"posthouse:handler:{handler}")
        return
    connection = pika.BlockingConnection(pika.URLParameters(url))
    connection.channel().queue_delete(f"posthouse.handler.{handler}")
    connection.close()


def queue_exists(url: str, handler: str) -> bool:
    if url.startswith("redis"):
        return bool(redis.Redis.from_url(url).exists(f"posthouse:handler:{handler}"))
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        connection.channel().queue_declare(f"posthouse.handler.{handler}", passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    finally:
        connection.close()
    return True
