"""Where a handler's events are passed on to, and how that went."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import Out
from shared.forward_kinds import ForwardProtocol
from shared.forwards import ForwardOrder, RecordKey, SaslMechanism


def _words(kind: type[StrEnum]) -> dict[str, Any]:
    """As the schema says a choice; no reference, as this schema stands inside others."""
    return {"enum": [word.value for word in kind]}


class ForwardIn(BaseModel):
    """Where the forwarder passes the events on to. Fields that are left out keep what they had."""

    model_config = ConfigDict(extra="forbid")

    kind: str | None = Field(
        default=None,
        description="Left out: that of the address",
        json_schema_extra=_words(ForwardProtocol),
    )
    address: str = Field(
        default="",
        max_length=2000,
        description="https://…, tls://…:4222 (NATS) or kafka+ssl://…:9093; kept sealed and never "
        "shown again",
    )
    secret: str = Field(
        default="",
        max_length=200,
        description="whsec_ and base64, as Standard Webhooks has it; left out: one is made",
    )
    headers: dict[str, str] = Field(
        default={}, description="Further header fields, such as Authorization; kept sealed"
    )
    client_certificate: str = Field(
        default="", max_length=65_536, description="PEM with its key; kept sealed"
    )
    credentials: dict[str, str] = Field(
        default={},
        description="A login at NATS (username and password, token, nkey, or creds, the text of a "
        ".creds file) or Kafka (username and password); kept sealed",
    )
    ca_certificate: str = Field(
        default="", max_length=65_536, description="PEM of a private authority; empty: the system's"
    )
    format: Literal["structured", "binary"] = Field(
        default="structured", description="CloudEvents: all in the body, or attributes in headers"
    )
    timeout_seconds: int = Field(default=10, ge=1, le=60)
    concurrency: int = Field(default=8, ge=1, le=64, description="Requests at a time, a forwarder")
    retry_for_seconds: int = Field(
        default=259_200,
        ge=60,
        le=2_592_000,
        description="For so long an event that is not taken is tried again, then it is a dead "
        "letter",
    )
    max_bytes: int = Field(
        default=1_048_576,
        ge=4096,
        le=16_777_216,
        description="An event of more octets goes without the raw mail, by reference",
    )
    links: Literal["token", "signed"] = Field(
        default="token",
        description="What opens a mail that goes by reference: the handler's token, or its address "
        "alone, for a day",
    )
    order: str = Field(
        default=ForwardOrder.NONE.value,
        description="connection: of the mails of one connection one at a time is sent, in order",
        json_schema_extra=_words(ForwardOrder),
    )
    subject: str = Field(default="", max_length=249, description="NATS: the subject of a stream")
    topic: str = Field(default="", max_length=249, description="Kafka")
    key: str = Field(
        default=RecordKey.CONNECTION.value,
        description="Kafka: what has the same stays in one partition",
        json_schema_extra=_words(RecordKey),
    )
    sasl_mechanism: str = Field(
        default=SaslMechanism.PLAIN.value,
        description="Kafka: how username and password are shown",
        json_schema_extra=_words(SaslMechanism),
    )


class ForwardOut(Out):
    """Where a handler's events go, without secrets. `place`: scheme, host and port."""

    kind: str
    place: str
    format: str
    timeout_seconds: int
    concurrency: int
    retry_for_seconds: int
    max_bytes: int
    links: str
    order: str
    subject: str
    topic: str
    key: str
    sasl_mechanism: str
    ca_certificate: str
    header_names: list[str]
    credential_names: list[str]
    has_secret: bool
    has_former_secret: bool = Field(
        description="While the secret is renewed: what is sent is signed with both"
    )
    has_client_certificate: bool
    paused_at: datetime | None
    paused_by: str
    pause_reason: str
    fails: bool = Field(
        description="Events wait that the endpoint did not take, nor did it take the last one"
    )
    secret: str | None = Field(default=None, description="Only in the answer that made it")


class ForwardTestIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    forward: dict[str, Any] | None = Field(
        default=None, description="Instead of what is saved; is not saved"
    )


class TestedForwardOut(BaseModel):
    """How one made-up event was taken."""

    ok: bool
    status: int | None = Field(description="HTTP's; null: no answer came")
    seconds: float
    detail: str
    answer: str = Field(description="The first 1,024 octets of the answer")


class PauseIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=500)


class ForwardAttemptOut(Out):
    """One line of the delivery log."""

    id: int
    event_id: str
    at: datetime
    seconds: float
    outcome: str = Field(description="delivered, failed (tried again), dead or paused")
    status: int | None
    detail: str
    answer: str


class AttemptsOut(BaseModel):
    """Newest first; `next` continues, null at the end."""

    items: list[ForwardAttemptOut]
    next: int | None
