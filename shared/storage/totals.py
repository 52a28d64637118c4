"""Reads the state of all connections and queues in a few numbers, for `/metrics`."""

from __future__ import annotations

import uuid
from datetime import datetime

from shared.clock import time_of, utc_now
from shared.storage import revocations, services
from shared.storage.pool import Database
from shared.storage.queries import Queries
from shared.telemetry.totals import (
    AGE_BOUNDS,
    NAMED,
    NAMED_HANDLERS,
    HandlerQueue,
    Named,
    Totals,
)

_QUERIES = Queries("totals")
_CONNECTIONS = Queries("connections")


def read_totals(database: Database) -> Totals:
    """A few aggregates over Postgres; some 0.2 s for 100,000 connections."""
    now = utc_now()
    with database.transaction() as session:
        session.execute("SET LOCAL statement_timeout = '10s'")
        by_health = session.execute(_CONNECTIONS["judged"] + _QUERIES["by_health"]).fetchall()
        throttled = session.execute(_QUERIES["throttled"]).fetchall()
        ages = [0] * (len(AGE_BOUNDS) + 1)
        ages_sum = 0.0
        for bucket, count, total in session.execute(
            _QUERIES["success_ages"], {"bounds": list(AGE_BOUNDS)}
        ):
            ages[bucket] = count
            ages_sum += total
        successes = session.execute(_QUERIES["oldest_successes"], {"limit": NAMED}).fetchall()
        pending = session.execute(_QUERIES["oldest_pending"], {"limit": NAMED}).fetchall()
        totals = session.execute(_QUERIES["totals"]).fetchone()
        handlers = session.execute(_QUERIES["handlers"], {"limit": NAMED_HANDLERS}).fetchall()
        chores = session.execute(_QUERIES["chores"]).fetchall()
        failing = services.failing(session)
        known = revocations.counts(session)
        revocation_failing = revocations.failing(session)
    assert totals is not None
    outbox, first, settlements, unsettled, quarantined = totals
    return Totals(
        connections=dict(by_health),
        success_ages=ages,
        success_ages_sum=ages_sum,
        oldest_successes=[Named(*row) for row in successes],
        oldest_pending=[
            Named(identifier, name, _age(now, oldest)) for identifier, name, oldest in pending
        ],
        throttled=dict(throttled),
        overdue=dict(by_health).get("overdue", 0),
        outbox=outbox,
        outbox_oldest_seconds=_age(now, first),
        settlements=settlements,
        settlements_oldest_seconds=_age(now, unsettled),
        quarantined=quarantined,
        handlers=[HandlerQueue(n, b, oldest or 0.0, dead) for n, b, oldest, dead in handlers],
        chores=dict(chores),
        failing=[(name, check) for name, check, _ in failing],
        revocations=known,
        revocation_failing=revocation_failing,
    )


def _age(now: datetime, oldest: uuid.UUID | None) -> float:
    """Seconds since the mail with this id came; 0 where there is none."""
    return max(0.0, (now - time_of(oldest)).total_seconds()) if oldest else 0.0
