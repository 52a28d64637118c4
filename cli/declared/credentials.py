"""An OAuth2 credential of the file, beside the one that there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cli.declared.changes import Change, Difference
from cli.declared.document import CredentialEntry
from cli.declared.existing import HIDDEN, Existing, compare


def planned(existing: Existing, entry: CredentialEntry) -> Change | None:
    there = existing.items["credentials"].get(entry.name.casefold())
    wanted = entry.model_dump(exclude={"client_secret", "client_certificate"})
    expires = wanted.pop("secret_expires_at")
    differences = compare(there, wanted)
    if expires and (there is None or (there["secret_expires_at"] or "")[:10] != expires[:10]):
        before = there and there["secret_expires_at"]
        differences.append(Difference("secret_expires_at", before, expires))
    for name in ("client_secret", "client_certificate"):
        if getattr(entry, name) and (
            there is None or existing.all_secrets or not there[f"has_{name}"]
        ):
            differences.append(Difference(name, None, HIDDEN))
    secrets = {n: getattr(entry, n) for n in ("client_secret", "client_certificate")}
    check = existing.reads_secrets(secrets, differences)
    return existing.change(
        "credentials", entry.name, there, differences, _body(existing, entry), check
    )


def _body(existing: Existing, entry: CredentialEntry) -> Callable[[set[str]], dict[str, Any]]:
    def body(fields: set[str]) -> dict[str, Any]:
        found = entry.model_dump(include=fields)
        for name in fields & {"client_secret", "client_certificate"}:
            found[name] = existing.secret(found[name], name)
        return found

    return body
