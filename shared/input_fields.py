"""What somebody typed into a field, checked and made a value. Every error names its field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

from shared.errors import InvalidInput

E = TypeVar("E", bound=StrEnum)


def only(changes: Mapping[str, Any], allowed: Set[str], what: str) -> None:
    """Refuses a field that `what` does not have."""
    for name in sorted(changes):
        if name not in allowed:
            raise no_field(name, allowed, what)


def no_field(name: str, known: Iterable[str], what: str) -> InvalidInput:
    """The refusal of a field that `what` does not have: with the one that was meant, or all."""
    near = get_close_matches(name, list(known), 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(sorted(known))}."
    return InvalidInput(f"There is no field {name!r} in a {what}.", field=name, hint=hint)


def text(
    name: str, value: Any, shortest: int, longest: int, *, lines: bool = False, strip: bool = True
) -> str:
    """A text without control characters, stripped, of `shortest` to `longest` characters.

    A line break is refused unless `lines`: in a username it would be a protocol command.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{name!r} is a text.", field=name)
    found = value.replace("\r\n", "\n")
    if strip:
        found = found.strip()
    if any((ord(c) < 32 or ord(c) == 127) and not (lines and c in "\n\t") for c in found):
        raise InvalidInput(f"{name!r} holds a control character.", field=name)
    if any(0xD800 <= ord(c) < 0xE000 for c in found):
        raise InvalidInput(f"{name!r} holds half a character.", field=name)
    if len(found) < shortest:
        raise InvalidInput(f"{name!r} is empty.", field=name)
    if len(found) > longest:
        raise InvalidInput(f"{name!r} is longer than {longest} characters.", field=name)
    return found


def whole(name: str, value: Any, lowest: int, highest: int, unit: str = "a whole number") -> int:
    """A whole number from `lowest` to `highest`."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise InvalidInput(f"{name!r} is {unit} from {lowest} to {highest}.", field=name)
    return value


def truth(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{name!r} is true or false.", field=name)
    return value


def choice(kind: type[E], value: Any, name: str) -> E:
    """One of the words of `kind`."""
    try:
        return kind(value)
    except ValueError:
        raise InvalidInput(f"{name!r} is one of: {', '.join(kind)}.", field=name) from None


def ids(name: str, value: Any) -> tuple[int, ...]:
    """Ids, each once, rising."""
    if not isinstance(value, (list, tuple)):
        raise InvalidInput(f"{name!r} is a list of ids.", field=name)
    return tuple(sorted({whole(name, item, 1, 2**63 - 1) for item in value}))


def secret(name: str, value: Any, longest: int, *, lines: bool = False) -> str | None:
    """A secret as it was given, unstripped; None where it is left as it is."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{name!r} is a text.", field=name)
    if len(value) > longest:
        raise InvalidInput(f"{name!r} is longer than {longest} characters.", field=name)
    forbidden = "\0" if lines else "\0\r\n"
    if any(c in forbidden or 0xD800 <= ord(c) < 0xE000 for c in value):
        raise InvalidInput(f"{name!r} holds a character that no login can carry.", field=name)
    return value


def instant(name: str, value: Any) -> datetime:
    """A date or a time as in ISO 8601; UTC where it names no zone."""
    if isinstance(value, datetime):
        parsed = value
    elif isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidInput(
                f"{name!r} is not a date.",
                field=name,
                hint="Write 2026-01-31 or 2026-01-31T08:00:00Z.",
            ) from None
    else:
        raise InvalidInput(f"{name!r} is a date.", field=name)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    try:
        parsed = parsed.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{name!r} is out of range.", field=name) from None
    if not 1970 <= parsed.year <= 9998:
        raise InvalidInput(f"{name!r} is out of range.", field=name)
    return parsed
