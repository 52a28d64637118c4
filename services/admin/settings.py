"""The settings of the admin service, on top of the shared ones."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.settings import Settings


class AdminSettings(Settings):
    """Where API and pages listen, and who proves people's identity."""

    host: str = Field(default="127.0.0.1", description="API and pages bind here")
    port: int = Field(default=8025, ge=0, le=65535, description="Port of API and pages")
    oidc_issuer: str = Field(
        default="", description="OpenID Connect issuer (https://…) for the login; empty: none"
    )
    oidc_client_id: str = Field(default="", description="Client id at that issuer")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Client secret at that issuer; none for a public client"
    )
    oidc_name: str = Field(
        default="single sign-on", description="What the login button calls the issuer"
    )
