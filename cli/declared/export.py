"""What there is, written down as `posthouse apply` reads it; without any secret."""

from __future__ import annotations

import re
from typing import Any

import yaml

from cli.client import Api
from cli.declared.trust import exported
from shared.connection_editing import FIELDS_OF
from shared.connections import Connection, Mode, TransportSecurity
from shared.forwards import ForwardOptions
from shared.untrusted_text import escaped, shown

_HEAD = """\
# Written by `posthouse export`. Secrets are not in here: passwords are named as variables of the
# environment, certificates by their fingerprint (keys cannot be exported).
"""


def export(api: Api) -> str:
    """The YAML document; applied to the same Posthouse it changes nothing."""
    credentials = sorted(api.get("credentials")["items"], key=_order)
    certificates = sorted(api.every("certificates"), key=_order)
    connections = sorted(api.every("connections"), key=_order)
    handlers = sorted(api.get("handlers")["items"], key=_order)
    names = {
        "credentials": {item["id"]: item["name"] for item in credentials},
        "certificates": {item["id"]: item["name"] for item in certificates},
        "connections": {item["id"]: item["name"] for item in connections},
    }
    document = {
        "version": 1,
        "credentials": [_credential(item) for item in credentials],
        "certificates": [_certificate(item) for item in certificates],
        "trust_anchors": exported(sorted(api.get("trust-anchors"), key=_order)),
        "senders": exported(sorted(api.get("sender-keys"), key=_order)),
        "connections": [_connection(item, names) for item in connections],
        "handlers": [_handler(item, names["connections"]) for item in handlers],
        "people": [_person(item) for item in sorted(api.get("people")["items"], key=_order)],
        "webhooks": [_webhook(item) for item in sorted(api.get("webhooks")["items"], key=_order)],
    }
    kept = {name: value for name, value in document.items() if value}
    return _HEAD + written(kept)


class _Dumper(yaml.SafeDumper):
    """Quotes what a terminal would obey (names of certificates come from strangers), so that it can
    be escaped; YAML lets characters that turn text around (Bidi_Control) stand as they are."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = None if shown(data) == data else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def written(document: Any) -> str:
    """A value as YAML that reads back as it is, and is harmless in a terminal."""
    return escaped(
        yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=100)
    )


def _credential(item: dict[str, Any]) -> dict[str, Any]:
    entry = {"name": item["name"], "provider": item["provider"], "grant": item["grant"]}
    defaults = {"client_id": "", "tenant": "", "cloud": "global", "settings": {}}
    entry |= {name: item[name] for name in defaults if item[name] != defaults[name]}
    if item["secret_expires_at"]:
        entry["secret_expires_at"] = item["secret_expires_at"]
    for secret in ("client_secret", "client_certificate"):
        if item[f"has_{secret}"]:
            entry[secret] = _variable(item["name"], secret)
    return entry


def _certificate(item: dict[str, Any]) -> dict[str, Any]:
    return {"name": item["name"], "alias": item["alias"], "fingerprint": item["fingerprint"]}


def _connection(item: dict[str, Any], names: dict[str, dict[int, str]]) -> dict[str, Any]:
    """Fields that have their default are left out."""
    mode = Mode(item["mode"])
    plain = Connection(name="", mode=mode)
    entry: dict[str, Any] = {"name": item["name"], "mode": item["mode"]}
    for name in (field for field in Connection.__slots__ if field in FIELDS_OF[mode]):
        if name in ("name", "mode", "credential_id", "certificate_ids", "has_client_certificate"):
            continue
        default = getattr(plain, name)
        if name == "port":
            default = plain.kind.ports.get(TransportSecurity(item["security"]))
        if isinstance(default, tuple):
            default = list(default)
        if item[name] != default or name == "enabled":
            entry[name] = item[name]
    if item["has_password"]:
        entry["password"] = _variable(item["name"], "password")
    if item["has_client_certificate"]:
        entry["client_certificate"] = _variable(item["name"], "client_certificate")
    if item["credential_id"]:
        entry["credential"] = names["credentials"][item["credential_id"]]
    if item["certificate_ids"]:
        entry["certificates"] = sorted(
            (names["certificates"][i] for i in item["certificate_ids"]), key=str.casefold
        )
    return entry


def _handler(item: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": item["name"]}
    if item["description"]:
        entry["description"] = item["description"]
    if not item["enabled"]:
        entry["enabled"] = False
    rules = {name: value for name, value in item["rules"].items() if value}
    entry |= {"rules": rules} if rules else {}
    for name in ("group", "position"):
        entry |= {name: item[name]} if item[name] else {}
    if item["forward"]:
        entry["forward"] = _forward(item)
    taken = item["connections"]
    entry["connections"] = (
        "all" if taken == "all" else sorted((names[i] for i in taken), key=str.casefold)
    )
    return entry


def _forward(item: dict[str, Any]) -> dict[str, Any]:
    """Its options that are not the default; its address is a secret too."""
    forward, plain = item["forward"], ForwardOptions().to_json()
    entry: dict[str, Any] = {
        "kind": forward["kind"],
        "address": _variable(item["name"], "forward_address"),
    }
    entry |= {name: forward[name] for name in plain if forward[name] != plain[name]}
    for field, names in (("header", "header_names"), ("credential", "credential_names")):
        if forward[names]:
            entry[f"{field}s"] = {
                name: _variable(item["name"], f"forward_{field}_{name}") for name in forward[names]
            }
    if forward["has_client_certificate"]:
        entry["client_certificate"] = _variable(item["name"], "forward_client_certificate")
    return entry


def _person(item: dict[str, Any]) -> dict[str, Any]:
    entry = {"name": item["name"]}
    entry |= {name: item[name] for name in ("email", "role", "tags") if item[name]}
    entry |= {} if item["enabled"] else {"enabled": False}
    if item["has_password"]:
        entry["password"] = _variable(item["name"], "password")
    return entry


def _webhook(item: dict[str, Any]) -> dict[str, Any]:
    """Its address is a secret too."""
    entry = {"name": item["name"], "url": _variable(item["name"], "webhook_url")}
    if item["has_secret"]:
        entry["secret"] = _variable(item["name"], "webhook_secret")
    entry["template"] = item["template"]
    entry |= {"kinds": item["kinds"]} if item["kinds"] else {}
    entry |= {} if item["enabled"] else {"enabled": False}
    return entry


def _variable(name: str, secret: str) -> str:
    words = [re.sub(r"[^A-Z0-9]+", "_", text.upper()) for text in (name, secret)]
    return f"env:{words[0].strip('_') or 'UNNAMED'}_{words[1]}"


def _order(item: dict[str, Any]) -> str:
    return str(item["name"]).casefold()
