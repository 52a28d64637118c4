"""`posthouse apply -f` and `posthouse export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import printing
from cli.client import Api
from cli.printing import AsJson
from shared.errors import PosthouseError
from shared.quantities import counted
from shared.untrusted_text import in_words

_MARKS: Final = {"create": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red")}


def apply(
    file: Annotated[
        Path,
        typer.Option(
            "--file",
            "-f",
            exists=True,
            allow_dash=True,
            help="A YAML file, a folder of them, or - for standard input.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; change nothing.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what the file does not name.")
    ] = False,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Write the secrets of existing things anew.")
    ] = False,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Downloading new mails is fine everywhere.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="With --dry-run: end with 3 where anything differs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Brings connections, handlers, certificates, credentials, people and webhooks to what a file
    says.

    Applied again it changes nothing. What fails is told, the rest is done; the exit code is then 1.
    """
    from cli.declared.applying import done
    from cli.declared.document import read
    from cli.declared.plan import Plan

    document = read(file)
    with Api.from_environment() as api:
        plan = Plan(
            api,
            document,
            file if file.is_dir() else file.parent,
            secrets=secrets,
            prune=prune,
            acknowledge=acknowledge,
        )
        if not as_json:
            for change in plan.changes:
                _show(change)
        failures = _checked(plan.changes) if dry_run else done(api, plan.changes, quiet=as_json)
    if as_json:
        shown = _to_json(plan.changes, failures)
        printing.as_json({"dry_run": dry_run, "changes": shown})
    else:
        _sum_up(len(plan.changes), failures, dry_run=dry_run)
    if failures:
        raise typer.Exit(1)
    if dry_run and exit_code and plan.changes:
        raise typer.Exit(3)


def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; default: standard output.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="The JSON Schema of such a file, for editors.")
    ] = False,
) -> None:
    """Writes what there is as a file for `apply`, without secrets."""
    if schema:
        from cli.declared.document import Document

        printing.as_json(Document.model_json_schema())
        return
    from cli.declared.export import export as written

    with Api.from_environment() as api:
        text = written(api)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


def _checked(changes: list[Any]) -> list[tuple[Any, PosthouseError]]:
    """What would fail as a secret is not where its reference says."""
    failures = []
    for change in changes:
        try:
            change.check()
        except PosthouseError as error:
            failures.append((change, error))
    return failures


def _to_json(
    changes: list[Any], failures: list[tuple[Any, PosthouseError]]
) -> list[dict[str, Any]]:
    """Each change with its error, null where it was made."""
    failed = {
        (change.kind, change.name): {"code": error.code, "message": str(error)}
        for change, error in failures
    }
    return [
        change.to_json() | {"error": failed.get((change.kind, change.name))} for change in changes
    ]


def _show(change: Any) -> None:
    mark, colour = _MARKS[change.verb]
    printing.say(f"{mark} {_singular(change.kind)} {change.name}", colour)
    for one in change.differences:
        if change.verb == "create":
            printing.say(f"    {one.field}: {_short(one.after)}", "green")
        else:
            printing.say(f"    {one.field}: {_short(one.before)} → {_short(one.after)}", "yellow")


def _singular(kind: str) -> str:
    return "person" if kind == "people" else kind.removesuffix("s").replace("_", " ")


def _sum_up(count: int, failures: list[tuple[Any, PosthouseError]], *, dry_run: bool) -> None:
    for change, error in failures:
        printing.say(f"✗ {_singular(change.kind)} {change.name}: {error}", "bold red")
        if error.hint:
            printing.say(f"  {error.hint}", "dim")
    if not count:
        printing.say("Everything is as the file says.", "green")
    elif dry_run:
        printing.say(f"{counted(count, 'change')} would be made.", "dim")
    else:
        printing.say(f"{count - len(failures):,} of {counted(count, 'change')} made.")


def _short(value: Any) -> str:
    text = in_words(value).replace("\n", " ")
    return text if len(text) <= 80 else text[:79] + "…"
