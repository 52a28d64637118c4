"""Forwards: where the forwarder passes a handler's events on to, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from shared.forward_kinds import ForwardProtocol, kind_of_scheme


class Format(StrEnum):
    """CloudEvents' modes of content: all in the body, or attributes in header fields."""

    STRUCTURED = "structured"
    BINARY = "binary"


class Links(StrEnum):
    """How a receiver opens mails that go by reference: with the handler's token, or by an address
    that is signed and valid for a short time."""

    TOKEN = "token"  # noqa: S105 (a word of the API)
    SIGNED = "signed"


class ForwardOrder(StrEnum):
    """Whether mails may overtake each other."""

    NONE = "none"
    CONNECTION = "connection"


class RecordKey(StrEnum):
    """Kafka: what has the same key comes to the same partition, in order."""

    CONNECTION = "connection"
    THREAD = "thread"


class SaslMechanism(StrEnum):
    """Kafka: how username and password are shown."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOptions:
    """What is no secret. Sizes in octets, times in seconds. Those of other kinds have their
    default (`ForwardKind.options`)."""

    format: Format = Format.STRUCTURED
    timeout_seconds: int = 10
    concurrency: int = 8
    retry_for_seconds: int = 3 * 86_400
    max_bytes: int = 1_048_576
    links: Links = Links.TOKEN
    order: ForwardOrder = ForwardOrder.NONE
    ca_certificate: str = ""
    subject: str = ""
    topic: str = ""
    key: RecordKey = RecordKey.CONNECTION
    sasl_mechanism: SaslMechanism = SaslMechanism.PLAIN

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """What people may know of a forward. `place`: scheme, host and port of its address."""

    kind: ForwardProtocol
    place: str
    options: ForwardOptions = ForwardOptions()
    header_names: tuple[str, ...] = ()
    credential_names: tuple[str, ...] = ()
    has_secret: bool = False
    has_former_secret: bool = False
    has_client_certificate: bool = False
    paused_at: datetime | None = None
    paused_by: str = ""
    pause_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Secrets as they were given. None: left as it is; an empty one is taken away."""

    address: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    client_certificate: str | None = field(default=None, repr=False)
    credentials: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The endpoint with its secrets opened. `secrets`: the present one, then the former one."""

    kind: ForwardProtocol
    address: str = field(repr=False)
    options: ForwardOptions = ForwardOptions()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    client_certificate: str = field(default="", repr=False)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    link_key: bytes = field(default=b"", repr=False)


def place_of(address: str) -> str:
    """Scheme, host and port: what people may see of an address."""
    parts = urlsplit(address)
    kind = kind_of_scheme(parts.scheme)
    if kind is not None and kind.several:
        return f"{parts.scheme}://{parts.netloc}"
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{parts.port}" if parts.port else "")


def servers_of(address: str) -> list[tuple[str, int]]:
    """Host and port of each server that an address names. Raises ValueError on a bad port."""
    parts = urlsplit(address)
    kind = kind_of_scheme(parts.scheme)
    default = kind.ports[parts.scheme] if kind else 0
    found = []
    for text in parts.netloc.split(","):
        one = urlsplit(f"//{text}")
        found.append((one.hostname or "", one.port or default))
    return found
