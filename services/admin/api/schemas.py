"""What the API answers, and what it takes, as the OpenAPI document shows it.

What it takes is checked by `shared` (`connections.edit`, …), the one place with the rules; the
models here describe it.
"""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from services.admin.api.problems import UserOut

T = TypeVar("T")
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
Mode = Literal["pop3", "imap", "google-imap", "microsoft-imap", "microsoft-graph"]
HealthWord = Literal["working", "failing", "unused", "disabled", "needs-authorisation", "pending"]
#: Texts as Postgres takes them.
_Text = Annotated[str, Field(pattern=r"^[^\u0000-\u001f\u007f]*$")]
START_FROM = (
    '"everything" (all new mails), "now" (only mails that arrive from now on), or a date '
    "(2026-01-31, or with a time): only mails that arrived since"
)


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PageOut(BaseModel, Generic[T]):
    """One page of a list; `total` counts all that match."""

    items: list[T]
    total: int
    page: int
    per_page: int
    counts: dict[str, int] | None = None


class WarningOut(Out):
    """Something to know before relying on it; `serious` ones in red."""

    code: str
    text: str
    serious: bool


class NamedOut(Out):
    id: int
    name: str


class CertificateRef(NamedOut):
    label: str = Field(examples=["Billing (2026)"])


class AuthorisationOut(Out):
    """Who authorised a connection at its OAuth2 provider, and whether that still holds."""

    account: str
    authorised_by: str
    authorised_at: datetime | None
    expires_at: datetime | None
    lost_at: datetime | None
    revoked: bool
    valid: bool


class AuthorizeOut(BaseModel):
    authorization_url: str = Field(description="Open it in the browser that will come back")


class RevokedOut(BaseModel):
    confirmed: bool = Field(description="Whether the provider confirmed; Microsoft never does")


class ConnectionOut(BaseModel):
    """A connection with its health. Secrets are never part of it."""

    id: int
    name: str
    description: str
    mode: Mode
    host: str
    port: int
    security: Literal["tls", "starttls", "none"]
    verify_certificate: bool
    ca_certificate: str | None
    username: str
    has_password: bool
    credential_id: int | None
    interval_minutes: int
    folder: str
    certificate_ids: list[int]
    after_download: Literal["mark-read", "delete"]
    timeout_ms: int
    selection: Literal["unread", "all"]
    shared_mailbox: str | None
    host_override: str | None
    permanent_delete: bool
    enabled: bool
    health: HealthWord
    error: dict[str, Any] | None = Field(
        description="The last failure: code, step, message, hint, log (protocol lines), at"
    )
    failures: int
    next_run_at: datetime | None
    last_success_at: datetime | None
    last_run_at: datetime | None
    last_run_ms: int | None
    new_today: int
    start_since: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    warnings: list[WarningOut] | None = None
    handlers: list[NamedOut] | None = None
    certificates: list[CertificateRef] | None = None
    authorisation: AuthorisationOut | None = None


class EstimateOut(Out):
    """What enabling would download now."""

    new: int
    known: int
    reset: int = Field(description="Handed over before and unread again: not delivered by itself")
    total: int
    unread: int | None
    confidence: Literal["exact", "partial"]
    reason: str


class SavedOut(ConnectionOut):
    """A connection after a change, and in words what the change started."""

    notice: str
    estimate: EstimateOut | None


class StepOut(Out):
    name: str
    title: str
    status: Literal["ok", "failed", "skipped"]
    text: str
    hint: str
    code: str


class CapabilitiesOut(Out):
    read_flag: bool
    folders: bool
    stable_keys: bool
    exact_delete: bool
    push: bool
    names: list[str]


class TestOut(Out):
    """What a test found, step by step."""

    ok: bool
    steps: list[StepOut]
    server: str
    folder: str
    total: int | None
    unread: int | None
    capabilities: CapabilitiesOut | None
    near: list[str]
    warnings: list[WarningOut]
    log: list[str]
    duration_ms: int


class FolderOut(Out):
    name: str
    selectable: bool
    special_use: str | None


class RunOut(Out):
    id: uuid.UUID
    started_at: datetime
    duration_ms: int
    found: int
    downloaded: int
    bytes: int
    error: dict[str, Any] | None


class DayOut(Out):
    day: date
    mails: int
    bytes: int
    failures: int


class CertificateOut(BaseModel):
    """A certificate; its private key is never shown."""

    id: int
    kind: Literal["smime", "openpgp"]
    name: str
    alias: str
    label: str
    subject: str
    issuer: str
    serial: str
    fingerprint: str
    not_before: datetime | None
    not_after: datetime | None
    emails: list[str]
    key_type: str
    uses: int
    used_by: list[UserOut] | None
    created_at: datetime | None
    updated_at: datetime | None


class TrustAnchorOut(Out):
    id: int
    name: str
    subject: str
    fingerprint: str
    not_after: datetime | None
    created_at: datetime


class CredentialOut(BaseModel):
    """An OAuth2 credential; its secrets are never shown."""

    id: int
    name: str
    provider: Literal["google", "microsoft"]
    grant: Literal["authorization-code", "client-credentials"]
    client_id: str
    has_client_secret: bool
    has_client_certificate: bool
    tenant: str
    cloud: str
    settings: dict[str, str]
    secret_expires_at: datetime | None
    redirect_uri: str = Field(description="To be entered at the provider")
    uses: int
    used_by: list[UserOut] | None
    created_at: datetime | None
    updated_at: datetime | None


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
    redis_stream: str
    rabbitmq_queue: str
    queue: QueueOut
    waiting: int = Field(description="Mails that are still to be published to it")
    created_at: datetime | None
    updated_at: datetime | None


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


class MessageOut(Out):
    """A mail as the list shows it."""

    id: uuid.UUID
    connection_id: int
    connection: str
    folder: str
    sequence: int
    size: int
    message_id: str
    sender: str
    recipients: list[str]
    subject: str
    sent_at: datetime | None
    arrived_at: datetime | None
    downloaded_at: datetime
    settled_at: datetime | None
    opened_at: datetime | None
    published_at: datetime | None
    security: dict[str, Any] | None
    state: Literal["waiting", "retrying", "published", "quarantined", "dropped"]


class StopOut(Out):
    at: datetime
    what: Literal["arrived", "downloaded", "settled", "opened", "published", "quarantined"]
    text: str
    detail: dict[str, Any]


class DeliveryOut(Out):
    handler_id: int
    handler: str
    published_at: datetime
    position: str
    repeats: int


class MessageDetailOut(MessageOut):
    """A mail with its whole path."""

    cc: list[str]
    uid_validity: int | None
    native_key: str
    sha256: str
    opened_size: int | None
    opened_sha256: str | None
    attempts: int
    next_attempt_at: datetime | None
    error: str | None
    quarantine: dict[str, Any] | None
    deliveries: list[DeliveryOut]
    path: list[StopOut]


class MessagePageOut(BaseModel):
    """Newest first; give `next` as `before` to continue."""

    items: list[MessageOut]
    next: uuid.UUID | None


class RedeliveredOut(Out):
    count: int
    next: uuid.UUID | None = Field(description="Where more match: repeat with it as `before`")


class QuarantinedOut(Out):
    id: uuid.UUID
    connection_id: int
    connection: str
    folder: str
    code: str
    reason: str
    size: int
    has_raw: bool
    in_ledger: bool
    subject: str
    sender: str
    created_at: datetime


class QuarantinePageOut(BaseModel):
    items: list[QuarantinedOut]
    next: uuid.UUID | None
    total: int


class CountOut(BaseModel):
    count: int


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
    error: dict[str, Any] | None
    failures: int
    last_success_at: datetime | None


class ExpiringOut(Out):
    kind: Literal["certificate", "credential"]
    id: int
    name: str
    expires_at: datetime


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


class ConnectionIn(BaseModel):
    """The fields of a connection. Those that the mode has no use for are refused."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Billing",
                    "mode": "imap",
                    "host": "imap.example.org",
                    "username": "billing@example.org",
                    "password": "correct horse battery staple",
                    "folder": "Main/Invoices",
                }
            ]
        },
    )

    name: _Text = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=2000)
    mode: Mode
    host: _Text | None = Field(default=None, max_length=253, description="pop3, imap")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="pop3, imap; default by mode and security"
    )
    security: Literal["tls", "starttls", "none"] = "tls"
    verify_certificate: bool = True
    ca_certificate: str | None = Field(default=None, max_length=65_536, description="PEM")
    username: _Text = Field(min_length=1, max_length=200)
    password: str | None = Field(
        default=None, max_length=4096, description="pop3, imap; never shown again"
    )
    credential_id: Id | None = Field(default=None, description="The OAuth2 modes")
    interval_minutes: int = Field(default=1, ge=1, le=60)
    folder: _Text = Field(
        default="", max_length=1000, description="Empty: the inbox; / between levels"
    )
    certificate_ids: list[Id] = []
    after_download: Literal["mark-read", "delete"] = "mark-read"
    timeout_ms: int = Field(default=10_000, ge=1, le=60_000)
    selection: Literal["unread", "all"] = "unread"
    shared_mailbox: _Text | None = Field(default=None, max_length=320)
    host_override: _Text | None = Field(default=None, max_length=253)
    permanent_delete: bool = False
    enabled: bool = Field(default=False, description="Needs acknowledged: true as well")


class ConnectionCreate(ConnectionIn):
    acknowledged: bool = Field(
        default=False, description="Mails may be downloaded without counting them first"
    )
    start_from: str | None = Field(default=None, description=START_FROM)


class EnableIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    acknowledged: bool = Field(
        default=False, strict=True, description="The new mails may be downloaded"
    )
    start_from: str | None = Field(default=None, max_length=40, description=START_FROM)


class EstimateIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    start_from: str | None = Field(default=None, max_length=40, description=START_FROM)


class CredentialIn(BaseModel):
    """An OAuth2 credential; secrets are write-only."""

    model_config = ConfigDict(extra="forbid")

    name: _Text = Field(min_length=1, max_length=200)
    provider: Literal["google", "microsoft"]
    grant: Literal["authorization-code", "client-credentials"] = "authorization-code"
    client_id: _Text = Field(default="", max_length=200)
    client_secret: str | None = Field(default=None, max_length=65_536)
    client_certificate: str | None = Field(
        default=None,
        max_length=65_536,
        description="Microsoft: PEM with key and certificate; Google: the service account's JSON",
    )
    tenant: _Text = Field(default="", max_length=200)
    cloud: str = Field(default="global", description="global, usgov, usdod, china")
    settings: dict[str, str] = Field(
        default={}, description="authority, graph_host, imap_host, ca_certificate"
    )
    secret_expires_at: datetime | None = None


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


class RenameIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: _Text = Field(default="", min_length=1, max_length=200)
    alias: _Text = Field(default="", max_length=200)


class RedeliverIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    handlers: list[Id] = Field(default=[], max_length=1000, description="Empty: all that take it")


class RedeliverManyIn(RedeliverIn):
    """A filter as of the list; at least one of its fields is needed."""

    q: str = Field(default="", max_length=1000)
    connection: Id | None = None
    state: Literal["waiting", "retrying", "published", "dropped", "undecrypted"] | None = None
    since: str | None = Field(default=None, max_length=40, description="A date or time")
    until: str | None = Field(default=None, max_length=40, description="A date or time")
    before: uuid.UUID | None = None


class EraseIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: str = Field(min_length=3, max_length=320, description="The person's mail address")


class ErasedOut(Out):
    """How many mails are gone and how many objects of the store were removed or written anew."""

    messages: int
    objects: int
    postponed: int = Field(description="Objects in use right now: call again in a minute")


class EntriesIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: list[uuid.UUID] = Field(min_length=1, max_length=1000)


def _described(model: type[BaseModel], *, partial: bool = False) -> Any:
    """A JSON object that the operations check, described by `model`; `partial` needs nothing."""
    schema = model.model_json_schema()
    if partial:
        schema.pop("required", None)
        schema.pop("examples", None)
        for field in schema["properties"].values():
            field.pop("default", None)
    return Annotated[dict[str, Any], WithJsonSchema(schema)]


ConnectionBody = _described(ConnectionCreate)
ConnectionChanges = _described(ConnectionCreate, partial=True)
TestBody = _described(ConnectionIn)
TestChanges = _described(ConnectionIn, partial=True)
CredentialBody = _described(CredentialIn)
CredentialChanges = _described(CredentialIn, partial=True)
HandlerBody = _described(HandlerIn)
HandlerChanges = _described(HandlerIn, partial=True)
RenameChanges = _described(RenameIn, partial=True)
