"""People, API tokens, the audit log, and webhooks with what they were sent."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import Out, Tags, Text, described
from services.admin.api.schemas.derived import output_of
from services.admin.operations.people import Entry
from services.admin.operations.webhooks import Delivery, LoggedAlert, Webhook
from shared.alerts.kinds import CHOICES
from shared.people import ApiToken, Person, Rights

RoleWord = Literal["admin", "operator", "viewer"]
TemplateWord = Literal["json", "slack", "teams", "opsgenie"]
AlertKindWord = Annotated[str, Field(json_schema_extra={"enum": list(CHOICES)})]

PARTS = "Sees connections with one of these tags alone, and their mails; empty: all"


@output_of(Person)
class PersonOut(Out):
    """Somebody who may log in. The password is never shown."""

    role: RoleWord
    tags: list[str] = Field(description=PARTS)
    groups: list[str] = Field(
        description="Groups of the login provider that gave role and tags at the last login; "
        "empty: an administrator did"
    )
    without_group: bool = Field(
        description="None of their groups gave rights at the last login, so they may not log in "
        "until one does, or `enabled` is set"
    )


@output_of(Rights)
class RightsOut(Out):
    """What somebody may, and for which connections."""

    role: RoleWord
    tags: list[str] = Field(description=PARTS)


@output_of(ApiToken)
class TokenOut(Out):
    """A program's way in."""

    role: RoleWord
    tags: list[str] = Field(description=PARTS)
    now: RightsOut | None = Field(
        description="What it opens at present: no more than whoever made it may. "
        "null: nothing, until somebody takes it over or its maker may log in again"
    )
    token: str | None = Field(
        default=None, description="Only in the answer that made it: it is stored as a digest"
    )


@output_of(Entry)
class AuditEntryOut(Out):
    """One change: only the fields that differ, secrets masked."""

    at: datetime


class AuditPageOut(BaseModel):
    """Newest first; give `next` as `before` to continue."""

    items: list[AuditEntryOut]
    next: uuid.UUID | None


@output_of(Webhook)
class WebhookOut(Out):
    """Where alerts go. Its address and secret are never shown."""

    template: TemplateWord
    kinds: list[str] = Field(description="What it is sent; empty: every kind")
    muted_until: datetime | None = Field(description="It is sent nothing before then")


@output_of(Delivery, without=("alert_id",))
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


class PersonIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text = Field(min_length=1, max_length=100)
    email: Text = Field(default="", max_length=320)
    role: RoleWord = "viewer"
    tags: Tags = Field(default=[], description=PARTS)
    password: str | None = Field(default=None, description="Never shown again")


class PersonChange(PersonIn):
    enabled: bool = True


class TokenIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text = Field(min_length=1, max_length=100)
    role: RoleWord = "viewer"
    tags: Tags = Field(default=[], description=PARTS)
    days: int | None = Field(default=None, ge=1, le=3650, description="Left out: without an end")


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


PersonBody = described(PersonIn)
PersonChanges = described(PersonChange, partial=True)
TokenBody = described(TokenIn)
WebhookBody = described(WebhookIn)
WebhookChanges = described(WebhookIn, partial=True)
