"""Mails that arrive at random at quiet mailboxes, and when the event of each was on its queue."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot


class Watch:
    """Notes when each mail's event came, by its message-id. `count`: events, repeats included."""

    def __init__(self, url: str, handler: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._key = f"posthouse:handler:{handler}"
        self.arrived: dict[str, float] = {}
        self.count = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        last = "0"
        while True:
            try:
                answer: Any = self._client.xread({self._key: last}, block=1000, count=1000)
            except redis.ConnectionError:
                return  # the bench is over
            now = time.time()
            for entry, fields in answer[0][1] if answer else []:
                last = entry
                event = json.loads(fields[b"event"])
                self.arrived.setdefault(event["data"]["headers"]["message_id"], now)
                self.count += 1


def lasting(seconds: float) -> Callable[[], bool]:
    """True for so long from now on."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until


def spread_turns(stack: Stack) -> None:
    """Each mailbox its own phase of the interval, as in a stack that runs for long."""
    stack.query(
        "UPDATE connection_state AS s SET due_at = now() + random() * "
        "make_interval(mins => c.interval_minutes) FROM connection AS c "
        "WHERE c.id = s.connection_id RETURNING 1"
    )


def delays(
    dovecot: Dovecot,
    watch: Watch,
    users: Sequence[str],
    going_on: Callable[[], bool],
    seed: int,
) -> list[float]:
    """Seconds from arrival to event, of mails that come at random times to random mailboxes.

    Sends while `going_on()`, waits until all have arrived; fails where one does not in 90 s.
    """
    rng = random.Random(seed)
    sent: dict[str, float] = {}
    while going_on():
        content = mail(len(sent), 4000, seed)
        identity = content.split(b"Message-ID: ", 1)[1].split(b"\r\n", 1)[0].decode()
        dovecot.deliver(rng.choice(users), [content])
        sent[identity] = time.time()
        time.sleep(rng.uniform(0.2, 0.6))
    deadline = time.monotonic() + 90
    while set(sent) - set(watch.arrived) and time.monotonic() < deadline:
        time.sleep(0.5)
    missing = set(sent) - set(watch.arrived)
    assert not missing, f"{len(missing)} of {len(sent)} mails did not arrive"
    return [watch.arrived[identity] - at for identity, at in sent.items()]


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]
