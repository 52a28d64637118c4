"""How values read on a page: times, sizes, states. Pure; templates use these as filters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from shared import quantities
from shared.clock import utc_now
from shared.connections import Health

HEALTHS: Final[Mapping[Health, str]] = {
    Health.FAILING: "Failing",
    Health.NEEDS_AUTHORISATION: "Needs authorisation",
    Health.OVERDUE: "Overdue",
    Health.UNUSED: "No enabled handler",
    Health.PENDING: "Waiting for a run",
    Health.WORKING: "Working",
    Health.DISABLED: "Disabled",
}

_UNITS: Final = (
    (timedelta(days=365), "year"),
    (timedelta(days=30), "month"),
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
    (timedelta(seconds=1), "second"),
)


def span(length: timedelta) -> str:
    """`3 minutes`: the largest unit that fits, rounded down."""
    for unit, name in _UNITS:
        count = int(length / unit)
        if count:
            return f"{count} {name}" + ("s" if count > 1 else "")
    return "a moment"


def ago(at: datetime, now: datetime | None = None) -> str:
    """`3 minutes ago`, `in 2 days`, `now`."""
    distance = (now or utc_now()) - at
    if abs(distance) < timedelta(seconds=2):
        return "now"
    return f"{span(distance)} ago" if distance > timedelta() else f"in {span(-distance)}"


def seconds(value: float) -> str:
    """The same of seconds: `3 minutes`."""
    return span(timedelta(seconds=value))


def exact(at: datetime) -> str:
    """`2026-11-22 13:05:09 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def day(at: datetime) -> str:
    """`22 November 2026`."""
    return f"{at.day} {at:%B %Y}"


def number(value: int) -> str:
    """`1,234,567` with thin spaces, which no language mistakes for a decimal point."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def counted(value: int, one: str, many: str = "") -> str:
    """`1 mail`, `2 mails`."""
    return quantities.counted(value, one, many, written=number)


def milliseconds(value: float) -> str:
    """`350 ms`, `2.4 s`."""
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f}".removesuffix(".0") + " s"
