"""The figures of the overview."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from services.admin.api.schemas.handlers import HandlerOut
from services.admin.api.schemas.parts import HealthWord, Out
from shared.connections import Failure


class SlotOut(Out):
    start: datetime
    mails: int
    bytes: int


class BacklogOut(Out):
    mails: int
    oldest_at: datetime | None


class DelaysOut(Out):
    """Seconds from download to event, of the newest thousand mails of the last day."""

    median: float | None
    p95: float | None
    mails: int


class SickOut(Out):
    id: int
    name: str
    health: HealthWord
    error: Failure | None
    failures: int
    last_success_at: datetime | None


class ExpiringOut(Out):
    kind: Literal["certificate", "credential"]
    id: int
    name: str
    expires_at: datetime


class ServiceOut(Out):
    """A process of Posthouse. `failing`: what it cannot reach, and why."""

    name: str
    instance: str
    version: str
    started_at: datetime
    seen_at: datetime
    is_silent: bool
    failing: dict[str, str]
    free: int | None
    total: int | None


class BackendOut(Out):
    """Postgres, the broker, the handlers' queues. `trouble`: what is wrong, empty where nothing is,
    null where no process is at work that could tell."""

    name: str
    place: str
    trouble: str | None


class OverviewOut(BaseModel):
    """The figures of the overview."""

    at: datetime
    connections: dict[str, int]
    sick: list[SickOut]
    backlog: BacklogOut
    delays: DelaysOut
    last_hour: list[SlotOut]
    last_day: list[SlotOut]
    quarantined: int
    handlers: list[HandlerOut]
    expiring: list[ExpiringOut]
    backends: list[BackendOut]
    services: list[ServiceOut]
    absent: list[str]
