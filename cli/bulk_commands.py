"""`posthouse connections bulk`, `import` and `duplicate`: many at once, and copies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli import printing
from cli.arguments import Settings, fields, read_file
from cli.client import Api, ApiRefused
from cli.completing import handlers, healths, modes, tags
from cli.named_objects import Name
from cli.printing import AsJson, Yes
from shared.errors import InvalidInput
from shared.quantities import counted

#: Connections a call: few where mail servers are asked, so that the bar moves.
_BATCH: Final = {"enable": 8, "test": 8}
_STYLES: Final = {"done": "green", "unchanged": "dim", "asks": "yellow", "failed": "bold red"}


def bulk(
    action: Annotated[
        str,
        typer.Argument(
            help="change, enable, disable, test or fetch",
            autocompletion=lambda: ["change", "enable", "disable", "test", "fetch"],
        ),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or ids; none: all that the filters match.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All connections there are.")] = False,
    query: Annotated[str, typer.Option("--query", "-q", help="Part of name, host, user …")] = "",
    health: Annotated[
        str | None, typer.Option(help="Only of this health.", autocompletion=healths)
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="Only of this mode.", autocompletion=modes)
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only with this tag; repeat it.", autocompletion=tags)
    ] = None,
    handler: Annotated[
        str | None, typer.Option(help="Only what it takes.", autocompletion=handlers)
    ] = None,
    interval: Annotated[int | None, typer.Option(help="Minutes between two runs.")] = None,
    add_tag: Annotated[list[str] | None, typer.Option(autocompletion=tags)] = None,
    remove_tag: Annotated[list[str] | None, typer.Option(autocompletion=tags)] = None,
    add_certificate: Annotated[list[str] | None, typer.Option(help="Name or id.")] = None,
    remove_certificate: Annotated[list[str] | None, typer.Option(help="Name or id.")] = None,
    start_from: Annotated[
        str | None, typer.Option(help='With enable: "everything", "now", or a date.')
    ] = None,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="With enable: new mails may be downloaded.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Does one thing to many connections: those named, or all that the filters match.

    What fails keeps no other from being done; the exit code is then 1.
    """
    filtered = bool(query or health or mode or tag or handler)
    if bool(names) + filtered + every != 1:
        raise InvalidInput("Name connections, or give filters, or --all.", field="names")
    with Api.from_environment() as api:
        body = {
            "action": action,
            "interval_minutes": interval,
            "add_tags": add_tag or [],
            "remove_tags": remove_tag or [],
            "add_certificates": _ids(api, "certificates", add_certificate),
            "remove_certificates": _ids(api, "certificates", remove_certificate),
            "start_from": start_from,
            "acknowledged": acknowledge,
        }
        if names:
            ids = _ids(api, "connections", names)
        else:
            taker = api.named("handlers", handler)["id"] if handler else None
            ids = api.get(
                "connections/ids", q=query, health=health, mode=mode, tag=tag, handler=taker
            )["ids"]
        if action != "test":
            printing.confirm(f"{action.capitalize()} {counted(len(ids), 'connection')}?", yes=yes)
        outcomes = list(_done(api, ids, body, quiet=as_json))
    if as_json:
        printing.as_json({"items": outcomes})
    else:
        _show(outcomes)
    if any(one["status"] in ("asks", "failed") for one in outcomes):
        raise typer.Exit(1)


def duplicate(
    name: Name,
    new_name: Annotated[str, typer.Argument(help="What the copy is called.")],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Adds a connection like another one, disabled, with its password and what --set changes."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        body = {"name": new_name} | fields(settings)
        made = api.post(f"connections/{found['id']}/duplicate", body)
    if as_json:
        printing.as_json(made)
    else:
        printing.say(f"{made['name']} is saved, and disabled (id {made['id']}).", "green")


def import_csv(
    file: Annotated[Path, typer.Argument(help="A CSV file, or - for standard input.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it and say what is wrong; add nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Adds the connections of a CSV file, all of them or none; they start disabled.

    Its first line names fields of a connection; name, mode and username are needed. What is wrong
    is said with line and column, and the exit code is then 1.
    """
    content = sys.stdin.buffer.read() if str(file) == "-" else read_file(str(file), "file")
    with Api.from_environment() as api:
        try:
            found = api.post(
                "connections/import",
                files={"file": (file.name, content, "text/csv")},
                params={"dry_run": dry_run},
            )
        except ApiRefused as refused:
            if refused.code != "import-refused":
                raise
            faults = refused.problem["faults"]
            found = {"done": False, "rows": [], "faults": faults, "fault_count": len(faults)}
    if as_json:
        printing.as_json(found)
    else:
        for one in found["faults"]:
            place = f"{file}, line {one['line']}"
            place += f", column {one['column']} ({one['heading']})" if one["column"] else ""
            printing.say(f"{place}: {one['text']} {one['hint']}".rstrip(), "red")
        if found["faults"]:
            printing.say("Nothing is added.", "bold red")
        else:
            verb = "would be added" if dry_run else "added, all disabled"
            printing.say(f"{counted(len(found['rows']), 'connection')} {verb}.", "green")
    if found["faults"]:
        raise typer.Exit(1)


def _ids(api: Api, kind: str, names: list[str] | None) -> list[int]:
    return [api.named(kind, one)["id"] for one in names or ()]


def _done(
    api: Api, ids: list[int], body: dict[str, Any], *, quiet: bool
) -> Iterator[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import Progress

    size = _BATCH.get(body["action"], 50)
    still = quiet or not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=still) as progress:
        task = progress.add_task(body["action"].capitalize(), total=len(ids))
        for at in range(0, len(ids), size):
            batch = ids[at : at + size]
            yield from api.post("connections/bulk", body | {"ids": batch})["items"]
            progress.advance(task, len(batch))


def _show(outcomes: list[dict[str, Any]]) -> None:
    rows = [
        (one["id"], one["name"], (one["status"], _STYLES[one["status"]]), one["text"])
        for one in outcomes
    ]
    printing.table(("id", "name", "result", "details"), rows, empty="No connection matches.")
