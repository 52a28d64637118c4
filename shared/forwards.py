"""Forwards: where the forwarder passes a handler's events on to, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from shared import fields as typed
from shared.errors import InvalidInput
from shared.webhook_signatures import check_standard_secret


class Kind(StrEnum):
    HTTP = "http"


class Format(StrEnum):
    """CloudEvents' modes of content: all in the body, or attributes in header fields."""

    STRUCTURED = "structured"
    BINARY = "binary"


class Links(StrEnum):
    """How a receiver opens mails that go by reference: with the handler's token, or by an address
    that is signed and valid for a short time."""

    TOKEN = "token"  # noqa: S105 (a word of the API)
    SIGNED = "signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is no secret. Sizes in octets, times in seconds."""

    format: Format = Format.STRUCTURED
    timeout_seconds: int = 10
    concurrency: int = 8
    retry_for_seconds: int = 3 * 86_400
    max_bytes: int = 1_048_576
    links: Links = Links.TOKEN
    ca_certificate: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """What people may know of a forward. `place`: scheme, host and port of its address."""

    kind: Kind
    place: str
    options: Options = Options()
    header_names: tuple[str, ...] = ()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The far side with its secrets opened. `secrets`: the present one, then the former one."""

    kind: Kind
    address: str = field(repr=False)
    options: Options = Options()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    client_certificate: str = field(default="", repr=False)
    link_key: bytes = field(default=b"", repr=False)


_OPTIONS: Final = frozenset(Options.__slots__)
_SECRETS: Final = frozenset({"address", "secret", "headers", "client_certificate"})
FIELDS: Final = _OPTIONS | _SECRETS | {"kind"}
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110 section 5.6.2
#: Fields that HTTP itself or the bindings write.
_OURS: Final = re.compile(
    r"(?i:host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|keep-alive"
    r"|proxy-.*|webhook-.*|ce-.*|accept-encoding)"
)
_MOST_HEADERS: Final = 20


def edit(current: Forward | None, changes: Mapping[str, Any]) -> tuple[Forward, Secrets]:
    """Applies `changes` (field → JSON value) and checks them. Raises InvalidInput, whose field is
    named as `forward.address`."""
    try:
        return _edit(current, changes)
    except InvalidInput as error:
        error.field = f"forward.{error.field}".rstrip(".")
        raise


def stored_options(found: Mapping[str, Any]) -> Options:
    """Options as they were stored; what they lack has its default."""
    return _options(Options(), {n: v for n, v in found.items() if n in _OPTIONS})


def _edit(current: Forward | None, changes: Mapping[str, Any]) -> tuple[Forward, Secrets]:
    typed.only(changes, FIELDS, "forward")
    kind = typed.choice(Kind, changes.get("kind", current.kind if current else Kind.HTTP), "kind")
    secrets = Secrets(
        address=_address(changes.get("address")),
        secret=_secret(changes.get("secret")),
        headers=_headers(changes.get("headers")),
        client_certificate=typed.secret(
            "client_certificate", changes.get("client_certificate"), 65_536, lines=True
        ),
    )
    if current is None:
        if secrets.address is None:
            raise InvalidInput("Where the mails go is missing.", field="address")
        current = Forward(kind=kind, place="")
    place = current.place if secrets.address is None else place_of(secrets.address)
    if place != current.place:
        # What was entered for one server is not shown to another.
        secrets = replace(
            secrets,
            headers=secrets.headers or {},
            client_certificate=secrets.client_certificate or "",
        )
    certificate = secrets.client_certificate
    has_certificate = current.has_client_certificate if certificate is None else bool(certificate)
    if has_certificate and not place.startswith("https:"):
        raise InvalidInput(
            "A client certificate is shown inside TLS only.", field="client_certificate"
        )
    named = current.header_names if secrets.headers is None else tuple(secrets.headers)
    after = replace(
        current,
        kind=kind,
        place=place,
        options=_options(current.options, {n: v for n, v in changes.items() if n in _OPTIONS}),
        header_names=named,
        has_secret=True,
        has_client_certificate=has_certificate,
    )
    return after, secrets


def place_of(address: str) -> str:
    """Scheme, host and port: what people may see of an address."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{parts.port}" if parts.port else "")


def _options(base: Options, given: Mapping[str, Any]) -> Options:
    values: dict[str, Any] = {}
    for name, value in given.items():
        match name:
            case "format":
                values[name] = typed.choice(Format, value, name)
            case "links":
                values[name] = typed.choice(Links, value, name)
            case "timeout_seconds":
                values[name] = typed.whole(name, value, 1, 60)
            case "concurrency":
                values[name] = typed.whole(name, value, 1, 64)
            case "retry_for_seconds":
                values[name] = typed.whole(name, value, 60, 30 * 86_400)
            case "max_bytes":
                values[name] = typed.whole(name, value, 4096, 16 << 20)
            case "ca_certificate":
                values[name] = typed.text(name, value or "", 0, 65_536, lines=True)
    return replace(base, **values)


def _address(value: Any) -> str | None:
    address = typed.secret("address", value, 2000)
    if address is None:
        return None
    address = address.strip()
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise InvalidInput(
            "The address begins with https:// and has no user name in it.", field="address"
        )
    if not address.isascii() or any(c <= " " or c == "#" for c in address):
        raise InvalidInput(
            "The address is made of ASCII, without blanks and without '#'.", field="address"
        )
    return address


def _secret(value: Any) -> str | None:
    secret = typed.secret("secret", value, 200)
    if secret is not None:
        check_standard_secret(secret)
    return secret


def _headers(value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or len(value) > _MOST_HEADERS:
        raise InvalidInput(
            f"'headers' is a mapping of at most {_MOST_HEADERS} names to values.", field="headers"
        )
    for name, text in value.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name) or _OURS.fullmatch(name):
            raise InvalidInput(f"{name!r} is no header field that can be set.", field="headers")
        checked = typed.secret("headers", text, 4096)
        if checked is None or not checked.isascii():
            raise InvalidInput(f"The value of {name} is no ASCII text.", field="headers")
    return {str(name): str(text) for name, text in value.items()}
