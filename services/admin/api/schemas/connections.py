"""Connections, and what is found out about their mailboxes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import NamedOut, Out, described
from services.admin.api.schemas.derived import input_of, output_of
from services.admin.operations.authorisation_links import (
    MOST_DAYS,
    VALID_DAYS,
    AuthorisationLink,
)
from services.admin.operations.connection_tests import ConnectionTestReport, Step
from services.admin.operations.connection_views import (
    Authorisation,
    ConnectionStatus,
    Day,
    RecordedRun,
)
from services.admin.operations.connection_warnings import ConnectionWarning
from services.admin.operations.estimates import Estimate
from shared.connection_editing import ConnectionEdit
from shared.connections import Connection
from shared.mailbox.base import Capabilities, Folder
from shared.mailbox.doctor.reporting import DoctorReport, FormResult

START_FROM = (
    '"everything" (all new mails), "now" (only mails that arrive from now on), or a date '
    "(2026-01-31, or with a time): only mails that arrived since"
)


@output_of(ConnectionWarning)
class WarningOut(Out):
    """Something to know before relying on it; `serious` ones in red."""


class CertificateRef(NamedOut):
    label: str = Field(examples=["Billing (2026)"])


@output_of(Authorisation, without=("connection_id", "grant_ends_at"))
class AuthorisationOut(Out):
    """Who authorised a connection at its OAuth2 provider, and whether that still holds."""

    valid: bool


class AuthorizeOut(BaseModel):
    authorization_url: str = Field(description="Open it in the browser that will come back")


@output_of(AuthorisationLink)
class AuthorisationLinkOut(Out):
    """A link with which the owner of the mailbox authorises it, without its address."""

    state: Literal["open", "used", "expired", "revoked"]
    created_by: str = Field(description="Who made it")
    account: str = Field(description="Who logged in with it")


class MadeLinkOut(AuthorisationLinkOut):
    url: str = Field(description="To be sent to the owner: it is stored as a digest only")


class LinkIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    days: int = Field(
        default=VALID_DAYS, ge=1, le=MOST_DAYS, strict=True, description="How long it is good for"
    )


class RevokedOut(BaseModel):
    confirmed: bool = Field(description="Whether the provider confirmed; Microsoft never does")


@output_of(Connection, ConnectionStatus, without=("skip_existing",))
class ConnectionOut(BaseModel):
    """A connection with its health. Secrets are never part of it."""

    warnings: list[WarningOut] | None = None
    handlers: list[NamedOut] | None = None
    certificates: list[CertificateRef] | None = None
    authorisation: AuthorisationOut | None = None


@output_of(Estimate)
class EstimateOut(Out):
    """What enabling would download now."""

    reset: int = Field(description="Handed over before and unread again: not delivered by itself")
    left: int = Field(description="In quarantine and never downloaded: over the limit, say")
    confidence: Literal["exact", "partial"]
    warnings: list[WarningOut] = Field(
        default=[], description="What the server itself said that should be known before"
    )


@output_of(Step)
class StepOut(Out):
    status: Literal["ok", "failed", "skipped"]


@output_of(Capabilities, without=("keeps_open", "settles_by_ending"))
class CapabilitiesOut(Out):
    dates: bool = Field(description="Mails can be chosen by date")
    expires_days: int | None = Field(
        description="POP3: days that a retrieved mail stays (EXPIRE); 0: it goes at once"
    )
    window: bool = Field(
        description="POP3: only the oldest mails that were not retrieved yet are listed (Gmail)"
    )
    login_delay: float = Field(description="POP3: seconds between two logins (LOGIN-DELAY)")


@output_of(ConnectionTestReport)
class TestOut(Out):
    """What a test found, step by step."""

    steps: list[StepOut]
    capabilities: CapabilitiesOut | None
    warnings: list[WarningOut]


@output_of(FormResult)
class DoctorRowOut(Out):
    """A form of request, and what the server made of it."""

    form: str = Field(examples=["UID FETCH set (UID BODY.PEEK[])"])
    verdict: Literal["understood", "refused", "unanswered", "not-asked"]
    meaning: str = Field(description="What it means for Posthouse")
    words: str = Field(description="The server's last words")
    milliseconds: int | None = Field(description="The longest that one took")


@output_of(DoctorReport)
class DoctorOut(Out):
    """What the doctor found: every form of request that a run may send, sent once."""

    healthy: bool = Field(description="Everything that was asked was understood")
    rows: list[DoctorRowOut]
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


@output_of(Folder)
class FolderOut(Out):
    """A folder as the server lists it now."""


@output_of(RecordedRun)
class RunOut(Out):
    started_at: datetime


@output_of(Day)
class DayOut(Out):
    """What the runs of one day (UTC) brought."""


@input_of(Connection, ConnectionEdit)
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
