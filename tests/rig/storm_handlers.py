"""Handlers for the storm: they take events, remember them, and only then acknowledge."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from typing import Any

import pika
import redis


class Recorder:
    """One handler. `seen` counts how often each event id came; `digests` what it carried.

    An event that comes again because its acknowledgement was lost with the broker's connection is
    the broker's repeat, told apart by `redelivered`.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.url = url
        self.seen: Counter[str] = Counter()
        self.redelivered: Counter[str] = Counter()
        self.digests: dict[str, str] = {}
        self.connections: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)

    def _take(self, event: dict[str, Any], again: bool) -> None:
        self.seen[event["id"]] += 1
        if again:
            self.redelivered[event["id"]] += 1
        # Of the mail as it was sent: what was encrypted is handed over opened.
        digest = (event["data"].get("original") or event["data"])["sha256"]
        assert self.digests.setdefault(event["id"], digest) == digest, "one id, two mails"
        self.connections[event["id"]] = event["data"]["connection"]["name"]

    def _run(self) -> None:
        work = self._redis if self.url.startswith("redis") else self._rabbitmq
        while not self._stop.is_set():
            with contextlib.suppress(redis.RedisError, pika.exceptions.AMQPError, OSError):
                work()
            time.sleep(0.2)

    def _redis(self) -> None:
        key = f"posthouse:handler:{self.name}"
        client: Any = redis.Redis.from_url(self.url, socket_timeout=5)
        position = "0"  # first what an earlier connection took and did not acknowledge
        while not self._stop.is_set():
            answer = client.xreadgroup(
                "posthouse", self.name, {key: position}, count=200, block=500
            )
            entries = answer[0][1] if answer else []
            for _, fields in entries:
                self._take(json.loads(fields[b"event"]), position == "0")
            if entries:
                client.xack(key, "posthouse", *[entry for entry, _ in entries])
            elif position == "0":
                position = ">"

    def _rabbitmq(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        with contextlib.closing(connection):
            channel = connection.channel()
            channel.basic_qos(prefetch_count=200)
            for method, _, body in channel.consume(
                f"posthouse.handler.{self.name}", inactivity_timeout=0.5
            ):
                if self._stop.is_set():
                    return
                if method is not None and body is not None:
                    self._take(json.loads(body), bool(method.redelivered))
                    channel.basic_ack(method.delivery_tag)
