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
#: Columns whose cells are copied into other commands, or compared.
_UNBROKEN: Final = frozenset({"id", "event", "to", "client id", "fingerprint"})
#: Characters that a column has at the least for what is in it to be read.
_NARROWEST: Final = 10
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
    """One JSON document on standard output: an object, of a list that with its `items`."""
    whole = {"items": value} if isinstance(value, list) else value
    typer.echo(json_shown(whole, indent=2))


def say(text: str, style: str = "") -> None:
    """A line for people. Markup is not read: texts come from mails and from people.

    A terminal breaks what is too long itself, so that an address or an id in it is copied whole.
    """
    from rich.text import Text

    _console().print(Text(shown(text), style), soft_wrap=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Rows under a heading; `empty` where there is none. Cells are plain texts or (text, style).

    Where the screen is too narrow for that, each row is a block of lines: no id is ever broken.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    if not rows:
        say(empty, "dim")
        return
    cells = [[_on_a_line(_cell(cell)) for cell in row] for row in rows]
    console = _console()
    needed = 2 * (len(columns) - 1)
    for at, column in enumerate(columns):
        widest = max(cell_len(text) for text in (column, *(row[at][0] for row in cells)))
        needed += widest if column in _UNBROKEN else min(widest, _NARROWEST)
    if needed > console.width:
        _blocks(columns, cells)
        return
    drawn = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold", no_wrap=column in _UNBROKEN)
    for row in cells:
        drawn.add_row(*(Text(*cell) for cell in row))
    console.print(drawn)


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> None:
    for at, row in enumerate(rows):
        if at:
            typer.echo()
        _lines([(name, cell) for name, cell in zip(columns, row, strict=True) if cell[0]])


def _lines(values: Sequence[tuple[str, tuple[str, str]]]) -> None:
    """Name and value a line, which the terminal breaks where it is too long."""
    from rich.text import Text

    widest = max((len(name) for name, _ in values), default=0)
    for name, cell in values:
        line = Text.assemble((name.ljust(widest + 2), "dim"), cell)
        _console().print(line, soft_wrap=True)


def pairs(values: Sequence[tuple[str, Any]]) -> None:
    """Name and value a line; empty values are left out."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    kept = [(name, _cell(value)) for name, value in values if value not in (None, "", [], ())]
    console = _console()
    room = console.width - max((len(name) for name, _ in kept), default=0) - 2
    if any(cell_len(word) > room for _, (text, _) in kept for word in text.split()):
        _lines(kept)
        return
    drawn = Table(box=None, pad_edge=False, show_header=False)
    drawn.add_column(style="dim")
    drawn.add_column(overflow="fold")
    for name, cell in kept:
        drawn.add_row(name, Text(*cell))
    console.print(drawn)


def coloured(word: str) -> tuple[str, str]:
    """A state in its colour."""
    return (word, COLOURS.get(word, ""))


def when(value: str | None) -> str:
    """An instant as people read it: how long ago, or in how long."""
    if not value:
        return ""
    at = datetime.fromisoformat(value)
    seconds = (datetime.now(UTC) - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """`3 min`: the largest unit that fits, rounded down."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def mailbox(name: str, address: str) -> str:
    """A display name and an address, where there are any."""
    return f"{name} <{address}>" if name and address else name or address


def confirm(question: str, *, yes: bool) -> None:
    """Asks a person; ends the command where the answer is no, or nobody is there to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        typer.echo(f"{question} Give --yes to do it without asking.", err=True)
        raise typer.Exit(1)
    typer.confirm(question, abort=True)


def _cell(value: Any) -> tuple[str, str]:
    """Text and style."""
    text, style = (value[0], str(value[1])) if isinstance(value, tuple) else (value, "")
    if isinstance(text, bool):
        text = "yes" if text else "no"
    return ("" if text is None else shown(str(text)), style)


def _on_a_line(cell: tuple[str, str]) -> tuple[str, str]:
    """A line an item, whatever the text."""
    return (" ".join(cell[0].splitlines()), cell[1])


def _console() -> Any:
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    # What a program reads has a line an item, however wide. Without a height, too, the width gives
    # way to that of a simple terminal where colours are wanted in the pipe (FORCE_COLOR).
    return Console(highlight=False, soft_wrap=True, width=_WIDEST, height=_WIDEST)
