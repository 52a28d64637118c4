"""The figures of the overview."""

from __future__ import annotations

from typing import Literal

from services.admin.api.schemas.common import HealthWord, Out
from services.admin.api.schemas.derived import output_of
from services.admin.api.schemas.handlers import HandlerOut
from services.admin.operations.overview import (
    Backend,
    Backlog,
    Delays,
    Expiring,
    Overview,
    ServiceHeartbeat,
    Slot,
    UnhealthyConnection,
)


@output_of(Slot)
class SlotOut(Out):
    """Mails downloaded from `start` on, until the next slot."""


@output_of(Backlog)
class BacklogOut(Out):
    """Mails that are safe here and not yet with every handler."""


@output_of(Delays)
class DelaysOut(Out):
    """Seconds from download to event, of the newest thousand mails of the last day."""


@output_of(UnhealthyConnection)
class UnhealthyConnectionOut(Out):
    """An enabled connection that fails, waits for an authorisation or is overdue."""

    health: HealthWord


@output_of(Expiring)
class ExpiringOut(Out):
    """A certificate or client secret that ends soon, or has ended."""

    kind: Literal["certificate", "credential"]


@output_of(ServiceHeartbeat)
class ServiceOut(Out):
    """A process of Posthouse. `failing`: what it cannot reach, and why."""


@output_of(Backend)
class BackendOut(Out):
    """Postgres, the broker, the handlers' queues. `trouble`: what is wrong, empty where nothing is,
    null where no process is at work that could tell."""


@output_of(Overview)
class OverviewOut(Out):
    """The figures of the overview."""

    connections: dict[str, int]
    unhealthy: list[UnhealthyConnectionOut]
    backlog: BacklogOut
    delays: DelaysOut
    last_hour: list[SlotOut]
    last_day: list[SlotOut]
    handlers: list[HandlerOut]
    expiring: list[ExpiringOut]
    backends: list[BackendOut]
    services: list[ServiceOut]
