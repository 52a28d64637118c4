"""Idle polls over TLS: thousands of mailboxes in which nothing is new.

`make bench NAME=idle`. One fetcher polls 2,000 mailboxes, everything included: the scheduler's
claims, jobs, leases, and the state of each poll in Postgres. mbsync and fetchmail poll some of the
same mailboxes, each in one process, one mailbox after the other, as they do it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import before, peers, report
from bench.report import Series
from bench.stand import Stand, spent
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.processes import private_folder

OURS = "Posthouse, all services"
BEFORE = "the same, before"
MBSYNC, FETCHMAIL = "mbsync", "fetchmail"
#: What measures the code of before, too: the same servers with the same settings.
_MEASURING = ("bench/before.py", "bench/idle.py", "bench/stand.py", "tests/rig/forkserver.py")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench idle", description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--mailboxes", type=int, default=2000)
    parser.add_argument("--peers", type=int, default=150, help="mailboxes that the peers poll")
    parser.add_argument("--hosts", type=int, default=50, help="addresses of the mail server")
    parser.add_argument("--only-posthouse", action="store_true", help="while tuning")
    parser.add_argument("--no-write", action="store_true", help="only print")
    parser.add_argument("--before", default="", help="a commit to measure beside this code")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.one:
        chosen.one.write_text(json.dumps(_measure(chosen)))
        return 0
    _report(chosen, _beside(chosen) if chosen.before else _measure(chosen))
    return 0


def _measure(chosen: argparse.Namespace) -> dict[str, list[Any]]:
    """Polls/s of each contender by name, one value a turn; `walls` in seconds, `used` by part."""
    found: dict[str, list[Any]] = {}

    def note(name: str, value: Any) -> None:
        found.setdefault(name, []).append(value)

    authority = Authority(Path(private_folder("authority")))
    hosts = [f"127.0.0.{n + 1}" for n in range(chosen.hosts)]
    server = Dovecot(tls=authority.issue("localhost", *hosts), host=", ".join(hosts))
    with Stand(dovecot=server) as stand:
        others = not chosen.only_posthouse
        users = [f"u{number}" for number in range(chosen.mailboxes)]
        connections = []
        for number, user in enumerate(users):
            connections.append(
                stand.stack.watch(
                    server,
                    user,
                    host=hosts[number % len(hosts)],
                    port=server.imaps_port,
                    security="tls",
                    ca_certificate=authority.pem,
                )
            )
        note("first", polls(stand, connections))
        polls(stand, connections)
        few = users[: chosen.peers]
        pull = peers.Mbsync(stand.folder / "mbsync", authority=authority.certificate)
        slow = peers.Fetchmail(stand.folder / "fetchmail", authority=authority.certificate)
        if others:
            pull.prepare(few, server.imaps_port)
            slow.prepare(few, server.imaps_port)
            pull.run(0)  # makes the Maildirs
        for _ in range(chosen.turns):
            if others:
                note(MBSYNC, len(few) / pull.run(0))
                note(FETCHMAIL, len(few) / slow.run(0))
            earlier = stand.processor_time()
            took = polls(stand, connections)
            note("used", spent(earlier, stand.processor_time()))
            note("walls", took)
            note(OURS, chosen.mailboxes / took)
    return found


def _beside(chosen: argparse.Namespace) -> dict[str, list[Any]]:
    """The same with the code of before."""
    told = ["--turns", "1", "--mailboxes", str(chosen.mailboxes), "--hosts", str(chosen.hosts)]
    told += ["--peers", str(chosen.peers)]
    return before.beside(
        chosen.before,
        _MEASURING,
        "idle",
        chosen.turns,
        told,
        peers=not chosen.only_posthouse,
        renamed={OURS: BEFORE},
    )


def _report(chosen: argparse.Namespace, found: dict[str, list[Any]]) -> None:
    series = [
        Series(name, found[name]) for name in (MBSYNC, FETCHMAIL, BEFORE, OURS) if name in found
    ]
    lines = [
        "# Idle polls over TLS",
        "",
        f"{chosen.mailboxes:,} mailboxes at one server under {chosen.hosts} addresses, all due at "
        f"once, from then until the last poll is recorded; {chosen.turns} turns after a first one "
        f"with a login each ({chosen.mailboxes / found['first'][0]:,.0f} polls/s). The peers poll "
        f"{min(chosen.peers, chosen.mailboxes)} of them. {report.machine()} {peers.versions()}.",
        "",
        *report.table(series, "polls/s", OURS),
        "",
    ]
    wanted = [
        ("times mbsync", MBSYNC, 8),
        ("times fetchmail", FETCHMAIL, 8),
        (f"times {chosen.before}", BEFORE, 0.95),
    ]
    lines += report.comparisons(series, OURS, wanted)
    lines += ["", "![the same as a plot](idle.svg)", ""]
    for heading, which in (("this code", ""), (chosen.before, " before")):
        if f"used{which}" in found:
            used, walls = found[f"used{which}"], found[f"walls{which}"]
            lines += [f"Where Posthouse's time goes, {heading} (a poll, not a mail):", ""]
            lines += [*report.parts(used, walls, chosen.mailboxes, each="poll"), ""]
    drawing = report.plot(f"{chosen.mailboxes:,} idle mailboxes, TLS", "polls/s", series)
    keep = not chosen.only_posthouse and not chosen.no_write
    report.write("idle", lines, {"idle": drawing}, keep=keep)


def polls(stand: Stand, connections: Sequence[int], seconds: float = 300) -> float:
    """Seconds from when all are due until each has been polled once more."""
    stand.rest()
    ((began,),) = stand.stack.query("SELECT clock_timestamp()")
    started = time.perf_counter()
    with stand.stack.database.transaction() as session:
        session.execute(
            "UPDATE connection_state SET due_at = now() WHERE connection_id = ANY(%s)",
            (list(connections),),
        )
    asked = "SELECT count(*) FROM connection_state WHERE last_run_at >= %s"
    while stand.stack.query(asked, began)[0][0] < len(connections):
        if time.perf_counter() - started > seconds:
            raise TimeoutError(stand.stack.tails())
        time.sleep(0.02)
    return time.perf_counter() - started
