"""Two fetcher processes against one, on the same mails.

`make bench NAME=scaling`. Corpus A lies in eight mailboxes, as a lease lets one fetcher into each.
A fetcher without a limit leaves nothing of two cores for a second one, as Dovecot, Postgres, Redis
and the decryptor share them. So two things are measured: fetchers that may use a quarter of a core
each, as a Kubernetes pod with a limit, until all mails are durable, committed and settled, with the
decryptor paused meanwhile; and the whole way to the event without limits, with the processor time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import report
from bench.corpora import small
from bench.peers import quiet_disk
from bench.report import Series
from bench.stand import Stand, spent

MAILBOXES = 8
#: Cores that a limited fetcher may use.
SHARE = 0.25
_PERIOD_US = 100_000
_DONE = (
    "SELECT (SELECT sum(sequence) FROM connection_state) >= %s"
    " AND NOT EXISTS (SELECT FROM settlement)"
)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench scaling", description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    each = chosen.mails // MAILBOXES
    mails = each * MAILBOXES
    rows = {
        name: _Row(Series(f"Posthouse, {name}"))
        for name in ("one limited", "two limited", "one", "two")
    }
    seeds = iter(range(1, 100_000))
    with Stand() as stand:
        warm = stand.watch("warm-up")
        stand.dovecot.deliver("warm-up", small(600, seed=99_999_999))
        stand.turn([warm], 600)
        users = [f"s{number}" for number in range(MAILBOXES)]
        # Deleted once they are fetched: the mailboxes are as small in the last turn.
        connections = [stand.watch(user, after_download="delete") for user in users]

        def fill() -> None:
            for user in users:
                stand.dovecot.deliver(user, small(each, seed=next(seeds)))

        def measure(name: str, way: Callable[[Stand, Sequence[int], int], float]) -> None:
            fill()
            row, before = rows[name], stand.processor_time()
            took = way(stand, connections, mails)
            row.used.append(spent(before, stand.processor_time()))
            row.walls.append(took)
            row.series.values.append(mails / took)

        for _ in range(chosen.turns):
            for word in ("one", "two"):
                extra = stand.stack.start("fetcher") if word == "two" else []
                fill()
                stand.turn(connections, mails)  # each fetcher has its sessions open
                measure(word, Stand.turn)
                with _limited([c.pid for c in stand.stack.processes if c.args == "fetcher"]):
                    measure(f"{word} limited", _fetched)
                stand.stack.wait_settled(stand.stack.count("message"))
                stand.rest()
                for child in extra:
                    child.terminate()
                    child.wait()
                    stand.stack.processes.remove(child)
    limited = rows["two limited"].series.median / rows["one limited"].series.median
    free = rows["two"].series.median / rows["one"].series.median
    series = [row.series for row in rows.values()]
    lines = [
        "# Two fetchers against one",
        "",
        f"{mails:,} mails of 8 kB in {MAILBOXES} mailboxes, due at once, deleted once they are "
        f"fetched, {chosen.turns} turns. Limited: {SHARE} cores for each fetcher, until the last "
        "mail is committed and settled, the decryptor paused; else until the last event. "
        f"{report.machine()}",
        "",
        "| what | mails/s, median | least – most |",
        "|---|---|---|",
        *(f"| {s.name} | {report.figure(s.median)} | {s.spread} |" for s in series),
        "",
        *report.verdicts(
            [
                ("two limited / one limited", limited, "≥", 1.5),
                ("two / one, sharing two cores with all else", free, "≥", 1.5),
            ]
        ),
        "",
        "![the same as a plot](scaling.svg)",
    ]
    for name, row in rows.items():
        lines += ["", f"Processor time, {name}:", ""]
        lines += report.parts(row.used, row.walls, mails)
    drawing = report.plot("Corpus A in eight mailboxes", "mails/s", series)
    report.write("scaling", lines, {"scaling": drawing}, keep=not chosen.no_write)
    return 0


@dataclass
class _Row:
    series: Series
    used: list[dict[str, float]] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)


def _fetched(stand: Stand, connections: Sequence[int], mails: int) -> float:
    """Seconds from due until so many more mails are committed and settled, without a decryptor."""
    decryptors = [child for child in stand.stack.processes if child.args == "decryptor"]
    ((before,),) = stand.stack.query("SELECT sum(sequence) FROM connection_state")
    for child in decryptors:
        child.send_signal(signal.SIGSTOP)
    try:
        quiet_disk()
        started = time.perf_counter()
        for identifier in connections:
            stand.stack.fetch_now(identifier)
        while not stand.stack.query(_DONE, before + mails)[0][0]:
            if time.perf_counter() > started + 120:
                raise TimeoutError(stand.stack.tails())
            time.sleep(0.005)
        return time.perf_counter() - started
    finally:
        for child in decryptors:
            child.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def _limited(pids: Sequence[int]) -> Iterator[None]:
    """Each of these processes in a control group of its own, with `SHARE` cores. Needs root."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    root = Path("/sys/fs/cgroup") if unified else Path("/sys/fs/cgroup/cpu")
    quota = int(SHARE * _PERIOD_US)
    groups = [root / f"posthouse-bench-{os.getpid()}-{pid}" for pid in pids]
    try:
        for pid, group in zip(pids, groups, strict=True):
            group.mkdir()
            if unified:
                (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
            else:
                (group / "cpu.cfs_quota_us").write_text(str(quota))
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid, group in zip(pids, groups, strict=True):
            if group.exists():
                with contextlib.suppress(OSError):
                    (root / "cgroup.procs").write_text(str(pid))
                group.rmdir()
