"""People of the file, beside those that there are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cli.declared.changes import Change, Difference
from cli.declared.document import PersonEntry
from cli.declared.existing import HIDDEN, Existing, compare
from shared.connection_editing import FIELDS


def planned(existing: Existing, entry: PersonEntry) -> Change | None:
    there = existing.items["people"].get(entry.name.casefold())
    wanted = entry.model_dump(include={"name", "email", "role"})
    wanted["tags"] = list(FIELDS["tags"].parse(entry.tags))
    if there is not None and there["groups"]:  # the login provider's groups decide, at each login
        del wanted["role"], wanted["tags"]
    differences = compare(there, wanted)
    enabled = there is None or there["enabled"]
    if entry.enabled is not None and entry.enabled != enabled:
        differences.append(Difference("enabled", enabled, entry.enabled))
    if entry.password is not None and (
        there is None or existing.all_secrets or not there["has_password"]
    ):
        differences.append(Difference("password", None, HIDDEN))

    def body(fields: set[str]) -> dict[str, Any]:
        found = {name: wanted[name] for name in fields & wanted.keys()}
        if there is not None and "enabled" in fields:
            found["enabled"] = entry.enabled
        if "password" in fields:
            found["password"] = existing.secret(entry.password, "password")
        return found

    check = existing.reads_secrets({"password": entry.password}, differences)
    change = existing.change("people", entry.name, there, differences, body, check)
    if change is None or there is not None or entry.enabled is not False:
        return change
    add = change.act

    def add_locked_out() -> None:
        add()
        existing.api.patch(f"people/{existing.id('people', entry.name)}", {"enabled": False})

    return replace(change, act=add_locked_out)
