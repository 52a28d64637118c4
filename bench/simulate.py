"""How far one scheduler and one Postgres go: the real services before simulated mailboxes.

    python -m bench simulate --connections 1000 10000 100000

For each number of connections, all polled every minute: a Postgres and a Redis of their own, the
real scheduler, fetchers and decryptor as processes, and mailboxes that exist as a rule only (see
`bench.simulated`). Everything is measured after the first full minute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench import before, report
from bench.simulated import World
from shared.storage import retention
from shared.storage.migrate import migrate
from shared.storage.pool import Database
from shared.vault import new_key
from tests.servers.postgres import PostgresServer
from tests.servers.processes import free_port, wait_until
from tests.servers.redis import RedisServer

#: One mailbox in so many gets mail, so that 1.2 mails a minute fall on the average one.
BUSY_EVERY = 20
MAILS_PER_MINUTE = 1.2
TICKS = os.sysconf("SC_CLK_TCK")
RESULT = Path(__file__).parent / "results" / "simulate.md"
#: What the code of before runs, too: the same mailboxes before its services.
_MEASURING = ("bench/simulated.py",)


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the report. Times are in seconds, `cpu` in cores over the measured time."""

    connections: int
    seconds: float
    lag_p50: float
    lag_p99: float
    lag_max: float
    emitted_per_s: float
    polls_per_s: float
    mails_per_s: float
    events_per_s: float
    event_delay_p50: float
    event_delay_p95: float
    waiting_jobs: int
    unpublished: int
    cpu: dict[str, float]
    memory_mib: dict[str, float]
    state_mib: float
    wal_mib_per_s: float


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench simulate", description=__doc__)
    parser.add_argument("--connections", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=90, help="measured, after a warm-up")
    parser.add_argument("--warm-up", type=float, default=75)
    parser.add_argument("--fetchers", type=int, default=1)
    parser.add_argument("--schedulers", type=int, default=1)
    parser.add_argument("--mails-per-minute", type=float, default=MAILS_PER_MINUTE)
    parser.add_argument("--fsync", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--postgres", nargs="+", default=[], metavar="NAME=VALUE", help="its settings"
    )
    parser.add_argument("--out", type=Path, default=None, help="also append the numbers as JSON")
    parser.add_argument("--before", default="", help="a commit to measure beside this code")
    parser.add_argument("--turns", type=int, default=1, help="with --before")
    options = parser.parse_args(argv)
    if options.before:
        return beside(options)
    for count in options.connections:
        measured = simulate(
            count,
            seconds=options.seconds,
            warm_up=options.warm_up,
            processes={
                "scheduler": options.schedulers,
                "fetcher": options.fetchers,
                "decryptor": 1,
            },
            mails_per_minute=options.mails_per_minute,
            durable=options.fsync,
            settings=options.postgres,
        )
        print(json.dumps(asdict(measured)), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(asdict(measured)) + "\n")
    return 0


def beside(options: argparse.Namespace) -> int:
    """The code of a commit and this one in turns, with the same simulated mailboxes."""
    for count in options.connections:
        found: dict[str, list[dict[str, Any]]] = {}
        trees = before.codes(options.before, _MEASURING)
        with trees as codes, tempfile.TemporaryDirectory() as folder:
            for turn in range(options.turns):
                for name, tree in before.in_turn(codes, turn):
                    out = Path(folder) / "measured.json"
                    out.unlink(missing_ok=True)
                    told = ["--connections", str(count), "--seconds", str(options.seconds)]
                    told += ["--warm-up", str(options.warm_up), "--out", str(out)]
                    before.ask(tree, "simulate", told)
                    found.setdefault(name, []).append(json.loads(out.read_text()))
        print(f"\n{count:,} connections, {options.turns} turns, medians. {report.machine()}\n")
        print("\n".join(_beside_table(found)), flush=True)
    return 0


def _beside_table(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    rates = {"polls": "polls_per_s", "mails": "mails_per_s", "events": "events_per_s"}
    cores = ("scheduler", "fetcher", "decryptor", "postgres", "redis")
    yield f"| code | {', 1/s | '.join(rates)}, 1/s | {', cores | '.join(cores)}, cores |"
    yield "|---" * (1 + len(rates) + len(cores)) + "|"
    medians = {
        name: [statistics.median(turn[rate] for turn in turns) for rate in rates.values()]
        + [statistics.median(turn["cpu"][part] for turn in turns) for part in cores]
        for name, turns in found.items()
    }
    for name, values in medians.items():
        yield f"| {name} | {' | '.join(map(report.figure, values))} |"
    old, new = medians.values()
    ratios = [f"{b / a:.2f}" if a else "" for a, b in zip(old, new, strict=True)]
    yield f"| this / before | {' | '.join(ratios)} |"


def simulate(
    connections: int,
    *,
    seconds: float,
    warm_up: float,
    processes: dict[str, int],
    mails_per_minute: float,
    durable: bool = True,
    settings: Sequence[str] = (),
) -> Measured:
    """One simulation from an empty database to its numbers."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="posthouse-simulate-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = stack.enter_context(PostgresServer(durable=durable, settings=settings))
        redis = stack.enter_context(RedisServer())
        url = postgres.create_database()
        migrate(url)
        seed(url, connections)
        world = World(
            folder=folder,
            connections=connections,
            busy_every=BUSY_EVERY,
            mails_per_minute=mails_per_minute * BUSY_EVERY,
            octets=4096,
            epoch=time.time(),
            settings={
                "POSTHOUSE_DATABASE_URL": url,
                "POSTHOUSE_BROKER_URL": redis.url,
                "POSTHOUSE_STORE_URL": (folder / "store").as_uri(),
                "POSTHOUSE_SECRET_KEYS": new_key(),
                "POSTHOUSE_FETCH_THREADS": "4",
                "POSTHOUSE_FETCH_SLOW_THREADS": "4",
            },
            processes=processes,
        )
        saved = world.save()
        children = stack.enter_context(running(world, saved))
        time.sleep(warm_up)
        families = {
            **{name: [child.pid for child in of] for name, of in children.items()},
            "postgres": [postgres.pid],
            "redis": [redis.process.pid],
        }
        first, wal_before, began = cpu_of(families), wal_of(url), time.time()
        time.sleep(seconds)
        took = time.time() - began
        after, wal_after = cpu_of(families), wal_of(url)
        memory = {name: sum(map(resident_mib, pids)) for name, pids in families.items()}
        state = state_of(url, began, redis)
        outputs = stop(children, folder)
    lags = sorted(lag for at, lag in outputs["lags"] if began <= at < began + took)
    assert not outputs["failures"], outputs["failures"][:3]
    polls = sum(count for second, count in outputs["polls"] if began <= second < began + took)
    return Measured(
        connections=connections,
        seconds=round(took, 1),
        lag_p50=quantile(lags, 0.5),
        lag_p99=quantile(lags, 0.99),
        lag_max=quantile(lags, 1.0),
        emitted_per_s=round(len(lags) / took, 1),
        polls_per_s=round(polls / took, 1),
        mails_per_s=round(state["downloaded"] / took, 1),
        events_per_s=round(state["published"] / took, 1),
        event_delay_p50=round(state["delay_p50"] or 0, 3),
        event_delay_p95=round(state["delay_p95"] or 0, 3),
        waiting_jobs=state["waiting_jobs"],
        unpublished=state["unpublished"],
        cpu={name: round((after[name] - first[name]) / took, 3) for name in families},
        memory_mib={name: round(value) for name, value in memory.items()},
        state_mib=state["state_mib"],
        wal_mib_per_s=round((wal_after - wal_before) / took / 2**20, 2),
    )


def seed(url: str, connections: int) -> None:
    """Enabled connections, due at any moment of the next minute, and one handler for all."""
    with Database(url, size=1) as database:
        # The partitions of a month, as an installation has them that runs for long.
        retention.create_partitions(database, datetime.now(UTC) - timedelta(days=30), 30)
        retention.create_partitions(database, datetime.now(UTC), 30)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(
            "INSERT INTO connection (name, name_key, search_text, mode, host, port, username, "
            "enabled) SELECT 'Mailbox ' || n, 'mailbox ' || n, 'mailbox ' || n, 'imap', "
            "'mail' || n %% 50 || '.example', 993, 'box' || n || '@simulated.example', true "
            "FROM generate_series(1, %s) AS n",
            (connections,),
        )
        session.execute(
            "INSERT INTO connection_state (connection_id, due_at) "
            "SELECT id, now() + random() * interval '1 minute' FROM connection"
        )
        session.execute("INSERT INTO handler (name) VALUES ('archive')")
        session.execute("INSERT INTO handler_queue (handler_id) SELECT id FROM handler")
        session.execute("VACUUM ANALYZE")


@contextmanager
def running(world: World, saved: Path) -> Iterator[dict[str, list[subprocess.Popen[bytes]]]]:
    """The services as processes; the block begins when all of them are ready.

    Fetchers and decryptors are many machines elsewhere; here they get the processor time that the
    scheduler and Postgres leave.
    """
    children: dict[str, list[subprocess.Popen[bytes]]] = {}
    ports = []
    try:
        for service, count in world.processes.items():
            children[service] = []
            for number in range(count):
                ports.append(free_port())
                child = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "bench.simulated", service, str(saved)),
                        str(world.folder / f"{service}{number}.json"),
                    ],
                    env={**os.environ, "POSTHOUSE_HEALTH_PORT": str(ports[-1])},
                    preexec_fn=None if service == "scheduler" else partial(os.nice, 10),
                )
                children[service].append(child)
        for port in ports:
            wait_until(partial(is_ready, port), "a service", seconds=180)
        yield children
    finally:
        for child in [child for of in children.values() for child in of]:
            if child.poll() is None:
                child.kill()


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def stop(children: dict[str, list[subprocess.Popen[bytes]]], folder: Path) -> dict[str, list[Any]]:
    """Ends the services in order and gathers what they saw."""
    outputs: dict[str, list[Any]] = {"lags": [], "polls": [], "failures": []}
    for service, of in children.items():
        for child in of:
            child.send_signal(signal.SIGTERM)
        for number, child in enumerate(of):
            assert child.wait(timeout=120) == 0, f"the {service} failed"
            told = json.loads((folder / f"{service}{number}.json").read_text())
            for name, values in told.items():
                outputs[name] += values
    return outputs


def state_of(url: str, since: float, redis: RedisServer) -> dict[str, Any]:
    import redis as client

    with psycopg.connect(url) as session:
        row = session.execute(
            "SELECT count(*) FILTER (WHERE downloaded_at >= to_timestamp(%(since)s)), "
            "count(*) FILTER (WHERE published_at >= to_timestamp(%(since)s)), "
            "percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM published_at - "
            "downloaded_at)) FILTER (WHERE published_at >= to_timestamp(%(since)s)), "
            "percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM published_at - "
            "downloaded_at)) FILTER (WHERE published_at >= to_timestamp(%(since)s)), "
            "(SELECT count(*) FROM outbox), "
            "pg_total_relation_size('connection_state') / 1048576.0 FROM message",
            {"since": since},
        ).fetchone()
    assert row is not None
    with client.Redis.from_url(redis.url) as broker:
        waiting = sum(int(broker.hlen(f"dramatiq:{q}.msgs")) for q in ("fetch", "fetch-slow"))
    return {
        "downloaded": row[0],
        "published": row[1],
        "delay_p50": row[2],
        "delay_p95": row[3],
        "unpublished": row[4],
        "state_mib": round(float(row[5]), 1),
        "waiting_jobs": waiting,
    }


def wal_of(url: str) -> int:
    with psycopg.connect(url) as session:
        row = session.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])


def cpu_of(families: dict[str, list[int]]) -> dict[str, float]:
    """Processor seconds of each family: its processes with all their descendants, ended or not."""
    return {name: sum(map(_cpu_seconds, pids)) for name, pids in families.items()}


def _cpu_seconds(pid: int) -> float:
    fields = _of_process(pid, "stat").rpartition(")")[2].split() or ["0"] * 15
    # utime, stime, and the same of children that were waited for (proc(5), fields 14 to 17)
    total = sum(int(value) for value in fields[11:15]) / TICKS
    return total + sum(_cpu_seconds(child) for child in _children(pid))


def resident_mib(pid: int) -> float:
    status = _of_process(pid, "status").splitlines()
    own = next((int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon")), 0)
    return own + sum(resident_mib(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    return [int(child) for child in _of_process(pid, f"task/{pid}/children").split()]


def _of_process(pid: int, file: str) -> str:
    """Empty where the process has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except OSError:
        return ""


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values; 0 where there are none."""
    if not values:
        return 0.0
    return round(values[min(len(values) - 1, int(share * len(values)))], 4)


def machine() -> str:
    """What it ran on, for the report."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
