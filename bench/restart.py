"""How long mails wait while every service is replaced, one after another.

`make bench NAME=restart`. One stack of two replicas of each service, mailboxes polled every minute,
two phases: undisturbed, then with a rolling restart of scheduler, fetcher, decryptor and admin (a
new replica is ready before an old one gets SIGTERM, as in deploy/k8s) that begins anew until the
phase is over. The delay is from the mail's arrival at its server to its event on the handler's
queue. Printed and written to `bench/results/restart.md`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from bench.arrivals import Watch, delays, lasting, p95, spread_turns
from shared.storage.migrate import migrate
from tests.rig.forkserver import Forkserver
from tests.rig.rollout import Caller, Rollout
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

RESULT = Path(__file__).parent / "results" / "restart.md"
REPLICAS = {"scheduler": 2, "fetcher": 2, "decryptor": 2, "admin": 2}
#: Every connection is polled once in so many seconds, the shortest interval there is.
INTERVAL = 60


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench restart", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each phase")
    parser.add_argument("--mailboxes", type=int, default=40)
    chosen = parser.parse_args(argv)
    forkserver = Forkserver()
    folder = Path(tempfile.mkdtemp(prefix="posthouse-restart-"))
    with PostgresServer(durable=True) as postgres, RedisServer() as broker, Dovecot() as dovecot:
        url = postgres.create_database()
        migrate(url)
        with Stack(url, broker.url, folder, forkserver=forkserver) as stack:
            stack.add_handler()
            users = [f"box{number}" for number in range(chosen.mailboxes)]
            for user in users:
                dovecot.deliver(user, [])
            connections = [stack.watch(dovecot, user) for user in users]
            spread_turns(stack)
            watch = Watch(broker.url, "archive")
            rollout = Rollout(stack, REPLICAS)
            alone = delays(dovecot, watch, users, lasting(chosen.seconds), seed=1)
            caller = Caller(rollout, connections, fetching=False, pause=0.5)
            caller.start()
            going_on = lasting(chosen.seconds)
            rounds: list[str] = []
            failed: list[BaseException] = []

            def roll() -> None:
                try:
                    while going_on():
                        for service in REPLICAS:
                            rollout.restart(service)
                        rounds.append("done")
                except BaseException as error:
                    failed.append(error)

            roller = threading.Thread(target=roll)
            roller.start()
            during = delays(dovecot, watch, users, roller.is_alive, seed=2)
            roller.join()
            caller.stop()
            if failed:
                raise failed[0]
            assert not caller.failures, caller.failures[:3]
            repeats = watch.count - len(alone) - len(during)
    forkserver.close()
    shutil.rmtree(folder, ignore_errors=True)
    report = table(alone, during, len(rounds), repeats, caller.answered)
    print(report)
    RESULT.write_text(report, encoding="utf-8")
    return 0 if p95(during) - p95(alone) < INTERVAL else 1


def table(alone: list[float], during: list[float], rounds: int, repeats: int, answered: int) -> str:
    def row(name: str, values: list[float]) -> str:
        return (
            f"| {name} | {len(values)} | {statistics.median(values):.1f} | {p95(values):.1f} "
            f"| {max(values):.1f} |"
        )

    longer = p95(during) - p95(alone)
    return "\n".join(
        [
            "# A rolling restart of every service, under load",
            "",
            "`make bench NAME=restart`: two replicas of scheduler, fetcher, decryptor and admin, "
            f"mailboxes polled every {INTERVAL} s.",
            f"During the second phase all {sum(REPLICAS.values())} processes were replaced, one "
            f"after another, {rounds} times over.",
            "",
            "| phase | mails | median delay, s | p95 delay, s | longest, s |",
            "|---|---|---|---|---|",
            row("undisturbed", alone),
            row("while all is replaced", during),
            "",
            f"Lost: 0. Events that came twice: {repeats}. API requests answered meanwhile: "
            f"{answered}, failed: 0.",
            f"p95 changes by {longer:+.1f} s (wanted: less than the poll interval, {INTERVAL} s).",
            "",
        ]
    )
