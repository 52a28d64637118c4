"""Mails that come one at a time, spread over many mailboxes: what does each cost?

`make bench NAME=trickle`. Mailboxes at a real Dovecot over kept TLS sessions; mails of 8 kB are
put into random Maildirs at a steady rate, as an MTA does it. Two tables: polled each minute, and
pushed. `--before REF` measures the code of that commit in turns with this one, on the same machine
in one run. The full size is `--mailboxes 2000 --rate 300`.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import before, report
from bench.arrivals import Watch, spread_turns
from bench.corpora import small
from bench.idle import polls
from bench.push import room_to_listen
from bench.stand import HANDLER, Stand, spent
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.processes import private_folder

_MEASURING = ("bench/before.py", "bench/trickle.py", "bench/push.py")
#: Whose processor time is a mail's.
PARTS = ("fetcher", "decryptor", "Postgres", "Redis")
WAYS = ("polled", "pushed")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench trickle", description=__doc__)
    parser.add_argument("--mailboxes", type=int, default=300)
    parser.add_argument("--rate", type=float, default=45, help="mails a second")
    parser.add_argument("--seconds", type=float, default=60, help="measured")
    parser.add_argument("--size", type=int, default=8192, help="octets of a mail")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--before", default="", help="a commit to measure beside this code")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--no-write", action="store_true", help="only print")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.one:
        (way,) = chosen.ways
        chosen.one.write_text(json.dumps(_measure(chosen, pushed=way == "pushed")))
        return 0
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with before.codes(chosen.before, _MEASURING) as codes:
        for turn in range(chosen.turns):
            for way in chosen.ways:
                for name, tree in before.in_turn(codes, turn):
                    found.setdefault((way, name), []).append(_apart(tree, argv, way))
    lines = [
        "# Mails one at a time, over many mailboxes",
        "",
        f"{chosen.mailboxes:,} mailboxes at one Dovecot over kept TLS sessions, {chosen.rate:g} "
        f"mails a second of {chosen.size:,} octets to random ones, for {chosen.seconds:g} s; "
        f"turns: {chosen.turns}, medians. Processor time in µs a mail. The delay is from the "
        "moment at which the mail lies in its Maildir to the event; Dovecot waits 500 ms of it "
        f"before it tells a client that listens. {report.machine()}",
    ]
    for way in chosen.ways:
        lines += ["", f"## {way.capitalize()}", "", *_table(way, codes, found)]
    report.write("trickle", lines, {}, keep=not chosen.no_write)
    return 0


def _table(
    way: str, codes: dict[str, Path], found: dict[tuple[str, str], list[dict[str, float]]]
) -> Iterator[str]:
    yield "| code | " + " | ".join(PARTS) + " | all, µs a mail | p50, ms | p95, ms | mails |"
    yield "|---" * (len(PARTS) + 5) + "|"
    for name in codes:
        turns = found[way, name]
        figures = [
            statistics.median(turn[what] for turn in turns)
            for what in (*PARTS, "all", "p50", "p95", "mails")
        ]
        yield f"| {name} | " + " | ".join(map(report.figure, figures)) + " |"


def _apart(tree: Path, argv: Sequence[str], way: str) -> dict[str, float]:
    measured: dict[str, float] = before.measured(tree, "trickle", [*argv, "--ways", way])
    print(tree, way, json.dumps(measured), flush=True)
    return measured


def _measure(chosen: argparse.Namespace, *, pushed: bool) -> dict[str, float]:
    authority = Authority(Path(private_folder("authority")))
    hosts = [f"127.0.0.{n + 1}" for n in range(50)]
    server = Dovecot(tls=authority.issue("localhost", *hosts), host=", ".join(hosts))
    with room_to_listen(), Stand(dovecot=server) as stand:
        users = [f"u{number}" for number in range(chosen.mailboxes)]
        watched = [
            stand.stack.watch(
                server,
                user,
                host=hosts[number % len(hosts)],
                port=server.imaps_port,
                security="tls",
                ca_certificate=authority.pem,
                push=pushed,
            )
            for number, user in enumerate(users)
        ]
        polls(stand, watched, 1200)  # a login each
        watch = Watch(stand.redis.url, HANDLER)
        spread_turns(stand.stack)
        stream = _Arrivals(server, users, chosen)
        stream.run(60.0)  # each mailbox in its own phase, and its turns given by its interval
        first, sent, began = stand.processor_time(), len(stream.arrived), time.time()
        stream.run(chosen.seconds)
        used, ended = spent(first, stand.processor_time()), time.time()
        deadline = time.monotonic() + 900  # what came behind is still to come
        while set(stream.arrived) - set(watch.arrived):
            if time.monotonic() > deadline:
                raise TimeoutError(stand.stack.tails())
            time.sleep(0.1)
    measured = list(stream.arrived.items())[sent:]
    delays = [1000 * (watch.arrived[identity] - at) for identity, at in measured]
    # What was done in that time: under more than it can bear, that is not what came.
    mails = sum(began <= at < ended for at in watch.arrived.values())
    if not mails:
        raise ValueError("no mail was done while it was measured: take more --seconds")
    costs = {part: 1e6 * used[part] / mails for part in PARTS}
    return {
        **costs,
        "all": sum(costs.values()),
        "p50": statistics.median(delays),
        "p95": statistics.quantiles(delays, n=20)[-1],
        "mails": float(mails),
        "events": float(watch.count),
    }


class _Arrivals:
    """Puts mails into Maildirs at a steady rate; `arrived` says when, by message-id."""

    def __init__(self, server: Dovecot, users: Sequence[str], chosen: argparse.Namespace) -> None:
        self._rate = chosen.rate
        self._rng = random.Random(11)
        self._maildirs = [server.home(user) / "Maildir" for user in users]
        self._owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self._contents = small(10**9, chosen.size)
        self._number = 0
        self.arrived: dict[str, float] = {}

    def run(self, seconds: float) -> None:
        count = int(seconds * self._rate)
        started = time.monotonic()
        pause = threading.Event()
        for number in range(count):
            pause.wait(max(0.0, started + number / self._rate - time.monotonic()))
            self._deliver(self._rng.choice(self._maildirs))

    def _deliver(self, maildir: Path) -> None:
        content = next(self._contents)
        identity = content.split(b"Message-ID: ", 1)[1].split(b"\r\n", 1)[0].decode()
        self._number += 1
        name = f"{int(time.time())}.M{self._number}P{os.getpid()}.bench"
        spool = maildir / "tmp" / name
        spool.write_bytes(content.replace(b"\r\n", b"\n"))
        os.chown(spool, self._owner.pw_uid, self._owner.pw_gid)
        spool.rename(maildir / "new" / name)
        self.arrived[identity] = time.time()
