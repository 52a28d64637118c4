"""OAuth2 credentials: what a provider knows Posthouse by, reused by many connections.

Pure values and rules, as `shared.connections`: what each provider and grant needs is decided here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainValidator

from shared.errors import InvalidInput
from shared.field_descriptions import LINE, About, Described, Empty, Secret, fields_of
from shared.input_fields import instant
from shared.kinds import Provider as Provider  # the type of a field


class Grant(StrEnum):
    """How a token is had: somebody logs in, or the application acts by itself.

    Google's form of the second is a service account with domain-wide delegation.
    """

    AUTHORIZATION_CODE = "authorization-code"
    CLIENT_CREDENTIALS = "client-credentials"


#: What `Credential.settings` may hold, for clouds that we do not know and gateways of one's own.
#: Certificates stay verified: a private authority is named, not switched off.
SETTINGS: Final[Mapping[str, str]] = {
    "authority": "issuer of the authorisation server, https://host/path (OpenID Connect Discovery)",
    "graph_host": "host or host:port that answers as Microsoft Graph",
    "imap_host": "host or host:port that answers as the provider's IMAP server",
    "pop3_host": "host or host:port that answers as the provider's POP3 server",
    "mailboxes": "addresses and domains that it may be used for, comma separated; empty: all",
    "ca_certificate": "PEM certificates of the private authority that signed for these hosts",
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises InvalidInput on a setting that is not of `SETTINGS` or not of its form."""
    for name, value in settings.items():
        if name not in SETTINGS:
            raise InvalidInput(
                f"A credential has no setting {name!r}.",
                field=f"settings.{name}",
                hint=f"There are: {', '.join(SETTINGS)}.",
            )
        if not isinstance(value, str):
            raise InvalidInput(f"The setting {name!r} is a text.", field=f"settings.{name}")
        if name == "authority" and value:
            parts = urlsplit(value)
            if parts.scheme != "https" or not parts.hostname or parts.query:
                raise InvalidInput("An authority is https://host/path.", field="settings.authority")
        if name.endswith("_host") and (set(value) & set("/@ ?#") or value.count(":") > 1):
            raise InvalidInput(f"{name!r} is host or host:port.", field=f"settings.{name}")
        if name == "ca_certificate" and value and "-----BEGIN CERTIFICATE-----" not in value:
            raise InvalidInput(
                "The private CA is given as PEM certificates.", field="settings.ca_certificate"
            )


def _settings(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidInput("'settings' is an object of texts.", field="settings")
    check_settings(value)
    return value


_Short = Annotated[str, Field(max_length=200), LINE]
_Given = Annotated[str, Field(max_length=65_536), Secret(lines=True)] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """`tenant` is a domain or id in Microsoft Entra; `cloud` a key of `shared.microsoft_clouds`.

    `secret_expires_at` is when the client secret or certificate stops working, where known. The
    secrets themselves are no part of this value (`ClientSecrets`).
    """

    id: int = 0
    name: Annotated[
        str,
        Field(min_length=1, max_length=200),
        LINE,
        BeforeValidator(lambda value: "" if value is None else value),
        About(label="Name"),
    ]
    provider: Annotated[Provider, About(label="Provider")]
    grant: Annotated[Grant, About(label="Access")] = Grant.AUTHORIZATION_CODE
    client_id: Annotated[_Short, Empty(""), About(label="Client id")] = ""
    has_client_secret: bool = False
    has_client_certificate: bool = False
    tenant: Annotated[_Short, Empty(""), About(label="Tenant")] = ""
    cloud: Annotated[
        _Short,
        Empty(""),
        About(label="Cloud", help="global, usgov, usdod, china, bleu, delos, govsg"),
    ] = "global"
    settings: Annotated[
        Mapping[str, str],
        PlainValidator(_settings, json_schema_input_type=dict[str, str]),
        About(help=", ".join(SETTINGS)),
    ] = field(default_factory=dict)
    secret_expires_at: Annotated[
        Annotated[datetime, BeforeValidator(partial(instant, "secret_expires_at"))] | None,
        Empty(),
        About(label="The secret ends on"),
    ] = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def setting(self, name: str) -> str:
        """A setting of `SETTINGS`, empty where it was not given."""
        return str(self.settings.get(name) or "")

    @property
    def needs_login(self) -> bool:
        """Whether somebody must log in at the provider, once a connection."""
        return self.grant is Grant.AUTHORIZATION_CODE


@dataclass(frozen=True, slots=True)
class ClientSecrets:
    """What proves that we are the client, unsealed.

    `client_certificate` is PEM, the private key and its certificate (Microsoft), or the JSON key
    file of a service account (Google).
    """

    client_secret: Annotated[_Given, About(label="Client secret", secret=True)] = field(
        default=None, repr=False
    )
    client_certificate: Annotated[
        _Given,
        About(
            label="Client certificate",
            help="Microsoft: key and certificate instead of a secret as PEM, or a PFX in base64 "
            "(after its password and a colon where it has one); Google: the service account's JSON",
            secret=True,
        ),
    ] = field(default=None, repr=False)


#: What somebody gives of it, by name.
FIELDS: Final[Mapping[str, Described]] = {**fields_of(Credential), **fields_of(ClientSecrets)}
SECRET_FIELDS: Final = frozenset(name for name, one in FIELDS.items() if one.about.secret)


#: The fields in the order of forms; those that are not named follow.
IN_ORDER: Final = (
    *("name", "provider", "grant", "client_id", "client_secret", "client_certificate"),
    *("secret_expires_at", "tenant"),
)
#: A domain or an id: it is a part of the addresses that people and we are sent to.
_TENANT: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]*")
_A_TENANT: Final = "The tenant id or a verified domain, such as contoso.onmicrosoft.com."


def contradictions(credential: Credential) -> Iterator[InvalidInput]:
    """What provider and grant do not allow so."""
    google = credential.provider is Provider.GOOGLE
    service_account = google and not credential.needs_login
    if not service_account and not credential.client_id:
        yield InvalidInput("The client id is missing.", field="client_id")
    if service_account and not credential.has_client_certificate:
        yield InvalidInput(
            "A service account needs its JSON key file.",
            field="client_certificate",
            hint="Google Cloud console, IAM, Service accounts, Keys, Add key, JSON.",
        )
    if not service_account and not (
        credential.has_client_secret or credential.has_client_certificate
    ):
        yield InvalidInput("The client secret is missing.", field="client_secret")
    if google and not service_account and not credential.has_client_secret:
        yield InvalidInput("Google knows clients by a secret only.", field="client_secret")
    one_tenant = not google and not credential.needs_login and not credential.setting("authority")
    if one_tenant and credential.tenant.lower() in ("", "common", "organizations", "consumers"):
        yield InvalidInput(
            "Application access is given by one tenant: name it.",
            field="tenant",
            hint=_A_TENANT,
        )
    elif credential.tenant and not _TENANT.fullmatch(credential.tenant):
        yield InvalidInput(f"{credential.tenant!r} is no tenant.", field="tenant", hint=_A_TENANT)


def service_account_of(text: str) -> dict[str, Any]:
    """The JSON key file of a Google service account. Raises InvalidInput."""
    try:
        info = json.loads(text)
    except ValueError:
        info = None
    needed = {"client_email", "private_key", "token_uri"}
    if not isinstance(info, dict) or info.get("type") != "service_account" or needed - set(info):
        raise InvalidInput(
            "This is not the JSON key file of a Google service account.",
            field="client_certificate",
            hint="Paste the file that Google offered for download when the key was made.",
        )
    return info
