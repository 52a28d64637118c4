"""Webhooks, alerts and the log of their delivery, as rows.

`raise_transition` is called inside the transaction of the change it tells of, so that an alert
exists exactly when the change does.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict

from psycopg import errors as pg
from psycopg.types.json import Jsonb

from shared.alerts.base import AlertData
from shared.alerts.connections import (
    ConnectionFailing,
    ConnectionRecovered,
    ConnectionsOnTime,
    ConnectionsOverdue,
)
from shared.alerts.delivery import Alert, Template
from shared.alerts.expiring import (
    EXPIRY_DAYS,
    CertificateExpiring,
    ClientSecretExpiring,
    expiry_stage,
)
from shared.alerts.handlers import HandlerBacklogOld, HandlerBacklogRecovered
from shared.alerts.kinds import from_json, to_json
from shared.alerts.services import WebhookTest
from shared.clock import new_id, time_of
from shared.errors import Conflict, InvalidInput, NotFound
from shared.storage.pool import Session
from shared.storage.queries import Queries

_QUERIES = Queries("alerts")
#: Where a webhook's secrets lie: seal and open them at `Place("webhook", column, str(id))`.
WEBHOOK_TABLE: Final = "webhook"

#: Seconds beyond which an overdue connection is told of: a restart of all fetchers is no news.
_OVERDUE_TOLD_S: Final = 30.0

#: How long after an alert the next one on the same subject is told, where they are told together.
_TOGETHER: Final = timedelta(minutes=10)

#: (column, row id, plain text) → sealed value: what `Vault.seal` gives for that place.
Seal = Callable[[str, int, str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Who is told. Its address and signing secret are never part of this value.

    `kinds`: of `shared.alerts.kinds.CHOICES`, none: every kind. `muted_until`: None where it is not
    muted.
    """

    id: int
    name: str
    template: Template
    kinds: tuple[str, ...]
    enabled: bool
    muted_until: datetime | None
    has_secret: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An enabled webhook that has still to be told, its `url` and `secret` sealed."""

    id: int
    name: str
    url: bytes
    secret: bytes | None
    template: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One line of the execution log. `status` is HTTP's, None where no answer came."""

    alert_id: uuid.UUID
    webhook_id: int
    webhook: str
    attempted_at: datetime
    status: int | None
    error: str | None


class _Ending(TypedDict):
    name: str
    days: int
    ends_at: str


class _Backlog(TypedDict):
    name: str
    handler_id: int
    backlog: int
    oldest_at: str | None


def webhooks(session: Session) -> list[Webhook]:
    return [_webhook(row) for row in session.execute(_QUERIES["webhooks"])]


def webhook(session: Session, webhook_id: int) -> Webhook:
    """Raises NotFound."""
    row = session.execute(_QUERIES["webhook"], {"id": webhook_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return _webhook(row)


def create_webhook(
    session: Session,
    *,
    name: str,
    url: str,
    secret: str,
    template: Template,
    seal: Seal,
    kinds: Sequence[str] = (),
    enabled: bool = True,
    muted_until: datetime | None = None,
) -> Webhook:
    """Raises Conflict where the name is taken. An empty `secret` leaves the body unsigned."""
    row = session.execute(_QUERIES["new_webhook_id"]).fetchone()
    assert row is not None
    webhook_id = int(row[0])
    values = {
        "id": webhook_id,
        "name": _named(name),
        "url": seal("url", webhook_id, url),
        "secret": seal("secret", webhook_id, secret) if secret else None,
        "template": template.value,
        "kinds": list(kinds),
        "enabled": enabled,
        "muted_until": muted_until,
    }
    try:
        session.execute(_QUERIES["insert_webhook"], values)
    except pg.UniqueViolation as error:
        raise _taken(name) from error
    return webhook(session, webhook_id)


def update_webhook(
    session: Session,
    webhook_id: int,
    *,
    name: str,
    template: Template,
    kinds: Sequence[str],
    enabled: bool,
    muted_until: datetime | None,
    seal: Seal,
    url: str | None = None,
    secret: str | None = None,
) -> Webhook:
    """None leaves the address or the secret as it is, an empty secret removes it."""
    try:
        session.execute(
            _QUERIES["update_webhook"],
            {
                "id": webhook_id,
                "name": _named(name),
                "template": template.value,
                "kinds": list(kinds),
                "enabled": enabled,
                "muted_until": muted_until,
            },
        )
    except pg.UniqueViolation as error:
        raise _taken(name) from error
    if url is not None:
        sealed = seal("url", webhook_id, url)
        session.execute(_QUERIES["update_webhook_url"], {"id": webhook_id, "url": sealed})
    if secret is not None:
        hidden = seal("secret", webhook_id, secret) if secret else None
        session.execute(_QUERIES["update_webhook_secret"], {"id": webhook_id, "secret": hidden})
    return webhook(session, webhook_id)


def delete_webhook(session: Session, webhook_id: int) -> None:
    """Its lines of the execution log go with it. Raises NotFound."""
    if not session.execute(_QUERIES["delete_webhook"], {"id": webhook_id}).rowcount:
        raise NotFound(f"There is no webhook {webhook_id}.")


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
    if any(kind == data.kind for _, kind, _, _ in _of_ill(session, data.connection_id)):
        return
    recover(session, data.connection_id)  # of another kind: it is told as what it is now
    told = replace(data, connection_ids=(data.connection_id,))
    values = {
        "id": new_id(),
        "kind": told.kind,
        "subject": told.subject,
        "dedupe": told.dedupe,
        "data": Jsonb(to_json(told)),
        "after": after,
        "connection_id": told.connection_id,
    }
    session.execute(_QUERIES["raise_failing"], values)


def hasten(session: Session, connection_id: int) -> None:
    """It failed often enough: what was raised of it is told now."""
    session.execute(_QUERIES["hasten"], {"connection_id": connection_id})


def recover(session: Session, connection_id: int) -> bool:
    """Notes that a connection works; whether that was raised. Those that were told of together
    are told together again, when the last of them works; what nobody was told of is withdrawn."""
    raised = False
    for identifier, kind, fields, untold in _of_ill(session, connection_id):
        data = from_json(kind, fields)
        assert isinstance(data, ConnectionFailing)
        ids = [one for one in data.connection_ids if one != connection_id]
        left = session.execute(_QUERIES["still_ill"], {"ids": ids}).fetchall()
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
                ),
            )
    return raised


def _of_ill(session: Session, connection_id: int) -> list[tuple[uuid.UUID, str, Any, bool]]:
    values = {"connection_id": connection_id, "kinds": list(ConnectionRecovered.closes)}
    return session.execute(_QUERIES["of_ill"], values).fetchall()


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


def _ending(name: str, ends_at: datetime, now: datetime) -> _Ending:
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


def claim_due(session: Session, limit: int) -> list[Alert]:
    """Takes due alerts for a minute; their `attempts` counts the one about to be made."""
    rows = session.execute(_QUERIES["claim_alerts"], {"limit": limit}).fetchall()
    return [_alert(row) for row in rows]


def untold(session: Session, alert: Alert) -> list[Target]:
    """The webhooks that want this alert and have not taken it yet."""
    only = alert.data.webhook_id if isinstance(alert.data, WebhookTest) else None
    kinds = [alert.kind, *alert.data.closes]
    values = {"id": alert.id, "raised_at": alert.at, "only": only, "kinds": kinds}
    rows = session.execute(_QUERIES["untold_webhooks"], values)
    return [Target(id=i, name=n, url=u, secret=s, template=Template(t)) for i, n, u, s, t in rows]


def log_delivery(
    session: Session, alert: Alert, target: Target, status: int | None, error: str | None
) -> None:
    values = {"alert_id": alert.id, "webhook_id": target.id, "status": status, "error": error}
    session.execute(_QUERIES["log_delivery"], values)


def schedule(session: Session, alert: Alert, delay: timedelta | None) -> None:
    """When the alert is tried again; None: never."""
    session.execute(_QUERIES["schedule_alert"], {"id": alert.id, "delay": delay})


def leave(session: Session, alert: Alert, delay: timedelta) -> None:
    """It is left to others, and the attempt does not count."""
    session.execute(_QUERIES["leave_alert"], {"id": alert.id, "delay": delay})


def alerts(
    session: Session, *, subject: str = "", before: uuid.UUID | None = None, limit: int = 50
) -> list[tuple[Alert, bool]]:
    """Newest first, each with whether it is still being delivered; `before` pages."""
    values = {"subject": subject, "before": before, "limit": limit}
    rows = session.execute(_QUERIES["alerts"], values).fetchall()
    return [(_alert(row[:5]), bool(row[5])) for row in rows]


def deliveries(session: Session, alert_ids: Sequence[uuid.UUID]) -> list[Delivery]:
    """The execution log of these alerts, in order."""
    rows = session.execute(_QUERIES["deliveries"], {"ids": list(alert_ids)})
    return [
        Delivery(alert_id=a, webhook_id=w, webhook=n, attempted_at=t, status=s, error=e)
        for a, w, n, t, s, e in rows
    ]


def _webhook(row: Sequence[Any]) -> Webhook:
    webhook_id, name, template, kinds, enabled, muted_until, has_secret, created_at = row
    return Webhook(
        id=webhook_id,
        name=name,
        template=Template(template),
        kinds=tuple(kinds),
        enabled=enabled,
        muted_until=muted_until,
        has_secret=has_secret,
        created_at=created_at,
    )


def _alert(row: Sequence[Any]) -> Alert:
    alert_id, kind, _, data, attempts = row
    return Alert(id=alert_id, data=from_json(kind, data), attempts=attempts)


def _named(name: str) -> str:
    if not name.strip():
        raise InvalidInput("A webhook needs a name.", field="name")
    return name.strip()


def _taken(name: str) -> Conflict:
    return Conflict(f"There is a webhook {name!r} already.", hint="Choose another name.")
