"""One fetcher with ten thousand open TLS sessions: what each costs, polled and listening.

`make bench NAME=sessions`. Each mailbox has a session of its own at a real Dovecot: first all are
kept and polled, then all listen (IDLE), where Dovecot hibernates them. Memory is the resident set
of the fetcher's process and its proportional share (`Pss`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.idle import polls
from bench.push import HIBERNATES, room_to_listen
from bench.stand import Stand, spent
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.processes import private_folder

#: One process a session would be 10,000 of them on the machine that also runs the fetcher.
_SHARED = """
service imap {
 client_limit = 250
 service_count = 0
}
service imap-login {
 client_limit = 2000
 process_limit = 50
}
"""
_IDLE_S = 20.0
#: A machine that is used by others logs in five mailboxes a second.
_PATIENCE_S = 2400.0
#: A session whose answer is late is closed, and opened at the next poll.
_OPENED_AGAIN_S = 180.0


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench sessions", description=__doc__)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=4, help="looks on the way up to that")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--hosts", type=int, default=50, help="addresses of the mail server")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    many = chosen.sessions
    authority = Authority(Path(private_folder("authority")))
    hosts = [f"127.0.0.{n + 1}" for n in range(chosen.hosts)]
    server = Dovecot(
        tls=authority.issue("localhost", *hosts), host=", ".join(hosts), extra=HIBERNATES + _SHARED
    )
    server.max_sessions = 2 * many
    settings = {"kept_sessions": str(many), "push_sessions": str(many)}
    rows: list[str] = []
    with room_to_listen(), Stand(dovecot=server, settings=settings) as stand:
        connections: list[int] = []
        empty = _memory(stand)
        rows.append(_row("open:", 0, empty, 0.0))
        for step in range(1, chosen.steps + 1):
            for number in range(len(connections), many * step // chosen.steps):
                connections.append(
                    stand.stack.watch(
                        server,
                        f"u{number}",
                        host=hosts[number % len(hosts)],
                        port=server.imaps_port,
                        security="tls",
                        ca_certificate=authority.pem,
                        interval_minutes=20,
                    )
                )
            _log_in(stand, len(connections))
            used = [_poll(stand, connections) for _ in range(chosen.turns)]
            here = min(_wait_until_open(stand, server, len(connections)), len(connections))
            kept = _memory(stand)
            each = statistics.median(used) / len(connections) * 1e6
            rows.append(_row("polled", here, kept, each, empty))
            print(rows[-1], flush=True)  # a run takes minutes
        with stand.stack.database.transaction() as session:
            session.execute("UPDATE connection SET push = true")
        polls(stand, connections, _PATIENCE_S)
        time.sleep(5)  # until the last one listens, and Dovecot hibernates them
        before = stand.processor_time()
        time.sleep(_IDLE_S)
        idle = spent(before, stand.processor_time())["fetcher"] / _IDLE_S
        listening = _memory(stand)
        still = _open(stand, server)
        rows.append(_row("listening", still, listening, 0.0, empty))
    highest = max(kept[0], listening[0])
    lines = [
        "# One fetcher with many open TLS sessions",
        "",
        f"{many:,} mailboxes at one Dovecot under {len(hosts)} addresses, one verified TLS session "
        f"each; polls of all: {chosen.turns}, median. Listening, the fetcher's process used "
        f"{100 * idle:.1f}% of a core in {_IDLE_S:.0f} s. {report.machine()}",
        "",
        "| sessions | resident, MB | proportional, MB | kB each | fetcher: µs a poll |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *report.verdicts(
            [
                (f"{many:,} sessions open, idle: resident MB", highest / 1e6, "≤", 600.0),
                ("sessions that stayed open while they listen", float(still), "≥", float(many)),
            ]
        ),
    ]
    report.write("sessions", lines, {}, keep=not chosen.no_write)
    return 0


def _log_in(stand: Stand, many: int) -> None:
    """Until each mailbox had its first run."""
    asked = "SELECT count(*) FROM connection_state WHERE last_run_at IS NOT NULL"
    stand.stack.wait(lambda: stand.stack.query(asked)[0][0] >= many, "the first runs", _PATIENCE_S)


def _poll(stand: Stand, connections: Sequence[int]) -> float:
    """Seconds of the fetcher's processor time for one poll of each."""
    before = stand.processor_time()
    polls(stand, connections, _PATIENCE_S)
    return spent(before, stand.processor_time())["fetcher"]


def _wait_until_open(stand: Stand, server: Dovecot, many: int) -> int:
    """How many sessions are open: `many`, unless some are not opened again in time."""
    deadline = time.monotonic() + _OPENED_AGAIN_S
    while (here := _open(stand, server)) < many and time.monotonic() < deadline:
        stand.stack.hurry()
        time.sleep(15)
    return here


def _row(
    state: str,
    count: int,
    memory: tuple[int, int],
    poll_us: float,
    empty: tuple[int, int] = (0, 0),
) -> str:
    resident, shared = memory
    each = f"{(resident - empty[0]) / count / 1000:.1f}" if count else "–"
    poll = f"{poll_us:,.0f}" if poll_us else "–"
    return f"| {state} {count:,} | {resident / 1e6:.0f} | {shared / 1e6:.0f} | {each} | {poll} |"


def _memory(stand: Stand) -> tuple[int, int]:
    """Octets: resident set and proportional share of the fetcher."""
    child = next(c for c in stand.stack.processes if c.args == "fetcher")
    text = Path(f"/proc/{child.pid}/smaps_rollup").read_text()
    rss, pss = (1024 * int(text.split(f"\n{name}:")[1].split()[0]) for name in ("Rss", "Pss"))
    return rss, pss


def _open(stand: Stand, server: Dovecot) -> int:
    """TCP connections of the fetcher to the mail server's TLS port that are established."""
    child = next(c for c in stand.stack.processes if c.args == "fetcher")
    port = f":{server.imaps_port:04X}"
    found = 0
    for line in Path(f"/proc/{child.pid}/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, *_ = line.split()
        found += remote.endswith(port) and state == "01"
    return found
