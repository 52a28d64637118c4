"""An alert that was raised, and how it reaches webhooks."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shared.alerts.base import AlertData, Severity
from shared.clock import time_of


class Template(StrEnum):
    JSON = "json"
    SLACK = "slack"
    TEAMS = "teams"
    OPSGENIE = "opsgenie"


#: A webhook that does not take an alert is tried again after these; then the alert is given up.
RETRY_DELAYS: Final = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One transition that was raised: what it says, and how often it was told."""

    id: uuid.UUID
    data: AlertData
    attempts: int = 0

    @property
    def at(self) -> datetime:
        return time_of(self.id)

    @property
    def kind(self) -> str:
        return self.data.kind

    @property
    def subject(self) -> str:
        return self.data.subject

    @property
    def severity(self) -> Severity:
        return self.data.severity


def retry_delay(attempts: int) -> timedelta | None:
    """How long after the attempt number `attempts` (from 1) comes the next; None: give up."""
    return RETRY_DELAYS[attempts - 1] if attempts <= len(RETRY_DELAYS) else None
