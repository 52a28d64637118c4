"""Every kind of alert by its name, and what a webhook chooses among."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import TypeAdapter

from shared.alerts import connections, expiring, handlers, mails, services
from shared.alerts.base import AlertData
from shared.errors import InvalidInput


def _kinds() -> Iterator[type[AlertData]]:
    for module in (connections, expiring, mails, handlers, services):
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, AlertData) and "kind" in vars(one):
                yield one


#: Every kind, with what reads it from JSON and writes it there.
KINDS: Final[Mapping[str, TypeAdapter[AlertData]]] = {
    type_.kind: TypeAdapter(type_) for type_ in _kinds()
}

#: The kinds that a webhook chooses among, and what people call each.
CHOICES: Final[Mapping[str, str]] = {type_.kind: type_.choice for type_ in _kinds() if type_.choice}


def to_json(data: AlertData) -> dict[str, Any]:
    """The fields, as they are stored and sent to programs."""
    found: dict[str, Any] = KINDS[data.kind].dump_python(data, mode="json")
    return found


def from_json(kind: str, fields: Mapping[str, Any]) -> AlertData:
    """What `to_json` made."""
    return KINDS[kind].validate_python(dict(fields))


def chosen_kinds(value: Any) -> tuple[str, ...]:
    """Of CHOICES, in their order. Raises InvalidInput."""
    if not isinstance(value, (list, tuple)):
        raise InvalidInput("'kinds' is a list of kinds of alerts.", field="kinds")
    for kind in value:
        if kind not in CHOICES:
            near = get_close_matches(str(kind), CHOICES, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"One of: {', '.join(CHOICES)}."
            raise InvalidInput(f"{kind!r} is no kind of alert.", field="kinds", hint=hint)
    return tuple(kind for kind in CHOICES if kind in value)
