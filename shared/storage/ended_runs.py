"""How runs end well, in one statement: each of them is a round trip that a mail would pay for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.storage import leases, ledger, settlements
from shared.storage.arrays import array, text_array
from shared.storage.leases import Lease
from shared.storage.pool import Database, Session, wait_briefly
from shared.storage.queries import Queries
from shared.storage.settlements import Settled

_LEDGER: Final = Queries("ledger")
_SQL: Final = Queries(
    "ended_runs",
    release=Queries("leases")["release"],
    settling=_LEDGER["settling"],
    settled=_LEDGER["settled"],
    insert_runs=_LEDGER["insert_runs"],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run that succeeded. `cursor` is kept where `keep_cursor`; `again`: there is more.

    `affinity` is the fetcher that keeps the mailbox's session open, None where nobody does. `pause`
    is how many seconds its server wants until the next login. `settled`: what that confirmed and is
    still to be recorded. `noted`: its line in the connection's history, None where it gets none.
    """

    lease: Lease
    connection_id: int
    duration_ms: int
    lane: str
    cursor: Mapping[str, Any] | None = None
    keep_cursor: bool = False
    uid_validity: int | None = None
    affinity: str | None = None
    again: bool = False
    pause: float = 0.0
    settled: Sequence[Settled] = ()
    noted: ledger.NotedRun | None = None


def record(database: Database, runs: Sequence[EndedRun], *, of_several: bool = False) -> None:
    """Gives the leases back (they are of one owner) and records what is to be said of these runs.

    `of_several` threads: no row that is locked is waited for for long (`Contended`).
    """
    ways = settlements.by_way([one for run in runs for one in run.settled])
    deleted = ways.get("deleted", ())
    way, mails = next(iter(ways.items()), ("read", ()))
    statement = {**_values(runs), **settlements.settled_values(way, mails)}
    ways.pop(way, None)
    alone = len(runs) == 1 and len(mails) <= 1

    def end(session: Session) -> None:
        if of_several:
            wait_briefly(session)
        session.execute(_SQL.of("end_runs", 1 if alone else 2), statement)
        settlements.record_ways(session, ways)
        settlements.forget_deleted(session, deleted)

    if of_several:
        with database.transaction() as session:
            end(session)
    else:
        database.perform(end, single=not (ways or deleted))


def _values(runs: Sequence[EndedRun]) -> dict[str, str]:
    ordered = sorted(runs, key=lambda run: run.connection_id)
    return {
        **leases.values([run.lease for run in runs]),
        **ledger.noted_values([run.noted for run in ordered if run.noted is not None]),
        "ids": array(str(run.connection_id) for run in ordered),
        "durations": array(str(run.duration_ms) for run in ordered),
        "cursors": text_array(
            None if run.cursor is None else json.dumps(dict(run.cursor)) for run in ordered
        ),
        "keep": array(str(run.keep_cursor) for run in ordered),
        "validities": array(str(run.uid_validity or "NULL") for run in ordered),
        "lanes": text_array(run.lane for run in ordered),
        "affinities": text_array(run.affinity for run in ordered),
        "again": array(str(run.again) for run in ordered),
        "pauses": array(str(run.pause) for run in ordered),
        "run_mailboxes": text_array(run.lease.mailbox for run in ordered),
    }
