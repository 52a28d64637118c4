"""Tables and plots of what was measured: `bench/results/NAME.md` and `NAME.svg`."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

RESULTS = Path(__file__).parent / "results"


@dataclass
class Series:
    """The figures of one contender, one for each turn; larger is better unless the unit says."""

    name: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        return f"{figure(min(self.values))} – {figure(max(self.values))}"


def figure(value: float) -> str:
    """Three digits that count."""
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def table(series: Sequence[Series], unit: str, ours: str) -> list[str]:
    """Medians, spreads, and what `ours` is to each of the others."""
    mine = next(item for item in series if item.name == ours)
    lines = [
        f"| who | {unit}, median | least – most | Posthouse / this |",
        "|---|---|---|---|",
    ]
    for item in series:
        ratio = f"{mine.median / item.median:.2f}" if item is not mine else ""
        lines.append(f"| {item.name} | {figure(item.median)} | {item.spread} | {ratio} |")
    return lines


def parts(
    used: Iterable[Mapping[str, float]], walls: Sequence[float], mails: int, *, each: str = "mail"
) -> list[str]:
    """Where the processor's time went: medians over the turns, for each part."""
    turns = list(used)
    lines = [
        f"| part | seconds of processor time | share of the wall clock | µs a {each} |",
        "|---|---|---|---|",
    ]
    wall = statistics.median(walls)
    for name in sorted(turns[0], key=lambda name: -statistics.median(t[name] for t in turns)):
        seconds = statistics.median(turn[name] for turn in turns)
        lines.append(
            f"| {name} | {seconds:.2f} | {seconds / wall:.0%} | {1e6 * seconds / mails:,.0f} |"
        )
    total = statistics.median(sum(turn.values()) for turn in turns)
    lines.append(f"| all | {total:.2f} | {total / wall:.0%} | {1e6 * total / mails:,.0f} |")
    return lines


def verdicts(rows: Sequence[tuple[str, float, str, float]]) -> list[str]:
    """(what, measured, `≥` or `≤`, target): met, or by how much it is missed."""
    lines = ["| target | measured | wanted | |", "|---|---|---|---|"]
    for what, measured, sign, target in rows:
        met = measured >= target if sign == "≥" else measured <= target
        word = "met" if met else f"missed: {figure(measured / target)} of it"
        lines.append(f"| {what} | {figure(measured)} | {sign} {figure(target)} | {word} |")
    return lines


def comparisons(
    series: Sequence[Series], ours: str, targets: Sequence[tuple[str, str, float]]
) -> list[str]:
    """Verdicts on how many times as much `ours` does. `targets`: (what, of which contender, at
    least); those of contenders that did not take part are left out."""
    medians = {one.name: one.median for one in series}
    return verdicts(
        [
            (what, medians[ours] / medians[of], "≥", least)
            for what, of, least in targets
            if of in medians
        ]
    )


def machine() -> str:
    """What it ran on, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the end."
    )


def plot(title: str, unit: str, series: Sequence[Series]) -> str:
    """Bars with whiskers from the least to the most, as SVG."""
    width, left, bar, gap = 760, 250, 22, 12
    top = max(max(item.values) for item in series) or 1.0
    scale = (width - left - 90) / top
    height = 60 + len(series) * (bar + gap)
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)}</text>',
        f'<text x="12" y="42" fill="#666">{escape(unit)}; median, least to most</text>',
    ]
    for number, item in enumerate(series):
        y = 56 + number * (bar + gap)
        middle = y + bar / 2
        colour = "#2b6cb0" if item.name.startswith("Posthouse") else "#a0aec0"
        low, high = left + min(item.values) * scale, left + max(item.values) * scale
        end = left + item.median * scale
        rows += [
            f'<text x="{left - 8}" y="{middle + 5}" text-anchor="end">{escape(item.name)}</text>',
            f'<rect x="{left}" y="{y}" width="{max(1.0, end - left):.1f}" height="{bar}" '
            f'fill="{colour}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="#1a202c"/>',
            f'<text x="{max(high, end) + 6:.1f}" y="{middle + 5}">{figure(item.median)}</text>',
        ]
    return "\n".join([*rows, "</svg>", ""])


def write(name: str, lines: Sequence[str], plots: Mapping[str, str], *, keep: bool) -> None:
    """Prints the report; with `keep` also writes it and its plots into `bench/results/`."""
    text = "\n".join([*lines, ""])
    print(text)
    if not keep:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    for file, drawing in plots.items():
        (RESULTS / f"{file}.svg").write_text(drawing, encoding="utf-8")
