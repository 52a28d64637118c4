"""Certificates, trust anchors, sender keys and revocation lists."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import Text, described
from services.admin.problems import UserOut


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


class TrustAnchorOut(BaseModel):
    """A certificate that signatures are trusted from."""

    id: int
    name: str
    subject: str
    fingerprint: str
    not_after: datetime | None
    certificate: str = Field(description="PEM")
    created_at: datetime


class SenderKeyOut(BaseModel):
    """A sender whose signatures count without a trust anchor."""

    id: int
    kind: Literal["smime", "openpgp"]
    name: str
    subject: str
    emails: list[str]
    fingerprint: str
    not_after: datetime | None
    certificate: str = Field(description="The certificate in PEM, or the OpenPGP key armoured")
    revoked: bool = Field(description="The owner of the OpenPGP key revoked it")
    created_at: datetime


class RevocationListOut(BaseModel):
    """A revocation list of an authority, as it was fetched last."""

    id: int
    issuer_name: str
    address: str = Field(description="Where it is fetched; empty: an administrator gave it")
    octets: int
    as_of: datetime | None = Field(description="When the authority made it")
    next_update: datetime | None = Field(description="Until when it counts")
    fetched_at: datetime | None
    failures: int = Field(description="How often in a row it could not be had")
    error: str


class RenameIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Text = Field(default="", min_length=1, max_length=200)
    alias: Text = Field(default="", max_length=200)


RenameChanges = described(RenameIn, partial=True)
