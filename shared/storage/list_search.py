"""Lists that people search: folded text, patterns and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; `total` counts all that match. Pages count from 1."""

    items: tuple[T, ...]
    total: int
    page: int
    per_page: int
    counts: Mapping[Any, int] = field(default_factory=dict)

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.per_page))


def folded(*texts: str) -> str:
    """Texts made comparable whatever their case (Unicode's full case folding), one a line."""
    return "\n".join(text.casefold() for text in texts)


def contains(part: str) -> str:
    """A LIKE pattern for folded text that holds `part`; its own wildcards are taken literally."""
    text = part.strip().casefold()
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
