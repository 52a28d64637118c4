"""The settings that every service shares: environment variables with the prefix `POSTHOUSE_`.

A `.env` file in the working directory is read too; a secret may also be given as the path of a
file that holds it (`POSTHOUSE_DATABASE_URL_FILE=/run/secrets/db`), as Kubernetes mounts them.
Each service adds its own in its `settings.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from posthouse.broker_address import SCHEMES, split_sentinels
from shared.errors import InvalidInput

PREFIX = "POSTHOUSE_"
S = TypeVar("S", bound=BaseSettings)


#: What nobody's mail server has: link-local networks and the other addresses where clouds serve
#: their instances' secrets (EC2 over IPv6, GCE over IPv6, Alibaba, Azure's wire server, Oracle).
INSTANCE_SECRETS: Final = (
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
)


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class StoreSettings(BaseSettings):
    """Where the raw mails are, and what opens the bucket."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore")

    store_url: str = Field(
        description="Raw mail: file:///path s3://bucket gs://bucket az://container; a path behind "
        "the bucket is a prefix of all keys"
    )
    store_endpoint: str | None = Field(
        default=None,
        description="Where an S3-compatible store answers, https://host:port, or http:// without "
        "TLS; none: AWS",
    )
    store_addressing: Literal["path", "virtual"] = Field(
        default="path",
        description="S3: path (https://host/bucket) or virtual (https://bucket.host)",
    )
    store_region: str | None = Field(
        default=None, description="S3: the region; none: AWS_REGION, else us-east-1"
    )
    store_access_key: SecretStr | None = Field(
        default=None,
        description="S3: the id of the access key; none: the pod's workload identity, or what AWS' "
        "own variables say",
    )
    store_secret_key: SecretStr | None = Field(
        default=None, description="S3: the secret of that access key"
    )
    store_ca: str | None = Field(
        default=None,
        description="Certificates (PEM) of a private authority that vouches for the store",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        s3 = self.store_url.startswith("s3://")
        if self.store_endpoint and not (
            s3 and urlsplit(self.store_endpoint).scheme in ("http", "https")
        ):
            raise ValueError("STORE_ENDPOINT is https://host:port of a store s3://bucket")
        if (self.store_access_key is None) != (self.store_secret_key is None):
            raise ValueError("STORE_ACCESS_KEY and STORE_SECRET_KEY go together")
        return self


class Settings(StoreSettings):
    """Where the state, the broker, the output queues and the raw mails are."""

    database_url: SecretStr = Field(description="Postgres, postgresql://user:password@host/name")
    prepared_statements: bool = Field(
        default=True,
        description="false where a pooler in front of Postgres works by transaction and does not "
        "keep prepared statements (pgbouncer before 1.21)",
    )
    broker_url: SecretStr = Field(description=f"Jobs: {SCHEMES}")
    output_url: SecretStr | None = Field(
        default=None, description="Handlers' queues, same schemes; default: the broker"
    )
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        description="Keys that seal secrets at rest, comma separated, the first one seals; "
        "each is id:base64 of 32 random octets, or one column's, id/table.column:base64, as "
        "`posthouse secrets keys-of` prints them"
    )
    public_url: str = Field(
        default="http://127.0.0.1:8025",
        description="Where people and handlers reach the API: https://host, without a path",
    )
    max_message_bytes: int = Field(
        default=157_286_400,
        ge=1024,
        description="Octets; a larger mail is listed and left untouched",
    )
    inline_max_bytes: int = Field(
        default=65_536,
        ge=0,
        le=1_048_576,
        description="Octets up to which a raw mail is in its event",
    )
    retention_days: int = Field(
        default=30,
        ge=1,
        description="Days that raw mail and ledger details of published mails stay",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Mail servers that may be contacted, comma separated names (*.example.org) "
        "and networks (10.0.0.0/8); empty: all that are not denied",
    )
    denied_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Mail servers that must not be contacted, in the same form; never are the "
        "link-local networks and the addresses where clouds serve their instances' secrets",
    )
    private_networks: bool = Field(
        default=True,
        description="Whether mail servers, gateways and webhooks in private networks may be "
        "contacted while POSTHOUSE_ALLOWED_HOSTS is empty (10/8, 172.16/12, 192.168/16, "
        "100.64/10, fc00::/7, and this machine)",
    )
    revocation: Literal["off", "background", "require"] = Field(
        default="background",
        description="Whether authorities are asked, in the background, which certificates of "
        "signers they revoked; require: a signature counts only where the last answer, not out of "
        "date, says that nothing is",
    )
    health_host: str = Field(default="127.0.0.1", description="/healthz /readyz /metrics bind here")
    health_port: int = Field(
        default=0, description="Port of /healthz /readyz /metrics; 0: any free one"
    )
    log_level: str = Field(default="INFO", description="DEBUG INFO WARNING ERROR")
    log_format: str = Field(default="json", description="json, or console for people")

    _split = field_validator("secret_keys", "allowed_hosts", "denied_hosts", mode="before")(_listed)

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write it as https://posthouse.example.org")
        if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
            # Addresses of pages and cookies begin at the root of a host.
            raise ValueError(
                "Posthouse needs a host name (or port) of its own: give the address without a "
                "path, and let the proxy in front send that host's whole traffic here"
            )
        return value.rstrip("/")

    @property
    def effective_output_url(self) -> str:
        return (self.output_url or self.broker_url).get_secret_value()

    @property
    def output_place(self) -> str:
        """Where the handlers' queues are, without secrets: scheme, host, port and path.

        With Sentinels the service: who asks one more of them has the same queues.
        """
        parts = urlsplit(self.effective_output_url)
        if sentinels := split_sentinels(self.effective_output_url):
            return f"{parts.scheme}://{sentinels.service}/{sentinels.database}"
        return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}{parts.path}"


class DatabaseSettings(BaseSettings):
    """For commands that need Postgres and nothing else."""

    model_config = Settings.model_config

    database_url: SecretStr = Field(description="Postgres, postgresql://user:password@host/name")


class MigrationSettings(DatabaseSettings):
    """For `migrate`: its own account, which owns the schema, and those of the services."""

    scheduler_database_url: SecretStr | None = Field(
        default=None, description="The address that the scheduler has; none: migrate's own account"
    )
    fetcher_database_url: SecretStr | None = Field(
        default=None, description="The address that the fetcher has"
    )
    decryptor_database_url: SecretStr | None = Field(
        default=None, description="The address that the decryptor has"
    )
    forwarder_database_url: SecretStr | None = Field(
        default=None, description="The address that the forwarder has"
    )
    admin_database_url: SecretStr | None = Field(
        default=None, description="The address that the admin service has"
    )

    def of_services(self) -> dict[str, str]:
        """The addresses that are given, by service."""
        given = {
            "scheduler": self.scheduler_database_url,
            "fetcher": self.fetcher_database_url,
            "decryptor": self.decryptor_database_url,
            "forwarder": self.forwarder_database_url,
            "admin": self.admin_database_url,
        }
        return {name: url.get_secret_value() for name, url in given.items() if url is not None}


class KeySettings(BaseSettings):
    """For commands that need the keys and nothing else."""

    model_config = Settings.model_config

    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode]

    _split = field_validator("secret_keys", mode="before")(_listed)


class OutputSettings(BaseSettings):
    """For commands that only look at the handlers' queues."""

    model_config = Settings.model_config

    broker_url: SecretStr | None = None
    output_url: SecretStr | None = None


def load(kind: type[S], **overrides: Any) -> S:
    """Reads settings from the environment; raises InvalidInput naming the variable at fault."""
    values = dict(overrides)
    for name in kind.model_fields:
        path = os.environ.get(f"{PREFIX}{name.upper()}_FILE")
        if path and name not in values and f"{PREFIX}{name.upper()}" not in os.environ:
            try:
                values[name] = Path(path).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise InvalidInput(
                    f"{PREFIX}{name.upper()}_FILE names {path}, which cannot be read: "
                    f"{error.strerror}.",
                    field=name,
                ) from error
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        raise InvalidInput(
            f"{PREFIX}{name.upper()} is not usable: {first['msg'].removeprefix('Value error, ')}.",
            field=name,
            hint=(kind.model_fields[name].description or "") if name in kind.model_fields else "",
        ) from error
