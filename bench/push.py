"""From the arrival of a mail to its event, with push: how long does a handler wait?

`make bench NAME=push`. 200 mailboxes with `push`; mails come over LMTP to random ones at random
times. The delay is from Dovecot's acceptance (the answer to DATA) to the event on the Redis stream.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence

from bench import report
from bench.corpora import small
from bench.idle import polls
from bench.isolation import Watch
from bench.report import Series
from bench.stand import HANDLER, Stand
from tests.servers.dovecot import Dovecot


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench push", description=__doc__)
    parser.add_argument("--mailboxes", type=int, default=200)
    parser.add_argument("--mails", type=int, default=200)
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    rng = random.Random(7)
    with Stand(dovecot=Dovecot(lmtp=True)) as stand:
        users = [f"u{number}" for number in range(chosen.mailboxes)]
        connections = [stand.house.watch(stand.dovecot, user, push=True) for user in users]
        polls(stand, connections)
        time.sleep(5)  # every session listens
        watch = Watch(stand.redis.url, HANDLER)
        accepted: dict[str, float] = {}
        for content in small(chosen.mails, 4096, seed=3):
            identity = content.split(b"Message-ID: ", 1)[1].split(b"\r\n", 1)[0].decode()
            stand.dovecot.deliver_lmtp([rng.choice(users)], [content])
            accepted[identity] = time.time()
            time.sleep(rng.uniform(0.05, 0.3))
        deadline = time.monotonic() + 90
        while set(accepted) - set(watch.arrived) and time.monotonic() < deadline:
            time.sleep(0.1)
        delays = [1000 * (watch.arrived[i] - at) for i, at in accepted.items()]
    p95 = statistics.quantiles(delays, n=20)[-1]
    series = Series("Posthouse, push", delays)
    lines = [
        "# From arrival to event, with push",
        "",
        f"{chosen.mailboxes} mailboxes with push, {len(delays)} mails over LMTP to random ones. "
        f"{report.machine()}",
        "",
        *report.verdicts(
            [
                ("p50, ms", series.median, "≤", 150),
                ("p95, ms", p95, "≤", 500),
            ]
        ),
        "",
        f"Least to most: {series.spread} ms.",
    ]
    report.write("push", lines, {}, keep=not chosen.no_write)
    return 0
