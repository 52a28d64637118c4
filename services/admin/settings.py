"""The settings of the admin service, on top of the shared ones."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from services.admin.oidc_groups_setting import Granted
from shared.settings import Settings

#: Nobody guesses 20 random characters, so logins with it need no lock.
SHORTEST_ADMIN_TOKEN = 20


class AdminSettings(Settings):
    """Where API and pages listen, and who proves people's identity."""

    admin_token: SecretStr | None = Field(
        default=None, description="Bootstrap token with every right, for the first login"
    )
    host: str = Field(
        default="127.0.0.1",
        description="API and pages bind here; :: for every address of IPv4 and IPv6",
    )
    port: int = Field(default=8025, ge=0, le=65535, description="Port of API and pages")
    output_management_url: SecretStr | None = Field(
        default=None,
        description="RabbitMQ's management address, http://user:password@host:15672, of a user "
        "with the tag administrator: with it accounts for handlers' programs are made",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, comma "
        "separated addresses and networks; empty: none, every caller is its own address",
    )
    oidc_issuer: str = Field(
        default="", description="OpenID Connect issuer (https://…) for the login; empty: none"
    )
    oidc_client_id: str = Field(default="", description="Client id at that issuer")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Client secret at that issuer; none for a public client"
    )
    oidc_ca: str | None = Field(
        default=None,
        description="Certificates (PEM) of a private authority that vouches for the issuer",
    )
    oidc_name: str = Field(
        default="single sign-on", description="What the login button calls the issuer"
    )

    oidc_scopes: str = Field(
        default="openid email profile",
        description="What the login asks the issuer for; some need one more to name groups",
    )
    oidc_groups: dict[str, Granted] = Field(
        default={},
        description="Groups of the issuer to roles and tags, in JSON: "
        '{"mail-admins": {"role": "admin"}, "sales": {"role": "viewer", "tags": ["sales"]}}. '
        "Applied at each login; empty: administrators give roles",
    )
    oidc_groups_claim: str = Field(
        default="groups",
        min_length=1,
        description="The claim that names somebody's groups; dots lead into objects "
        "(realm_access.roles)",
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        for network in value:
            ipaddress.ip_network(network)  # a ValueError says which is none
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _is_https(cls, value: str) -> str:
        if value and not value.startswith("https://"):
            raise ValueError("a provider of logins is reached over https://")
        return value

    @field_validator("admin_token")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < SHORTEST_ADMIN_TOKEN:
            raise ValueError(
                f"it has every right, so it has at least {SHORTEST_ADMIN_TOKEN} characters: "
                "`openssl rand -base64 32` makes one"
            )
        return value
