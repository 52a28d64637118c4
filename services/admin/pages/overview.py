"""The first page: what flows, what is stuck, what needs somebody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.pages import charts
from services.admin.pages.house import database_of
from services.admin.pages.rendering import render
from shared.clock import utc_now
from shared.connections import Connection, Health
from shared.handlers import Handler
from shared.storage import certificates, connections, handlers, outbox, overview, people, quarantine
from shared.storage.certificates import Certificate
from shared.storage.connections import ConnectionStatus
from shared.storage.handlers import QueueState
from shared.storage.overview import Delays

router = APIRouter()
_SOON = timedelta(days=30)
_BUCKET = timedelta(hours=1)
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything on the page, read in one transaction."""

    now: datetime
    healths: dict[Health, int]
    chart: charts.Chart
    mails_today: int
    mails_last_hour: int
    delays: Delays
    waiting: int
    waiting_since: datetime | None
    quarantined: int
    ill: list[tuple[Connection, ConnectionStatus]]
    backlogs: list[tuple[Handler, QueueState]]
    expiring: list[Certificate]
    nobody: bool

    @property
    def connections(self) -> int:
        return sum(self.healths.values())

    @property
    def ill_count(self) -> int:
        return sum(self.healths.get(h, 0) for h in (Health.FAILING, Health.NEEDS_AUTHORISATION))


@router.get("/")
def page(request: Request) -> Response:
    return render(request, "overview.html", overview=_read(request))


@router.get("/overview/live")
def live(request: Request) -> Response:
    return render(request, "_overview.html", overview=_read(request))


def _read(request: Request) -> Overview:
    now = utc_now()
    with database_of(request).transaction() as session:
        healths = connections.count_by_health(session)
        traffic = overview.traffic(session, now, buckets=24, length=_BUCKET)
        ill: list[tuple[Connection, ConnectionStatus]] = []
        for health in (Health.NEEDS_AUTHORISATION, Health.FAILING):
            if healths.get(health) and len(ill) < _SHOWN:
                found = connections.search(session, health=health, per_page=_SHOWN - len(ill))
                ill += found.items
        every = handlers.search(session)
        queues = handlers.queues(session, [handler.id for handler in every])
        waiting, since = outbox.size(session)
        total = sum(bucket.mails for bucket in traffic)
        return Overview(
            now=now,
            healths=healths,
            chart=charts.bars(
                [(f"{bucket.start:%H:%M}", bucket.mails) for bucket in traffic],
                f"Mails downloaded an hour over the last day, {total} in all. Times are UTC.",
                unit="mails",
            ),
            mails_today=sum(b.mails for b in traffic if b.start.date() == now.date()),
            mails_last_hour=sum(bucket.mails for bucket in traffic[-1:]),
            delays=overview.delays(session, now - timedelta(hours=1)),
            waiting=waiting,
            waiting_since=since,
            quarantined=quarantine.count(session),
            ill=ill,
            backlogs=[(handler, queues[handler.id]) for handler in every],
            expiring=certificates.expiring(session, now + _SOON),
            nobody=not people.people(session),
        )
