"""The figures of the overview."""

from __future__ import annotations

from typing import Literal

from services.admin.api.schemas.common import HealthWord, Out
from services.admin.api.schemas.derived import showing
from services.admin.api.schemas.handlers import HandlerOut
from services.admin.operations.overview import (
    Backend,
    Backlog,
    Delays,
    Expiring,
    Overview,
    ServiceHeartbeat,
    SickConnection,
    Slot,
)


@showing(Slot)
class SlotOut(Out):
    """Mails downloaded from `start` on, until the next slot."""


@showing(Backlog)
class BacklogOut(Out):
    """Mails that are safe here and not yet with every handler."""


@showing(Delays)
class DelaysOut(Out):
    """Seconds from download to event, of the newest thousand mails of the last day."""


@showing(SickConnection)
class SickOut(Out):
    """An enabled connection that fails, waits for an authorisation or is overdue."""

    health: HealthWord


@showing(Expiring)
class ExpiringOut(Out):
    """A certificate or client secret that ends soon, or has ended."""

    kind: Literal["certificate", "credential"]


@showing(ServiceHeartbeat)
class ServiceOut(Out):
    """A process of Posthouse. `failing`: what it cannot reach, and why."""


@showing(Backend)
class BackendOut(Out):
    """Postgres, the broker, the handlers' queues. `trouble`: what is wrong, empty where nothing is,
    null where no process is at work that could tell."""


@showing(Overview)
class OverviewOut(Out):
    """The figures of the overview."""

    connections: dict[str, int]
    sick: list[SickOut]
    backlog: BacklogOut
    delays: DelaysOut
    last_hour: list[SlotOut]
    last_day: list[SlotOut]
    handlers: list[HandlerOut]
    expiring: list[ExpiringOut]
    backends: list[BackendOut]
    services: list[ServiceOut]
