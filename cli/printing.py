"""How commands show what they got: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from shared.untrusted_text import json_shown, shown

AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs, nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_WIDEST: Final = 100_000
COLOURS: Final = {
    "working": "green",
    "failing": "bold red",
    "needs-authorisation": "bold red",
    "unused": "yellow",
    "pending": "cyan",
    "overdue": "bold red",
    "disabled": "dim",
    "ok": "green",
    "failed": "bold red",
    "skipped": "dim",
    "published": "green",
    "waiting": "cyan",
    "retrying": "yellow",
    "quarantined": "bold red",
    "dropped": "dim",
    "unwanted": "dim",
}


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json_shown(value, indent=2))


def say(text: str, style: str = "") -> None:
    """A line for people. Markup is not read: texts come from mails and from people."""
    from rich.text import Text

    _console().print(Text(shown(text), style))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Rows under a heading; `empty` where there is none. Cells are plain texts or (text, style)."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        say(empty, "dim")
        return
    drawn = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        # An id that is broken cannot be copied: other columns give way.
        drawn.add_column(column, overflow="fold", no_wrap=column == "id")
    for row in rows:
        drawn.add_row(*(Text(*_cell(cell)) for cell in row))
    _console().print(drawn)


def pairs(values: Sequence[tuple[str, Any]]) -> None:
    """Name and value a line; empty values are left out."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, show_header=False)
    drawn.add_column(style="dim")
    drawn.add_column(overflow="fold")
    for name, value in values:
        if value not in (None, "", [], ()):
            drawn.add_row(name, Text(*_cell(value)))
    _console().print(drawn)


def coloured(word: str) -> tuple[str, str]:
    """A state in its colour."""
    return (word, COLOURS.get(word, ""))


def when(value: str | None) -> str:
    """An instant as people read it: how long ago, or in how long."""
    if not value:
        return ""
    at = datetime.fromisoformat(value)
    seconds = (datetime.now(UTC) - at).total_seconds()
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            amount = f"{int(abs(seconds) // size)} {unit}"
            return f"{amount} ago" if seconds > 0 else f"in {amount}"
    return "now"


def mailbox(name: str, address: str) -> str:
    """A display name and an address, where there are any."""
    return f"{name} <{address}>" if name and address else name or address


def octets(size: int) -> str:
    """A size as people read it."""
    amount, unit = float(size), "B"
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def confirmed(question: str, *, yes: bool) -> None:
    """Asks a person; ends the command where the answer is no, or nobody is there to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        typer.echo(f"{question} Give --yes to do it without asking.", err=True)
        raise typer.Exit(1)
    typer.confirm(question, abort=True)


def _cell(value: Any) -> tuple[str, str]:
    if isinstance(value, tuple):
        return (shown(str(value[0])), str(value[1]))
    if isinstance(value, bool):
        return ("yes" if value else "no", "")
    return ("" if value is None else shown(str(value)), "")


def _console() -> Any:
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    # What a program reads has a line an item, however wide.
    return Console(highlight=False, soft_wrap=True, width=_WIDEST)
