"""What `posthouse apply` does: one change to one thing, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Sending:
    """What the API is given of one thing, where it can be sent with others: who hears of the id of
    a new one; the `id` of one that is there, and whether it is `enabled`."""

    body: Callable[[], dict[str, Any]]
    made: Callable[[int], None]
    id: int | None = None
    enabled: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do. `verb` is `create`, `change` or `delete`; `act` does it, `check` reads the
    secrets that it will need, and raises InvalidInput where one is not there. `sending`: it may
    be done together with others of its kind instead."""

    kind: str
    name: str
    verb: str
    differences: tuple[Difference, ...]
    act: Callable[[], None] = field(repr=False, compare=False)
    check: Callable[[], None] = field(repr=False, compare=False, default=lambda: None)
    sending: Sending | None = field(repr=False, compare=False, default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "verb": self.verb,
            "fields": {d.field: [d.before, d.after] for d in self.differences},
        }
