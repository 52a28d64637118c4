"""Alerts that are found by asking now and then: what expires, lags behind or is overdue."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, TypedDict

from shared.alerts.base import AlertData
from shared.alerts.connections import (
    ConnectionsOnTime,
    ConnectionsOverdue,
)
from shared.alerts.expiring import (
    EXPIRY_DAYS,
    CertificateExpiring,
    ClientSecretExpiring,
    expiry_stage,
)
from shared.alerts.handlers import HandlerBacklogOld, HandlerBacklogRecovered
from shared.storage.alerts import end_episode, raise_transition
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("alert_checks")

#: Seconds beyond which an overdue connection is told of: a restart of all fetchers is no news.
_OVERDUE_TOLD_S: Final = 30.0


class _ExpiringRow(TypedDict):
    name: str
    days: int
    ends_at: str


class _Backlog(TypedDict):
    name: str
    handler_id: int
    backlog: int
    oldest_at: str | None


def raise_expiries(session: Session, now: datetime) -> int:
    """Raises what expires within 30, 7 or 1 days, once for each; returns how many were new.

    Certificates count where a connection uses them. A later end (renewal) counts anew.
    """
    window = {"now": now, "within": timedelta(days=max(EXPIRY_DAYS))}
    found: list[AlertData] = []
    for row_id, name, ends_at in session.execute(_QUERIES["expiring_certificates"], window):
        found.append(CertificateExpiring(certificate_id=row_id, **_ending(name, ends_at, now)))
    for row_id, name, ends_at in session.execute(_QUERIES["expiring_secrets"], window):
        found.append(ClientSecretExpiring(credential_id=row_id, **_ending(name, ends_at, now)))
    return sum(raise_transition(session, data) for data in found)


def _ending(name: str, ends_at: datetime, now: datetime) -> _ExpiringRow:
    days = expiry_stage(ends_at, now)
    assert days is not None, "the query gives what ends within the widest stage"
    return {"name": name, "days": days, "ends_at": ends_at.isoformat(timespec="seconds")}


def raise_backlogs(session: Session, limit: timedelta) -> int:
    """Raises each handler whose oldest waiting mail is older than `limit`, and its recovery."""
    raised = 0
    for row in session.execute(_QUERIES["old_backlogs"], {"limit": limit}).fetchall():
        handler_id, name, backlog, oldest_at, is_old = row
        facts: _Backlog = {
            "name": name,
            "handler_id": handler_id,
            "backlog": backlog,
            "oldest_at": oldest_at.isoformat(timespec="seconds") if oldest_at else None,
        }
        old = HandlerBacklogOld(**facts)
        if is_old:
            raised += raise_transition(session, old)
        elif end_episode(session, old.dedupe):
            raised += raise_transition(session, HandlerBacklogRecovered(**facts))
    return raised


def raise_overdue(session: Session) -> bool:
    """Raises connections whose turn is long over, as one alert for all, and when none is left."""
    row = session.execute(_QUERIES["overdue"], {"grace": _OVERDUE_TOLD_S}).fetchone()
    count, name, last = row or (0, None, None)
    if count:
        alert = ConnectionsOverdue(
            name=name,
            count=count,
            oldest_success_at=last.isoformat(timespec="seconds") if last else None,
        )
        return raise_transition(session, alert)
    return end_episode(session, ConnectionsOverdue.episode) and raise_transition(
        session, ConnectionsOnTime()
    )
