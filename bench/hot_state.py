"""What the polls of a million connections cost Postgres, apart from who fetches.

`make bench NAME=hot_state`. Connections that are all due are claimed as a scheduler does, and of
each batch the runs of 200 mailboxes are begun and ended as a fetcher does whose servers have
nothing new: the same functions in the same transactions, and nothing between them. Processor time
of Postgres by a connection; how many cores a rate of polls needs follows from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from bench import report
from bench.simulate import cpu_of, seed, wal_of
from shared.jobs import FETCH_QUEUE
from shared.storage import begun_runs, connections, ended_runs, scheduling
from shared.storage.ended_runs import EndedRun
from shared.storage.migrate import migrate
from shared.storage.pool import Database
from shared.storage.scheduling import Due
from tests.servers.postgres import PostgresServer

#: As the scheduler claims, and as a fetcher polls over open sessions.
_CLAIMED, _POLLED = 2_000, 200
_LARGE = ("shared_buffers=4GB", "max_wal_size=16GB", "checkpoint_timeout=15min")
_TTL = 60.0


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench hot_state", description=__doc__)
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--polls", type=int, default=200_000, help="how many are measured")
    parser.add_argument("--no-write", action="store_true")
    chosen = parser.parse_args(argv)
    with PostgresServer(durable=True, settings=_LARGE) as postgres:
        url = postgres.create_database()
        migrate(url)
        seed(url, chosen.connections)
        with Database(url, size=1) as database:
            with database.transaction() as session:
                session.execute(
                    "UPDATE connection_state SET due_at = now() - random() * '1 min'::interval"
                )
            families = {"postgres": [postgres.pid]}
            spent = {"claimed": 0.0, "begun and ended": 0.0}
            log = dict(spent)

            def measured(name: str, act: Callable[[], object]) -> None:
                before, written = cpu_of(families)["postgres"], wal_of(url)
                act()
                spent[name] += cpu_of(families)["postgres"] - before
                log[name] += wal_of(url) - written

            claimed: list[Due] = []

            def claim() -> None:
                while len(claimed) < chosen.polls:
                    with database.transaction() as session:
                        claimed.extend(scheduling.claim_due(session, _CLAIMED))

            measured("claimed", claim)
            measured("begun and ended", lambda: _poll(database, claimed))
    polls = len(claimed)
    lines = [
        "# What the polls of many connections cost Postgres",
        "",
        f"{polls:,} polls of {chosen.connections:,} connections with nothing new, claimed "
        f"{_CLAIMED:,} at a time and polled {_POLLED} at a time over open sessions, by one process "
        f"in a Postgres with {', '.join(_LARGE)}. {report.machine()}",
        "",
        "| | Postgres, µs a connection | log, octets a connection | cores for 16,700 a second |",
        "|---|---|---|---|",
        *_rows(spent, log, polls),
    ]
    report.write("hot_state", lines, {}, keep=not chosen.no_write)
    return 0


def _rows(spent: dict[str, float], log: dict[str, float], polls: int) -> Iterator[str]:
    every = {**spent, "all": sum(spent.values())}
    written = {**log, "all": sum(log.values())}
    for name, seconds in every.items():
        micros, octets = seconds / polls * 1e6, written[name] / polls
        yield f"| {name} | {micros:.0f} | {octets:.0f} | {micros * 16_700 / 1e6:.2f} |"


def _poll(database: Database, claimed: Sequence[Due]) -> None:
    """Four statements for each 200, as of a job whose mailboxes are polled the first time."""
    for start in range(0, len(claimed), _POLLED):
        ids = [due.connection_id for due in claimed[start : start + _POLLED]]
        with database.autocommit() as session:
            emitted = datetime.now(UTC)
            begun = begun_runs.due(session, ids, {}, "bench", _TTL, emitted=emitted)
            found = connections.get_many(session, [one.state.connection_id for one in begun])
            here = {one.id: one for one in found}
            begun = begun_runs.due(session, list(here), here, "bench", _TTL, emitted=emitted)
        by_key = {one.lease.mailbox: one.lease for one in begun if one.lease is not None}
        ended_runs.record(
            database,
            [
                EndedRun(
                    lease=by_key[one.lease_key()],
                    connection_id=one.id,
                    duration_ms=1,
                    lane=FETCH_QUEUE,
                    affinity="bench",
                )
                for one in found
            ],
        )


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
