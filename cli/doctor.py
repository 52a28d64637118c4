"""`posthouse doctor`: what a mail server makes of every form of request that a run may send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import printing
from cli.client import Api
from cli.named_objects import Name
from cli.printing import AsJson, Yes

_STYLES: Final = {
    "understood": "green",
    "refused": "bold red",
    "unanswered": "bold red",
    "not-asked": "dim",
}


def doctor(
    name: Name,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Also write what was said to this file, with names, addresses, ids, tokens and "
            "mails replaced. It is shown first.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    yes: Yes = False,
) -> None:
    """Asks a mail server everything that a run may ask, once, changing nothing.

    Says for each form of request whether it was understood, how long it took and what that means.
    Exit code 1 where something was not understood.
    """
    with Api.from_environment() as api:
        found = api.named("connections", name)
        path = f"connections/{found['id']}/doctor"
        report = api.post(path, {"record": record is not None})
    recording = report.pop("recording", None)
    if as_json:
        printing.as_json(report)
    else:
        _show(report)
    if record is not None and recording is not None:
        _keep(record, recording, yes=yes)
    if not report["healthy"]:
        raise typer.Exit(1)


def _show(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        took = "" if row["milliseconds"] is None else f" ({row['milliseconds']} ms)"
        printing.say(f"{row['verdict']}: {row['title']}{took}", _STYLES[row["verdict"]])
        if row["verdict"] != "understood":
            printing.say(f"  {row['meaning']}", "dim")
            if row["words"]:
                printing.say(f"  The server: {row['words']}", "dim")
    for sentence in report["sentences"]:
        printing.say(sentence)


def _keep(file: Path, recording: str, *, yes: bool) -> None:
    """Shows a recording, and writes it once somebody has read it."""
    typer.echo(recording, err=True)
    printing.confirm(
        f"Read it: names that only your server knows may be left. Write it to {file}?", yes=yes
    )
    file.write_text(recording + "\n", encoding="utf-8")
    typer.echo(f"Written to {file}.", err=True)
