"""The state of each process of Posthouse, which it reports every few seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from shared.alerts.services import HEARTBEAT, ServiceFailing, ServiceRecovered
from shared.storage import alerts
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("services")

NAMES: Final = ("scheduler", "fetcher", "decryptor", "forwarder", "admin")
#: What is no job and lay on a job queue.
JOBS: Final = "jobs"
#: Checks that are shown, and that nobody is called for: nothing stands still by them.
REMARKS: Final = (JOBS,)
#: Seconds after its last heartbeat from when on a process is taken for dead.
SILENT_S: Final = 45.0
#: Seconds for which something has to be wrong before anybody is told: a restart is no news.
_TOLD_AFTER_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHeartbeat:
    """One process. `failing`: what it cannot reach, with the reason; empty where all is well.

    `free`, `total`: octets of its store, None where that has no bounds.
    """

    instance: str
    name: str
    version: str
    started_at: datetime
    seen_at: datetime
    is_silent: bool
    failing: Mapping[str, str]
    free: int | None
    total: int | None


def record_heartbeat(
    session: Session,
    *,
    instance: str,
    name: str,
    version: str,
    failing: Mapping[str, str],
    space: tuple[int, int] | None,
) -> None:
    """Writes what a process says of itself, and forgets those that are long gone."""
    free, total = space or (None, None)
    session.execute(
        _SQL["record_heartbeat"],
        {
            "instance": instance,
            "name": name,
            "version": version,
            "failing": Jsonb(dict(failing)),
            "remarks": list(REMARKS),
            "free": free,
            "total": total,
        },
    )
    session.execute(_SQL["forget"])


def try_to_write(session: Session) -> None:
    """Writes as much as a batch of mails may need, and takes it back: raises where that fails."""
    session.execute(_SQL["ballast"])
    session.rollback()


def heartbeats(session: Session) -> list[ServiceHeartbeat]:
    """Those at work, and of a service of which none is, the last that was; by name."""
    with session.cursor(row_factory=class_row(ServiceHeartbeat)) as cursor:
        return cursor.execute(_SQL["heartbeats"], {"silent": SILENT_S}).fetchall()


def failing(session: Session, after_s: float = 0.0) -> list[tuple[str, str, str]]:
    """(service, check, why) of what has been wrong for so many seconds, without REMARKS."""
    values = {"silent": SILENT_S, "after": after_s, "remarks": list(REMARKS)}
    return [(n, c, m) for n, c, m in session.execute(_SQL["failing"], values)]


def raise_failing(session: Session) -> int:
    """Raises each fault that has lasted for a minute, once, with all services that have it now; and
    that it is over when none has it any more."""
    raised = 0
    now = failing(session)
    wrong: set[str] = set()
    for name, check, message in failing(session, _TOLD_AFTER_S):
        alone = ServiceFailing(name=name, check=check, message=message)
        if alone.subject in wrong:
            continue
        wrong.add(alone.subject)
        if check != HEARTBEAT:
            names = sorted({other for other, theirs, _ in now if theirs == check})
            alone = replace(alone, name=", ".join(names))
        raised += alerts.raise_transition(session, alone)
    for subject, name, check in session.execute(_SQL["raised_alerts"]).fetchall():
        over = ServiceRecovered(name=name, check=check)
        if subject not in wrong and alerts.end_episode(session, subject):
            raised += alerts.raise_transition(session, over)
    return raised
