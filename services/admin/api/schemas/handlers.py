"""Handlers, their queues and dead letters."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.parts import Id, Out, described


class QueueOut(Out):
    backlog: int
    dead: int
    oldest_at: datetime | None
    checked_at: datetime | None


class HandlerOut(BaseModel):
    """A handler and its queue."""

    id: int
    name: str
    description: str
    enabled: bool
    connections: Literal["all"] | list[int]
    has_token: bool
    token: str | None = Field(
        default=None, description="Only in the answer that made it: it is stored as a digest"
    )
    has_signing_key: bool
    has_former_signing_key: bool = Field(
        description="While the key is renewed: events are signed with both"
    )
    signing_key: str | None = Field(
        default=None, description="Only in the answer that made it: events are signed with it"
    )
    redis_stream: str
    rabbitmq_queue: str
    queue: QueueOut
    waiting: int = Field(description="Mails that are still to be published to it")
    created_at: datetime | None
    updated_at: datetime | None


class BrokerAccountOut(Out):
    """An account of the broker that can consume this handler's queue and nothing else."""

    user: str
    password: str = Field(description="Only in this answer: it is kept nowhere")
    made: bool = Field(description="False where Posthouse may not make it: run the commands")
    commands: list[str]
    note: str


class DeadLetterOut(BaseModel):
    """An event that its handler rejected, or did not manage in too many attempts."""

    event_id: str
    reason: str
    died_at: datetime | None
    deliveries: int
    size: int
    message_id: uuid.UUID | None
    subject: str


class DeadLettersIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event_ids: list[str] | None = Field(
        default=None, max_length=1000, description="Left out: all of them"
    )


class HandlerIn(BaseModel):
    """A named subscription."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "crm", "connections": "all"}]},
    )

    name: str = Field(
        pattern="^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$",
        description="Part of its queue's name; cannot be changed",
    )
    description: str = Field(default="", max_length=2000)
    enabled: bool = True
    connections: Literal["all"] | list[Id] = "all"


HandlerBody = described(HandlerIn)
HandlerChanges = described(HandlerIn, partial=True)
