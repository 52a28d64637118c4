"""Webhooks of the file, beside those that there are. An address is shown nowhere once it is saved:
a new one needs `--secrets`."""

from __future__ import annotations

from typing import Any, Final

from cli.declared.changes import Change, Difference
from cli.declared.document import WebhookEntry
from cli.declared.existing import HIDDEN, Existing, compare

_SECRETS: Final = ("url", "secret")


def planned(existing: Existing, entry: WebhookEntry) -> Change | None:
    there = existing.items["webhooks"].get(entry.name.casefold())
    wanted = entry.model_dump(exclude={*_SECRETS}) | {"kinds": sorted(entry.kinds)}
    shown = None if there is None else {**there, "kinds": sorted(there["kinds"])}
    differences = compare(shown, wanted)
    lacks_secret = there is not None and entry.secret is not None and not there["has_secret"]
    if there is None or existing.all_secrets or lacks_secret:
        given = [name for name in _SECRETS if getattr(entry, name) is not None]
        differences += [Difference(name, None, HIDDEN) for name in given]

    def body(fields: set[str]) -> dict[str, Any]:
        found = {name: wanted[name] for name in fields & wanted.keys()}
        for name in fields & {*_SECRETS}:
            found[name] = existing.secret(getattr(entry, name), name)
        return found

    secrets = {name: getattr(entry, name) for name in _SECRETS}
    check = existing.reads_secrets(secrets, differences)
    return existing.change("webhooks", entry.name, there, differences, body, check)
