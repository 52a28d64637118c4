"""Idle polls over TLS: thousands of mailboxes in which nothing is new.

`make bench NAME=idle`. One fetcher polls 2,000 mailboxes, everything included: the scheduler's
claims, jobs, leases, and the state of each poll in Postgres. mbsync and fetchmail poll some of the
same mailboxes, each in one process, one mailbox after the other, as they do it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from bench import peers, report
from bench.report import Series
from bench.stand import Stand, spent
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.processes import private_folder

OURS = "Posthouse, all services"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench idle", description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--mailboxes", type=int, default=2000)
    parser.add_argument("--peers", type=int, default=150, help="mailboxes that the peers poll")
    parser.add_argument("--hosts", type=int, default=50, help="addresses of the mail server")
    parser.add_argument("--only-posthouse", action="store_true", help="while tuning")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    mbsync, fetchmail, ours = Series("mbsync"), Series("fetchmail"), Series(OURS)
    used: list[dict[str, float]] = []
    walls: list[float] = []
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
        first = polls(stand, connections)
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
                mbsync.values.append(len(few) / pull.run(0))
                fetchmail.values.append(len(few) / slow.run(0))
            before = stand.processor_time()
            took = polls(stand, connections)
            used.append(spent(before, stand.processor_time()))
            walls.append(took)
            ours.values.append(chosen.mailboxes / took)
    series = [mbsync, fetchmail, ours] if others else [ours]
    lines = [
        "# Idle polls over TLS",
        "",
        f"{chosen.mailboxes:,} mailboxes at one server under {len(hosts)} addresses, all due at "
        f"once, from then until the last poll is recorded; {chosen.turns} turns after a first one "
        f"with a login each ({chosen.mailboxes / first:,.0f} polls/s). The peers poll "
        f"{len(few)} of them. {report.machine()} {peers.versions()}.",
        "",
        *report.table(series, "polls/s", OURS),
        "",
    ]
    if others:
        lines += report.verdicts(
            [
                ("times mbsync", ours.median / mbsync.median, "≥", 8),
                ("times fetchmail", ours.median / fetchmail.median, "≥", 8),
            ]
        )
        lines += ["", "![the same as a plot](idle.svg)", ""]
    lines += ["Where Posthouse's time goes (a poll, not a mail):", ""]
    lines += report.parts(used, walls, chosen.mailboxes, each="poll")
    drawing = report.plot(f"{chosen.mailboxes:,} idle mailboxes, TLS", "polls/s", series)
    report.write("idle", lines, {"idle": drawing}, keep=others and not chosen.no_write)
    return 0


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
