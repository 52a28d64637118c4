"""What people change of a forward, checked: its address, its options and its secrets, by its kind.

The API, the pages and `posthouse apply` all ask `edit`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from shared import input_fields as typed
from shared.errors import InvalidInput
from shared.forward_kinds import KINDS, ForwardKind, ForwardProtocol, kind_of_scheme
from shared.forwards import (
    Format,
    Forward,
    ForwardOptions,
    ForwardOrder,
    Links,
    RecordKey,
    SaslMechanism,
    Secrets,
    place_of,
    servers_of,
)
from shared.webhook_signatures import check_standard_secret

_OPTIONS: Final = frozenset(ForwardOptions.__slots__)
SECRETS: Final = frozenset({"address", "secret", "headers", "client_certificate", "credentials"})
#: Options that some kinds have.
_SPECIAL: Final = frozenset(name for kind in KINDS.values() for name in kind.options)
FIELDS: Final = _OPTIONS | SECRETS | {"kind"}
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110 section 5.6.2
#: Fields that HTTP itself or the bindings write.
_OURS: Final = re.compile(
    r"(?i:host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|keep-alive"
    r"|proxy-.*|webhook-.*|ce-.*|accept-encoding)"
)
_MOST_HEADERS: Final = 20
_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]+")


def edit(current: Forward | None, changes: Mapping[str, Any]) -> tuple[Forward, Secrets]:
    """Applies `changes` (field → JSON value) and checks them. Raises InvalidInput, whose field is
    named as `forward.address`."""
    try:
        return _edit(current, changes)
    except InvalidInput as error:
        error.field = f"forward.{error.field}".rstrip(".")
        raise


def stored_options(found: Mapping[str, Any]) -> ForwardOptions:
    """Options as they were stored; what they lack has its default."""
    return _options(ForwardOptions(), {n: v for n, v in found.items() if n in _OPTIONS})


def _edit(current: Forward | None, changes: Mapping[str, Any]) -> tuple[Forward, Secrets]:
    typed.only(changes, FIELDS, "forward")
    word = _kind(current, changes)
    kind = KINDS[word]
    secrets = Secrets(
        address=_address(kind, changes.get("address")),
        secret=_secret(changes.get("secret")),
        headers=_headers(changes.get("headers")),
        client_certificate=typed.secret(
            "client_certificate", changes.get("client_certificate"), 65_536, lines=True
        ),
        credentials=_credentials(kind, changes.get("credentials")),
    )
    if secrets.address is None and (current is None or current.kind is not word):
        raise InvalidInput("Where the mails go is missing.", field="address")
    current = current or Forward(kind=word, place="")
    place = current.place if secrets.address is None else place_of(secrets.address)
    if place != current.place:
        # What was entered for one server is not shown to another.
        secrets = replace(
            secrets,
            headers=secrets.headers or {},
            client_certificate=secrets.client_certificate or "",
            credentials=secrets.credentials or {},
        )
    _fits(kind, secrets)
    certificate = secrets.client_certificate
    has_certificate = current.has_client_certificate if certificate is None else bool(certificate)
    if has_certificate and not place.startswith(f"{kind.tls}:"):
        raise InvalidInput(
            "A client certificate is shown inside TLS only.", field="client_certificate"
        )
    headers = current.header_names if secrets.headers is None else tuple(secrets.headers)
    login = current.credential_names if secrets.credentials is None else tuple(secrets.credentials)
    base = current.options if current.kind is word else _of_every_kind(current.options)
    after = replace(
        current,
        kind=word,
        place=place,
        options=_options(base, {n: v for n, v in changes.items() if n in _OPTIONS}),
        header_names=headers,
        credential_names=login,
        has_secret=current.has_secret or kind.signs,
        has_client_certificate=has_certificate,
    )
    _check_options(kind, after.options)
    return after, secrets


def _kind(current: Forward | None, changes: Mapping[str, Any]) -> ForwardProtocol:
    """The one that is named, else that of the address."""
    if changes.get("kind") is not None:
        return typed.choice(ForwardProtocol, changes["kind"], "kind")
    address = changes.get("address")
    known = kind_of_scheme(address.strip().partition(":")[0]) if isinstance(address, str) else None
    if known is not None:
        return known.kind
    return current.kind if current else ForwardProtocol.HTTP


def _of_every_kind(options: ForwardOptions) -> ForwardOptions:
    plain = ForwardOptions()
    return replace(options, **{name: getattr(plain, name) for name in _SPECIAL})


def _fits(kind: ForwardKind, secrets: Secrets) -> None:
    if secrets.secret and not kind.signs:
        raise InvalidInput(f"Nothing is signed on its way to {kind.title}.", field="secret")
    if secrets.headers and not kind.has_headers:
        raise InvalidInput(f"{kind.title} takes no header fields.", field="headers")


def _check_options(kind: ForwardKind, options: ForwardOptions) -> None:
    plain = ForwardOptions()
    for name in sorted(_SPECIAL.difference(kind.options)):
        if getattr(options, name) != getattr(plain, name):
            raise InvalidInput(f"{kind.title} has no {name!r}.", field=name)
    if kind.needed and not getattr(options, kind.needed):
        raise InvalidInput(f"The {kind.needed} is missing.", field=kind.needed)


def _options(base: ForwardOptions, given: Mapping[str, Any]) -> ForwardOptions:
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
            case "order":
                values[name] = typed.choice(ForwardOrder, value, name)
            case "key":
                values[name] = typed.choice(RecordKey, value, name)
            case "sasl_mechanism":
                values[name] = typed.choice(SaslMechanism, value, name)
            case "subject":
                values[name] = _name(name, value, _SUBJECT, "words of letters, joined by dots")
            case "topic":
                values[name] = _name(name, value, _TOPIC, "letters, digits, '.', '_' and '-'")
            case "ca_certificate":
                values[name] = typed.text(name, value or "", 0, 65_536, lines=True)
    return replace(base, **values)


def _name(name: str, value: Any, form: re.Pattern[str], made_of: str) -> str:
    found = typed.text(name, value or "", 0, 249)
    if found and not form.fullmatch(found):
        raise InvalidInput(f"A {name} is made of {made_of}.", field=name)
    return found


def _address(kind: ForwardKind, value: Any) -> str | None:
    address = typed.secret("address", value, 2000)
    if address is None:
        return None
    address = address.strip()
    try:
        parts = urlsplit(address)
        servers = servers_of(address)
        if not kind.several:
            _ = parts.port  # as it names one server
    except ValueError:
        parts, servers = urlsplit(""), []
    if (
        parts.scheme not in kind.ports
        or not all(host for host, _ in servers)
        or "@" in parts.netloc
    ):
        schemes = " or ".join(f"{scheme}://" for scheme in kind.ports)
        raise InvalidInput(
            f"The address begins with {schemes} and has no user name in it.", field="address"
        )
    if not address.isascii() or any(c <= " " or c == "#" for c in address):
        raise InvalidInput(
            "The address is made of ASCII, without blanks and without '#'.", field="address"
        )
    if kind.several and (parts.path.strip("/") or parts.query):
        raise InvalidInput("The address names servers, and nothing behind them.", field="address")
    return address


def _credentials(kind: ForwardKind, value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInput("'credentials' is a mapping of names to values.", field="credentials")
    found = {
        str(name): typed.secret("credentials", text, 16_384, lines=True) or ""
        for name, text in value.items()
    }
    found = {name: text for name, text in found.items() if text}
    if found and frozenset(found) not in kind.credentials:
        ways = ", or ".join(" and ".join(sorted(one)) for one in kind.credentials) or "nothing"
        raise InvalidInput(f"{kind.title} takes {ways}.", field="credentials")
    return found


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
