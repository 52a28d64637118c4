"""How the house is doing, in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.admin.context import Context
from services.admin.operations.connections import Seen, search_connections
from services.admin.operations.handlers import HandlerSeen, search_handlers
from shared.clock import utc_now
from shared.connections import Health
from shared.storage import certificates, connections, credentials, outbox, overview, quarantine
from shared.storage.overview import Bucket, Delays

#: From when on an end is announced.
SOON = timedelta(days=30)
_SICK = 20


@dataclass(frozen=True, slots=True)
class Expiring:
    """A certificate or client secret that ends soon, or has ended. `kind` is what it is."""

    kind: str
    id: int
    name: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """Mails that are safe here and not yet with every handler; `oldest_at` by its download."""

    mails: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """`last_hour` in buckets of a minute, `last_day` in buckets of half an hour."""

    at: datetime
    connections: Mapping[Health, int]
    sick: Sequence[Seen]
    backlog: Backlog
    delays: Delays
    last_hour: Sequence[Bucket]
    last_day: Sequence[Bucket]
    quarantined: int
    handlers: Sequence[HandlerSeen]
    expiring: Sequence[Expiring]


def get_overview(ctx: Context) -> Overview:
    """Contacts no mail server."""
    now = utc_now()
    taking = search_handlers(ctx)
    sick: list[Seen] = []
    for health in (Health.NEEDS_AUTHORISATION, Health.FAILING):
        sick += search_connections(ctx, health=health, per_page=_SICK).items
    with ctx.transaction() as session:
        soon = [
            Expiring("certificate", c.id, c.label, c.not_after)
            for c in certificates.expiring(session, now + SOON)
            if c.not_after
        ] + [
            Expiring("credential", c.id, c.name, c.secret_expires_at)
            for c in credentials.expiring(session, now + SOON)
            if c.secret_expires_at
        ]
        minute, half_hour = timedelta(minutes=1), timedelta(minutes=30)
        return Overview(
            at=now,
            connections=connections.count_by_health(session),
            sick=sick[:_SICK],
            backlog=Backlog(*outbox.size(session)),
            delays=overview.delays(session, now - timedelta(hours=1)),
            last_hour=overview.traffic(session, now, buckets=60, length=minute),
            last_day=overview.traffic(session, now, buckets=48, length=half_hour),
            quarantined=quarantine.count(session),
            handlers=taking,
            expiring=sorted(soon, key=lambda one: one.expires_at),
        )
