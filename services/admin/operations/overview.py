"""How the installation is doing, in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.admin.context import Context
from services.admin.operations.handlers import HandlerView, search_handlers
from shared.clock import utc_now
from shared.connections import Health
from shared.queueing.connect import place
from shared.storage import (
    certificates,
    connection_list,
    credentials,
    outbox,
    overview,
    quarantine,
    schema,
    services,
)
from shared.storage.overview import Backlog as Backlog
from shared.storage.overview import Delays as Delays
from shared.storage.overview import Slot as Slot
from shared.storage.overview import UnhealthyConnection as UnhealthyConnection
from shared.storage.pool import Session
from shared.storage.services import ServiceHeartbeat as ServiceHeartbeat

#: From when on an end is announced.
SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Expiring:
    """A certificate or client secret that ends soon, or has ended. `kind` is what it is."""

    kind: str
    id: int
    name: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A server that all of Posthouse rests on. `place`: where, without secrets; `trouble`: what is
    wrong with it, empty where all is well, None where no process is at work that could tell."""

    name: str
    place: str
    trouble: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """`absent`: services that are needed and of which no process was ever seen.

    `last_hour` in slots of a minute, `last_day` in slots of half an hour. `undecrypted`: mails of
    the last day that no key opened, which handlers got as they came; `unwanted`: of the last day,
    too, that the rules of every handler left out.
    """

    at: datetime
    connections: Mapping[Health, int]
    unhealthy: Sequence[UnhealthyConnection]
    backlog: Backlog
    delays: Delays
    last_hour: Sequence[Slot]
    last_day: Sequence[Slot]
    quarantined: int
    undecrypted: int
    unwanted: int
    handlers: Sequence[HandlerView]
    expiring: Sequence[Expiring]
    backends: Sequence[Backend]
    services: Sequence[ServiceHeartbeat]
    absent: Sequence[str]

    @property
    def has_trouble(self) -> bool:
        """Whether something of Posthouse itself is wrong, and not a mailbox or a handler alone."""
        failing = any(one.is_silent or one.failing for one in self.services)
        return failing or bool(self.absent) or any(one.trouble for one in self.backends)


def get_overview(ctx: Context) -> Overview:
    """Contacts no mail server."""
    now = utc_now()
    taking = search_handlers(ctx)
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
        running = services.heartbeats(session)
        return Overview(
            at=now,
            connections=connection_list.count_by_health(session),
            unhealthy=overview.unhealthy(session),
            backlog=Backlog(*outbox.size(session)),
            delays=overview.delays(session),
            last_hour=overview.throughput(session, slots=60, seconds=60),
            last_day=overview.throughput(session, slots=48, seconds=1800),
            quarantined=quarantine.count(session),
            undecrypted=overview.undecrypted(session),
            unwanted=overview.unwanted(session),
            handlers=taking,
            expiring=sorted(soon, key=lambda one: one.expires_at),
            backends=[_postgres(ctx, session, running), *_brokers(ctx, running)],
            services=running,
            absent=_absent(running, is_forwarding=any(one.forward for one in taking)),
        )


def _absent(running: Sequence[ServiceHeartbeat], *, is_forwarding: bool) -> list[str]:
    missing = [name for name in services.NAMES if name not in {one.name for one in running}]
    return [name for name in missing if name != "forwarder" or is_forwarding]


def _postgres(ctx: Context, session: Session, running: Sequence[ServiceHeartbeat]) -> Backend:
    """It answers, as it was just asked for all the rest; whether it can write is the question."""
    database = ctx.app_state.database
    told = [one.failing["database"] for one in running if "database" in one.failing]
    refusal = database.refusal or schema.refusal(session) or next(iter(told), "")
    return Backend(name="Postgres", place=database.place, trouble=str(refusal))


def _brokers(ctx: Context, running: Sequence[ServiceHeartbeat]) -> list[Backend]:
    """As the processes at work say that use them; the pages use neither."""
    settings = ctx.app_state.settings
    living = [one for one in running if not one.is_silent and one.name != "admin"]
    found = []
    for name, check, url in (
        ("Broker", "broker", settings.broker_url.get_secret_value()),
        ("Handlers' queues", "output", settings.effective_output_url),
    ):
        who: dict[str, dict[str, None]] = {}  # of each reason, the services that tell it, once each
        for one in living:
            if check in one.failing:
                who.setdefault(one.failing[check], {})[one.name] = None
        told = " ".join(f"{', '.join(names)}: {reason}" for reason, names in who.items())
        trouble = told if living else None
        found.append(Backend(name=name, place=place(url), trouble=trouble))
    return found
