"""What `posthouse up` shows: its own few lines, and of its children what a person should see."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import rich.console
from rich.markup import escape
from rich.text import Text

from shared.untrusted_text import shown

_COLOURS: Final = {"warning": "yellow", "error": "red", "critical": "bold red"}
#: Fields of a JSON log line that say nothing to somebody who watches.
_DULL: Final = frozenset(
    {
        "message", "level", "logger", "timestamp", "service", "correlation_id", "exception",
        "trace_id", "span_id", "pid", "func_name", "lineno",
    }
)  # fmt: skip


class Console:
    """Lines for people, on standard output."""

    def __init__(self, *, verbose: bool = False) -> None:
        self.verbose = verbose
        self._rich = rich.console.Console(highlight=False, soft_wrap=True)

    def say(self, markup: str = "") -> None:
        self._rich.print(markup)

    def problem(self, name: str, text: str) -> None:
        self._rich.print(f"[yellow]![/] [bold]{escape(name)}[/] {escape(shown(text))}")

    def plain(self, line: str) -> None:
        """A line as it is, with the colours its writer gave it."""
        self._rich.print(Text.from_ansi(line))

    def log_line(self, name: str, line: bytes, problem: bytes) -> None:
        """One line of a child's log: shown where it is a problem, or where all are wanted."""
        entry = _parsed(line)
        if entry is None:
            if self.verbose or (problem and re.search(problem, line)):
                text = shown(line.decode("utf-8", "replace").rstrip())
                self._rich.print(f"[dim]{escape(name)}[/] {escape(text)}")
            return
        level = str(entry.get("level", "info"))
        if not self.verbose and level not in _COLOURS:
            return
        details = " ".join(
            f"{key}={value}" for key, value in entry.items() if key not in _DULL and value != ""
        )
        colour = _COLOURS.get(level, "dim")
        self._rich.print(
            f"[{colour}]{escape(name)}[/] {escape(shown(str(entry.get('message', ''))))} "
            f"[dim]{escape(shown(details))}[/]"
        )


class Follower:
    """Reads what a child adds to its log file, from now on."""

    def __init__(
        self, name: str, path: Path, console: Console, *, problem: bytes, speaks: bool
    ) -> None:
        self._name = name
        self._path = path
        self._console = console
        self._problem = problem
        self._speaks = speaks
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def show(self) -> None:
        """Shows the complete lines that came since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read(1 << 20)
        except FileNotFoundError:
            return
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        for line in lines:
            if self._speaks:
                self._console.plain(line.decode("utf-8", "replace"))
            elif line.strip():
                self._console.log_line(self._name, line, self._problem)


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
