"""How long others wait beside a mail server that hangs and a mailbox with 100,000 new mails.

`make bench NAME=isolation`. One run, two phases with the same mailboxes at the usual interval of a
minute: first alone, then with the troublemakers. The delay is from the mail's arrival at its
server to its event on the handler's queue; the median and p95 of both phases and their ratio are
printed and written to `bench/results/isolation.md`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.arrivals import Watch, delays, lasting, p95, spread_turns
from shared.storage.migrate import migrate
from tests.rig.forkserver import Forkserver
from tests.rig.mails import mail
from tests.rig.silent_server import Silence
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

RESULTS = Path(__file__).parent / "results" / "isolation.md"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3, help="of each phase")
    parser.add_argument("--mailboxes", type=int, default=40)
    parser.add_argument("--backlog", type=int, default=100_000)
    chosen = parser.parse_args(argv)
    forkserver = Forkserver()
    folder = Path(tempfile.mkdtemp(prefix="posthouse-isolation-"))
    with PostgresServer(durable=True) as postgres, RedisServer() as broker, Dovecot() as dovecot:
        url = postgres.create_database()
        migrate(url)
        with Stack(url, broker.url, folder, forkserver=forkserver) as stack:
            stack.add_handler()
            watch = Watch(broker.url, "archive")
            stack.start("scheduler", "fetcher", "decryptor")
            users = [f"quiet{number}" for number in range(chosen.mailboxes)]
            for user in users:
                dovecot.deliver(user, [])
                stack.watch(dovecot, user)
            for start in range(0, chosen.backlog, 5000):
                dovecot.deliver("huge", [mail(n, 1500, 99) for n in range(start, start + 5000)])
            spread_turns(stack)
            alone = delays(dovecot, watch, users, lasting(60 * chosen.minutes), seed=1)
            silence = Silence()
            for number in range(3):
                stack.add_connection(
                    name=f"silent{number}",
                    mode="imap",
                    host="127.0.0.1",
                    port=silence.port,
                    security="none",
                    username=f"silent{number}",
                )
            stack.watch(dovecot, "huge")
            beside = delays(dovecot, watch, users, lasting(60 * chosen.minutes), seed=2)
            done = len(watch.arrived) - len(alone) - len(beside)
    forkserver.close()
    report = table(alone, beside, done, chosen)
    print(report)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(report, encoding="utf-8")
    return 0


def table(alone: list[float], beside: list[float], done: int, chosen: argparse.Namespace) -> str:
    def row(name: str, delays: list[float]) -> str:
        return f"| {name} | {len(delays)} | {statistics.median(delays):.1f} | {p95(delays):.1f} |"

    ratio = p95(beside) / p95(alone)
    return "\n".join(
        [
            "# Others beside a hanging server and a huge mailbox",
            "",
            f"{chosen.mailboxes} mailboxes at an interval of one minute, {chosen.minutes:g} "
            "minutes a phase, one run. Beside: three mailboxes whose server never answers, and one "
            f"with {chosen.backlog:,} new mails, of which {done:,} were delivered meanwhile.",
            "",
            "| phase | mails | median delay, s | p95 delay, s |",
            "|---|---|---|---|",
            row("alone", alone),
            row("beside the troublemakers", beside),
            "",
            f"p95 beside / p95 alone: {ratio:.2f} (wanted: at most 1.5)",
            "",
        ]
    )
