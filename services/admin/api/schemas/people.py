"""People, API tokens and the audit log."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import Out, Tags, Text, described
from services.admin.api.schemas.derived import output_of
from services.admin.operations.people import Entry
from shared.people import ApiToken, Person, Rights

RoleWord = Literal["admin", "operator", "viewer"]

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


PersonBody = described(PersonIn)
PersonChanges = described(PersonChange, partial=True)
TokenBody = described(TokenIn)
