"""A connection of the file, beside the one that there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from cli.arguments import read_reference
from cli.declared.changes import Change, Difference
from cli.declared.document import ConnectionEntry
from cli.declared.existing import HIDDEN, Existing, compare
from cli.declared.validation import connection_of
from shared.connection_editing import FIELDS_OF, SECRET_FIELDS
from shared.errors import InvalidInput

#: A password is given again where one of these changes.
_SERVER: Final = frozenset(
    {"host", "port", "security", "verify_certificate", "ca_certificate", "mode"}
)


def planned(existing: Existing, entry: ConnectionEntry) -> Change | None:
    there = existing.items["connections"].get(entry.name.casefold())
    wanted = _fields(existing, entry)
    given = {name: wanted[name] for name in wanted if name != "enabled"}
    differences = compare(there, given)
    names = sorted(entry.certificates, key=str.casefold)
    before = [] if there is None else existing.names("certificates", there["certificate_ids"])
    if [n.casefold() for n in names] != [n.casefold() for n in before]:
        differences.append(Difference("certificates", before, names))
    credential = there and there["credential_id"]
    now = existing.names("credentials", [credential])[0] if credential else None
    if (entry.credential or "").casefold() != (now or "").casefold():
        differences.append(Difference("credential", now, entry.credential))
    enabled = bool(there and there["enabled"])
    if entry.enabled is not None and entry.enabled != enabled:
        differences.append(Difference("enabled", enabled, entry.enabled))
    if _needs_password(existing, entry, there, differences):
        differences.append(Difference("password", None, HIDDEN))
    if _needs_certificate(existing, entry, there):
        differences.append(Difference("client_certificate", None, HIDDEN))

    def body(fields: set[str]) -> dict[str, Any]:
        found = {n: wanted[n] for n in fields if n in wanted}
        if "certificates" in fields:
            found["certificate_ids"] = [existing.id("certificates", n) for n in names]
        if "credential" in fields:
            named = entry.credential
            found["credential_id"] = existing.id("credentials", named) if named else None
        if "password" in fields:
            found["password"] = existing.secret(entry.password, "password")
        if "client_certificate" in fields:
            found["client_certificate"] = existing.secret(
                entry.client_certificate, "client_certificate"
            )
        if "enabled" in fields:
            found["enabled"] = entry.enabled
        acknowledged = existing.acknowledge or entry.acknowledged
        found |= {"acknowledged": True} if acknowledged else {}
        if entry.start_from is not None and (there is None or "enabled" in fields):
            found["start_from"] = entry.start_from
        return found

    secrets = {n: getattr(entry, n) for n in ("password", "client_certificate")}
    check = existing.reads_secrets(secrets, differences)
    return existing.change("connections", entry.name, there, differences, body, check)


def _fields(existing: Existing, entry: ConnectionEntry) -> dict[str, Any]:
    """Every field that the mode has, checked by the rules, as the API shows it."""
    given = entry.model_dump()
    if str(given["ca_certificate"] or "").startswith("file:"):
        given["ca_certificate"] = read_reference(
            given["ca_certificate"], "ca_certificate", existing.folder
        )
    try:
        checked = connection_of(given)
    except InvalidInput as error:
        raise InvalidInput(
            f"connections {entry.name!r}, {error.field}: {error}",
            field=error.field,
            hint=error.hint,
        ) from error
    fields = FIELDS_OF[checked.mode] - {*SECRET_FIELDS, "credential_id", "certificate_ids"}
    found = {n: v for n, v in dataclasses.asdict(checked).items() if n in fields}
    plain = {n: list(v) if isinstance(v, tuple) else v for n, v in found.items()}
    return {n: str(v) if isinstance(v, str) else v for n, v in plain.items()}


def _needs_password(
    existing: Existing,
    entry: ConnectionEntry,
    there: Mapping[str, Any] | None,
    differences: list[Difference],
) -> bool:
    if entry.password is None:
        return False
    moved = any(d.field in _SERVER for d in differences)
    return there is None or existing.all_secrets or not there["has_password"] or moved


def _needs_certificate(
    existing: Existing, entry: ConnectionEntry, there: Mapping[str, Any] | None
) -> bool:
    if entry.client_certificate is None:
        return False
    return there is None or existing.all_secrets or not there["has_client_certificate"]
