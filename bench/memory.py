"""The memory of a fetcher: idle with 500 open sessions, and while it fetches large mails.

`make bench NAME=memory`. Resident memory of the process (VmRSS), its highest while corpus B (300
mails of one to ten megabytes) is fetched.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence

from bench import report
from bench.corpora import large
from bench.idle import polls
from bench.stand import Stand
from tests.servers.dovecot import Dovecot


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench memory", description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--mails", type=int, default=300)
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    hosts = [f"127.0.0.{n + 1}" for n in range(20)]
    with Stand(dovecot=Dovecot(host=", ".join(hosts))) as stand:
        started = stand.resident("fetcher")
        connections = [
            stand.stack.watch(stand.dovecot, f"u{n}", host=hosts[n % len(hosts)])
            for n in range(chosen.sessions)
        ]
        for _ in range(3):
            polls(stand, connections)
        idle = stand.resident("fetcher")
    with Stand() as stand:
        stand.dovecot.deliver("b", large(chosen.mails))
        connection = stand.watch("b")
        peak = [0]
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.02):
                peak[0] = max(peak[0], stand.resident("fetcher"))

        watching = threading.Thread(target=look)
        watching.start()
        before = time.perf_counter()
        stand.turn([connection], chosen.mails)
        took = time.perf_counter() - before
        done.set()
        watching.join()
    rows = [
        (f"idle with {chosen.sessions} sessions, MB", idle / 1e6, "≤", 250.0),
        (f"highest during {chosen.mails} mails of 1–10 MB, MB", peak[0] / 1e6, "≤", 200.0),
    ]
    lines = [
        "# The memory of a fetcher",
        "",
        f"Resident, default settings; freshly started {started / 1e6:.0f} MB. The large mails took "
        f"{took:.1f} s. {report.machine()}",
        "",
        *report.verdicts(rows),
    ]
    report.write("memory", lines, {}, keep=not chosen.no_write)
    return 0
