"""Bar charts as inline SVG. Geometry only; the template draws it and words it for listeners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.admin.pages.formatting import counted

WIDTH: Final = 720
HEIGHT: Final = 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 4, 10, 28


@dataclass(frozen=True, slots=True)
class Bar:
    """In pixels of the view box. `title` is shown on pointing; `label` below some bars; `at` is the
    time that both begin with, where it is one of day."""

    x: float
    y: float
    width: float
    height: float
    title: str
    label: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    bars: tuple[Bar, ...]
    #: Height of each horizontal line and the value it stands for.
    lines: tuple[tuple[float, int], ...]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    #: Said instead of an empty frame where every value is 0.
    nothing: str = ""


def bars(
    values: Sequence[tuple[str, int]],
    summary: str,
    *,
    unit: str,
    labels: int = 6,
    times: Sequence[datetime] = (),
) -> Chart:
    """`values` are (name of the bar, value ≥ 0); about `labels` of the names are written out.

    `times`: those of the bars whose names are times of day.
    """
    top = _round_up(max((value for _, value in values), default=0))
    room = HEIGHT - _TOP - _BOTTOM
    step = (WIDTH - _LEFT - _RIGHT) / max(len(values), 1)
    every = max(1, round(len(values) / labels))
    drawn = []
    for index, (name, value) in enumerate(values):
        height = room * value / top
        if value:
            height = max(height, 2.0)  # one mail is seen beside ten thousand
        drawn.append(
            Bar(
                x=round(_LEFT + index * step + step * 0.12, 1),
                y=round(_TOP + room - height, 1),
                width=round(step * 0.76, 1),
                height=round(height, 1),
                title=f"{name}: {counted(value, unit)}",
                label=name if index % every == 0 else "",
                at=times[index] if times else None,
            )
        )
    lines = tuple(
        (round(_TOP + room * (1 - part / 2), 1), top * part // 2)
        for part in ((0, 1, 2) if top > 1 else (0, 2))
    )
    nothing = "" if any(value for _, value in values) else f"No {unit} in this time."
    return Chart(tuple(drawn), lines, summary, nothing=nothing)


def _round_up(value: int) -> int:
    """1, 2, 4, 6, 10, 20, 40, 60, 100 …: a scale's end that halves evenly."""
    if value <= 1:
        return 1
    power = 1
    while True:
        for factor in (2, 4, 6, 10):
            if value <= factor * power:
                return factor * power
        power *= 10
