"""A handler of the file, beside the one that there is."""

from __future__ import annotations

from typing import Any

from cli.declared.changes import Change, Difference
from cli.declared.document import HandlerEntry
from cli.declared.existing import Existing, compare
from cli.declared.forwarding import Forwarding
from shared.errors import InvalidInput
from shared.rules.ruleset import read_rules


def planned(existing: Existing, entry: HandlerEntry) -> Change | None:
    there = existing.items["handlers"].get(entry.name.casefold())
    wanted = entry.model_dump(exclude={"connections", "forward"}) | {"rules": _rules(entry)}
    differences = compare(there, wanted)
    forward = Forwarding(entry, there and there["forward"], existing.folder, existing.all_secrets)
    differences += forward.differences
    before: Any = None
    if there is not None:
        taken = there["connections"]
        before = "all" if taken == "all" else existing.names("connections", taken)
    after = entry.connections
    if after != "all":
        after = sorted(after, key=str.casefold)
    if _folded(before) != _folded(after):
        differences.append(Difference("connections", before, after))

    def body(fields: set[str]) -> dict[str, Any]:
        found = {name: wanted[name] for name in fields & wanted.keys()}
        if forward.differences:
            found["forward"] = forward.body()
        if "connections" in fields:
            found["connections"] = (
                "all" if after == "all" else [existing.id("connections", n) for n in after]
            )
        return found

    def check() -> None:
        if forward.differences:
            forward.body()

    return existing.change("handlers", entry.name, there, differences, body, check)


def _rules(entry: HandlerEntry) -> dict[str, Any]:
    """As the API shows them. Raises InvalidInput that names the handler."""
    try:
        rules = read_rules(entry.rules)
    except InvalidInput as error:
        where = f"handlers {entry.name!r}, {error.field}"
        raise InvalidInput(f"{where}: {error}", field="rules", hint=error.hint) from error
    return rules.to_json() if rules else {}


def _folded(names: Any) -> Any:
    return [name.casefold() for name in names] if isinstance(names, list) else names
