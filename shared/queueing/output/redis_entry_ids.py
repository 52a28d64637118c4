"""Positions in a Redis stream, `milliseconds-number`: their order, neighbours and times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

#: The highest number an entry can have within its millisecond.
_LAST_NUMBER: Final = 2**64 - 1


def order(position: str) -> tuple[int, int]:
    """To compare positions by."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)


def after(position: str) -> str:
    """The lowest position that is higher."""
    milliseconds, number = order(position)
    return f"{milliseconds}-{number + 1}" if number < _LAST_NUMBER else f"{milliseconds + 1}-0"


def before(position: str) -> str:
    """The highest position that is lower."""
    milliseconds, number = order(position)
    return f"{milliseconds}-{number - 1}" if number else f"{milliseconds - 1}-{_LAST_NUMBER}"


def time_of(position: str) -> datetime:
    """When the entry was appended, by the clock of Redis."""
    return datetime.fromtimestamp(order(position)[0] / 1000, UTC)
