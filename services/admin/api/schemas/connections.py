"""Connections, and what is found out about their mailboxes."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.made import giving, showing
from services.admin.api.schemas.parts import NamedOut, Out, described
from services.admin.operations.connections import ConnectionStatus
from shared.connections import Connection, ConnectionEdit, Failure

START_FROM = (
    '"everything" (all new mails), "now" (only mails that arrive from now on), or a date '
    "(2026-01-31, or with a time): only mails that arrived since"
)


class WarningOut(Out):
    """Something to know before relying on it; `serious` ones in red."""

    code: str
    text: str
    serious: bool


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


@showing(Connection, ConnectionStatus, without=("skip_existing",))
class ConnectionOut(BaseModel):
    """A connection with its health. Secrets are never part of it."""

    warnings: list[WarningOut] | None = None
    handlers: list[NamedOut] | None = None
    certificates: list[CertificateRef] | None = None
    authorisation: AuthorisationOut | None = None


class EstimateOut(Out):
    """What enabling would download now."""

    new: int
    known: int
    reset: int = Field(description="Handed over before and unread again: not delivered by itself")
    left: int = Field(description="In quarantine and never downloaded: over the limit, say")
    total: int
    unread: int | None
    confidence: Literal["exact", "partial"]
    reason: str
    warnings: list[WarningOut] = Field(
        default=[], description="What the server itself said that should be known before"
    )


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
    dates: bool = Field(description="Mails can be chosen by date")
    expires_days: int | None = Field(
        description="POP3: days that a retrieved mail stays (EXPIRE); 0: it goes at once"
    )
    window: bool = Field(
        description="POP3: only the oldest mails that were not retrieved yet are listed (Gmail)"
    )
    login_delay: float = Field(description="POP3: seconds between two logins (LOGIN-DELAY)")
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


class DoctorRowOut(Out):
    """A form of request, and what the server made of it."""

    form: str = Field(examples=["UID FETCH set (UID BODY.PEEK[])"])
    title: str
    verdict: Literal["understood", "refused", "unanswered", "not-asked"]
    meaning: str = Field(description="What it means for Posthouse")
    words: str = Field(description="The server's last words")
    milliseconds: int | None = Field(description="The longest that one took")
    times: int


class DoctorOut(Out):
    """What the doctor found: every form of request that a run may send, sent once."""

    mode: str
    healthy: bool = Field(description="Everything that was asked was understood")
    server: str
    folder: str
    capabilities: list[str]
    rows: list[DoctorRowOut]
    sentences: list[str]
    duration_ms: int
    recording: str | None = Field(
        description="JSON text, where asked for: names, addresses, ids, tokens and mails replaced"
    )


class DoctorIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    record: bool = Field(default=False, strict=True, description="With a recording")


class SavedOut(ConnectionOut):
    """A connection after a change, and in words what the change started."""

    notice: str
    estimate: EstimateOut | None
    access: TestOut | None = Field(
        default=None,
        description="What the test found, where a credential with application access was chosen "
        "or what it shall open was changed",
    )


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
    error: Failure | None


class DayOut(Out):
    day: date
    mails: int
    bytes: int
    failures: int


@giving(Connection, ConnectionEdit)
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


ConnectionBody = described(ConnectionCreate)
ConnectionChanges = described(ConnectionCreate, partial=True)
TestBody = described(ConnectionIn)
TestChanges = described(ConnectionIn, partial=True)
