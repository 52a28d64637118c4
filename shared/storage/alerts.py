"""Alerts as rows: raised, counted together, withdrawn.

`raise_transition` is called inside the transaction of the change it tells of, so that an alert
exists exactly when the change does.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb

from shared.alerts.base import AlertData
from shared.alerts.connections import (
    ConnectionFailing,
    ConnectionRecovered,
)
from shared.alerts.kinds import from_json, to_json
from shared.clock import new_id, time_of
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("alerts")

#: How long after an alert the next one on the same subject is told, where they are told together.
_TOGETHER: Final = timedelta(minutes=10)


def raise_transition(session: Session, data: AlertData, *, due: datetime | None = None) -> bool:
    """Raises an alert in the caller's transaction; False where its episode was raised before.

    It is told now, or when it is `due`.
    """
    values = {
        "due": due,
        "id": new_id(),
        "kind": data.kind,
        "subject": data.subject,
        "dedupe": data.dedupe,
        "data": Jsonb(to_json(data)),
    }
    return bool(session.execute(_QUERIES["raise_alert"], values).rowcount)


def raise_together(session: Session, data: AlertData) -> None:
    """Raises an alert whose `count` grows while it is not told: the first at once, those that
    follow on the same subject together, a while after it. A flood would hide the next alert."""
    row = session.execute(_QUERIES["last_of_subject"], {"subject": data.subject}).fetchone()
    if row is not None and row[1]:
        session.execute(_QUERIES["count_one_more"], {"id": row[0]})
        return
    raise_transition(session, data, due=time_of(row[0]) + _TOGETHER if row is not None else None)


def end_episode(session: Session, dedupe: str) -> bool:
    """What was raised under this key is over: the next time counts as new. False: none was."""
    return bool(session.execute(_QUERIES["close_episode"], {"dedupe": dedupe}).rowcount)


def raise_failing(session: Session, data: ConnectionFailing, after: timedelta) -> None:
    """Raises it, to be told `after` a while: with others at its host, or not at all where it
    recovers before. One that is known already is not raised anew."""
    if any(kind == data.kind for _, kind, _, _ in _of_failing(session, data.connection_id)):
        return
    recover(session, data.connection_id)  # of another kind: it is told as what it is now
    alert = replace(data, connection_ids=(data.connection_id,))
    values = {
        "id": new_id(),
        "kind": alert.kind,
        "subject": alert.subject,
        "dedupe": alert.dedupe,
        "data": Jsonb(to_json(alert)),
        "after": after,
        "connection_id": alert.connection_id,
    }
    session.execute(_QUERIES["raise_failing"], values)


def hasten(session: Session, connection_id: int) -> None:
    """It failed often enough: what was raised of it is told now."""
    session.execute(_QUERIES["hasten"], {"connection_id": connection_id})


def recover(session: Session, connection_id: int, *, unwatched: bool = False) -> bool:
    """Notes that a connection works, or is `unwatched` from now on; whether that was raised. Those
    that were told of together are told together again, when the last of them works; what nobody was
    told of is withdrawn."""
    raised = False
    for identifier, kind, fields, untold in _of_failing(session, connection_id):
        data = from_json(kind, fields)
        assert isinstance(data, ConnectionFailing)
        ids = [one for one in data.connection_ids if one != connection_id]
        left = session.execute(_QUERIES["still_failing"], {"ids": ids}).fetchall()
        still = tuple(row[0] for row in left)
        if untold and not left:
            session.execute(_QUERIES["withdraw"], {"id": identifier})
            continue
        changed = replace(data, connection_ids=still)
        if untold:
            changed = replace(changed, count=len(left))
            if data.connection_id not in still:
                first, name, message = left[0]
                changed = replace(changed, connection_id=first, name=name, message=message)
        values = {"id": identifier, "data": Jsonb(to_json(changed))}
        session.execute(_QUERIES["rewrite"], values)
        if not left:
            raised = raise_transition(
                session,
                ConnectionRecovered(
                    connection_id=data.connection_id,
                    name=data.name,
                    failures=data.failures,
                    host=data.host,
                    count=data.count,
                    unwatched=unwatched,
                ),
            )
    return raised


def is_failing(session: Session, connection_id: int) -> bool:
    """Whether `recover` would find something."""
    values = {"connection_id": connection_id, "kinds": list(ConnectionRecovered.closes)}
    row = session.execute(_QUERIES["is_failing"], values).fetchone()
    return bool(row and row[0])


def _of_failing(session: Session, connection_id: int) -> list[tuple[uuid.UUID, str, Any, bool]]:
    values = {"connection_id": connection_id, "kinds": list(ConnectionRecovered.closes)}
    return session.execute(_QUERIES["of_failing"], values).fetchall()
