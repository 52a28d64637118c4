"""Redis, then RabbitMQ, is out of memory for a while: it answers and takes nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from shared.errors import PosthouseError
from tests.drills.site import Outcome, Site, say
from tests.servers.rabbitmq import RabbitServer
from tests.servers.redis import RedisServer

_FULL_S = 4.0


def drill(folder: Path) -> Outcome:
    outcomes = [
        _held(folder / name, broker)
        for name, broker in (("redis", RedisServer()), ("rabbitmq", RabbitServer()))
    ]
    return Outcome(
        sent=sum(one.sent for one in outcomes),
        lost=sum(one.lost for one in outcomes),
        twice=sum(one.twice for one in outcomes),
        failed_runs=sum(one.failed_runs for one in outcomes),
        quarantined=sum(one.quarantined for one in outcomes),
        notes=[note for one in outcomes for note in one.notes],
    )


def _held(folder: Path, server: RedisServer | RabbitServer) -> Outcome:
    name = folder.name
    with server as broker, Site(folder, broker=broker) as site:
        site.start()
        with site.mailing():
            site.stack.wait(lambda: len(site.handler.seen) > 20, "mails arrive")
            with _without_memory(broker):
                site.stack.wait(lambda: _failing(site) >= {"broker", "output"}, "it is told", 60)
                had = len(site.handler.seen)
                time.sleep(_FULL_S)  # mails that arrive meanwhile wait in their mailboxes
                say(
                    f"{name} took nothing: {len(site.sent)} mails were sent, {had} were handed "
                    "over; the services' own health says it"
                )
            site.stack.wait(lambda: len(site.handler.seen) > had + 10, "mails go on", 120)
            site.stack.wait(lambda: not _failing(site), "it is told to be over", 60)
            say(f"{name} had room again, and mails went on")
        return site.outcome()


def _failing(site: Site) -> set[str]:
    with contextlib.suppress(PosthouseError):
        found = site.stack.query("SELECT DISTINCT jsonb_object_keys(failing) FROM service")
        return {str(name) for (name,) in found}
    return set()


@contextlib.contextmanager
def _without_memory(broker: RedisServer | RabbitServer) -> Iterator[None]:
    if isinstance(broker, RabbitServer):
        broker.control("set_vm_memory_high_watermark", "0")
        yield
        broker.control("set_vm_memory_high_watermark", "0.4")
        return
    with redis.Redis.from_url(broker.url) as client:
        client.config_set("maxmemory", "1")
        yield
        client.config_set("maxmemory", "0")
