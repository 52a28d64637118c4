"""Webhooks, and what they were sent."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import Out, Text, described
from services.admin.api.schemas.derived import output_of
from services.admin.operations.webhooks import AlertAttempt, LoggedAlert, Webhook
from shared.alerts.kinds import CHOICES

TemplateWord = Literal["json", "slack", "teams", "opsgenie"]
AlertKindWord = Annotated[str, Field(json_schema_extra={"enum": list(CHOICES)})]


@output_of(Webhook)
class WebhookOut(Out):
    """Where alerts go. Its address and secret are never shown."""

    template: TemplateWord
    kinds: list[str] = Field(description="What it is sent; empty: every kind")
    muted_until: datetime | None = Field(description="It is sent nothing before then")


@output_of(AlertAttempt, without=("alert_id",))
class AlertAttemptOut(Out):
    """One attempt to deliver an alert."""


@output_of(LoggedAlert, without=("alert",))
class LoggedAlertOut(Out):
    """One alert, and every attempt to deliver it."""

    id: uuid.UUID
    at: datetime
    kind: str
    subject: str
    open: bool = Field(description="It is still being delivered")
    deliveries: list[AlertAttemptOut]


class WebhookIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text = Field(min_length=1, max_length=200)
    url: str = Field(max_length=2000, description="https://…; never shown again")
    secret: str | None = Field(
        default=None, max_length=500, description="Signs each call; OpsGenie: its API key"
    )
    template: TemplateWord = "json"
    kinds: list[AlertKindWord] = Field(
        default=[],
        description="What it is sent, and the end of these; empty: every kind",
    )
    enabled: bool = True
    muted_until: datetime | None = Field(
        default=None, description="It is sent nothing before then, and nothing of it later"
    )


WebhookBody = described(WebhookIn)
WebhookChanges = described(WebhookIn, partial=True)
