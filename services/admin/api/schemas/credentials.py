"""OAuth2 credentials."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import described
from services.admin.api.schemas.derived import input_of, output_of
from services.admin.problems import UserOut
from shared.credentials import ClientSecrets, Credential


@output_of(Credential)
class CredentialOut(BaseModel):
    """An OAuth2 credential; its secrets are never shown."""

    redirect_uri: str = Field(description="To be entered at the provider")
    admin_consent_url: str = Field(
        default="",
        description="Where an administrator of the tenant consents (Microsoft); the browser comes "
        "back to the redirect address",
    )
    redirect_problem: str = Field(
        default="", description="Why the provider will not take the redirect address, if so"
    )
    uses: int
    used_by: list[UserOut] | None


@input_of(Credential, ClientSecrets)
class CredentialIn(BaseModel):
    """An OAuth2 credential; secrets are write-only."""

    model_config = ConfigDict(extra="forbid")


CredentialBody = described(CredentialIn)
CredentialChanges = described(CredentialIn, partial=True)
