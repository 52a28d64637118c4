"""What the API has, and how what a file says of one thing becomes a change to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cli.arguments import read_reference
from cli.client import Api
from cli.declared.changes import Change, Difference, Sending
from shared.errors import InvalidInput

#: In the order in which they can be made: each may refer to those before it.
KINDS: Final = ("credentials", "certificates", "connections", "handlers")
#: Asked for, and pruned, only where the file has the section: who applies may be no administrator,
#: and a file without people is no wish to have none.
OPTIONAL: Final = ("people", "webhooks")
#: Stands for a secret where differences are shown.
HIDDEN: Final = "(secret)"


class Existing:
    """`items` of each kind by folded name, as the API shows them; ids are added as they are made.

    `optional`: those of OPTIONAL that the file has.
    `folder` is where the file lies: references to files start there. `all_secrets` and
    `acknowledge`: see `cli.declared.plan.Plan`.
    """

    def __init__(
        self,
        api: Api,
        folder: Path,
        optional: Sequence[str],
        *,
        all_secrets: bool,
        acknowledge: bool,
    ) -> None:
        self.api = api
        self.folder = folder
        self.all_secrets = all_secrets
        self.acknowledge = acknowledge
        self.items = {kind: _by_name(api, kind) for kind in (*KINDS, *optional)}
        self.ids = {
            kind: {name: item["id"] for name, item in items.items()}
            for kind, items in self.items.items()
        }

    def change(
        self,
        kind: str,
        name: str,
        there: Mapping[str, Any] | None,
        differences: list[Difference],
        body: Callable[[set[str]], dict[str, Any]],
        check: Callable[[], None],
    ) -> Change | None:
        """None where there is no difference. `body` makes what the API is given of these fields."""
        if there is not None and not differences:
            return None
        fields = {difference.field for difference in differences}

        def wanted() -> dict[str, Any]:
            return body(fields if there is not None else fields | {"name"})

        def made(number: int) -> None:
            self.ids[kind][name.casefold()] = number

        def create() -> None:
            made(self.api.post(kind, wanted())["id"])

        def change() -> None:
            assert there is not None
            self.api.patch(f"{kind}/{there['id']}", wanted())

        verb, act = ("create", create) if there is None else ("change", change)
        shown = [d for d in differences if there is not None or d.after not in (None, "", [], {})]
        of_there = (there["id"], bool(there.get("enabled"))) if there is not None else (None, False)
        sending = Sending(wanted, made, *of_there)
        return Change(kind, name, verb, tuple(shown), act, check, sending)

    def reads_secrets(
        self, secrets: Mapping[str, str | None], differences: list[Difference]
    ) -> Callable[[], None]:
        """Reads those that the differences need. Raises InvalidInput where one is not there."""
        needed = {difference.field for difference in differences}

        def check() -> None:
            for name, reference in secrets.items():
                if name in needed:
                    self.secret(reference, name)

        return check

    def id(self, kind: str, name: str) -> int:
        found = self.ids[kind].get(name.casefold())
        if found is None:
            raise InvalidInput(f"{name!r} of the {kind} could not be made before.", field=kind)
        return int(found)

    def names(self, kind: str, ids: list[int]) -> list[str]:
        by_id = {item["id"]: item["name"] for item in self.items[kind].values()}
        return sorted((by_id[i] for i in ids if i in by_id), key=str.casefold)

    def secret(self, reference: str | None, name: str) -> str | None:
        return None if reference is None else read_reference(reference, name, self.folder)


def compare(there: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> list[Difference]:
    found = []
    for name, after in wanted.items():
        before = None if there is None else there[name]
        if name == "rules" and before is not None and not any(before.values()):
            before = {}
        if name != "name" and (there is None or before != after):
            found.append(Difference(name, before, after))
    return found


def _by_name(api: Api, kind: str) -> dict[str, dict[str, Any]]:
    paged = kind in ("connections", "certificates")
    items = api.every(kind) if paged else iter(api.get(kind)["items"])
    return {item["name"].casefold(): item for item in items}
