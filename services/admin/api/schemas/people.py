"""People, API tokens, the audit log, and webhooks with what they were told."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.parts import Out, Tags, Text, described
from shared.alerts.kinds import CHOICES

RoleWord = Literal["admin", "operator", "viewer"]
TemplateWord = Literal["json", "slack", "teams", "opsgenie"]
AlertKindWord = Annotated[str, Field(json_schema_extra={"enum": list(CHOICES)})]

PARTS = "Sees connections with one of these tags alone, and their mails; empty: all"


class PersonOut(Out):
    """Somebody who may log in. The password is never shown."""

    id: int
    name: str
    email: str
    role: RoleWord
    tags: list[str] = Field(description=PARTS)
    enabled: bool
    has_password: bool
    uses_oidc: bool
    has_second_factor: bool
    created_at: datetime
    last_login_at: datetime | None


class RightsOut(Out):
    """What somebody may, and for which connections."""

    role: RoleWord
    tags: list[str] = Field(description=PARTS)


class TokenOut(Out):
    """A program's way in."""

    id: int
    name: str
    role: RoleWord
    tags: list[str] = Field(description=PARTS)
    now: RightsOut | None = Field(
        description="What it opens at present: no more than whoever made it may. "
        "null: nothing, until somebody takes it over or its maker may log in again"
    )
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    token: str | None = Field(
        default=None, description="Only in the answer that made it: it is stored as a digest"
    )


class AuditEntryOut(Out):
    """One change: only the fields that differ, secrets masked."""

    id: uuid.UUID
    at: datetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPageOut(BaseModel):
    """Newest first; give `next` as `before` to continue."""

    items: list[AuditEntryOut]
    next: uuid.UUID | None


class WebhookOut(Out):
    """Where alerts go. Its address and secret are never shown."""

    id: int
    name: str
    template: TemplateWord
    kinds: list[str] = Field(description="What it is told of; empty: every kind")
    enabled: bool
    muted_until: datetime | None = Field(description="It is told nothing before then")
    has_secret: bool
    created_at: datetime


class AttemptOut(Out):
    webhook_id: int
    webhook: str
    attempted_at: datetime
    status: int | None
    error: str | None


class ToldOut(BaseModel):
    """One alert, and every attempt to tell it."""

    id: uuid.UUID
    at: datetime
    kind: str
    subject: str
    text: str
    open: bool = Field(description="It is still being delivered")
    deliveries: list[AttemptOut]


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
        description="What it is told of, and of the end of these; empty: every kind",
    )
    enabled: bool = True
    muted_until: datetime | None = Field(
        default=None, description="It is told nothing before then, and nothing of it later"
    )


PersonBody = described(PersonIn)
PersonChanges = described(PersonChange, partial=True)
TokenBody = described(TokenIn)
WebhookBody = described(WebhookIn)
WebhookChanges = described(WebhookIn, partial=True)
