"""What the groups of commands over named objects share: listing them, and deleting one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from cli import printing
from cli.client import Api
from cli.printing import Yes
from shared.errors import NotFound

Name = Annotated[str, typer.Argument(help="Name or id.", show_default=False)]
Item = Mapping[str, Any]


def print_list(
    items: Iterable[Item],
    as_json: bool,
    columns: Mapping[str, Callable[[Item], Any]],
    *,
    empty: str = "None yet.",
) -> None:
    """Items as `{"items": […]}`, or as a table of `columns`: heading to what stands below it."""
    found = list(items)
    if as_json:
        printing.as_json({"items": found})
        return
    rows: Sequence[Sequence[Any]] = [[cell(item) for cell in columns.values()] for item in found]
    printing.table(tuple(columns), rows, empty=empty)


def add_delete_command(
    app: typer.Typer, kind: str, noun: str, text: str, *, label: str = "name"
) -> None:
    """Gives `app` the command `delete`, described by `text`; `kind` is the path in the API."""

    @app.command("delete", help=text)
    def delete(name: Name, yes: Yes = False) -> None:
        with Api.from_environment() as api:
            found = api.named(kind, name)
            printing.confirm(f"Delete the {noun} {found[label]!r}?", yes=yes)
            api.delete(f"{kind}/{found['id']}")
        printing.say("Deleted.")


def add_distrust_command(
    app: typer.Typer, path: str, noun: str, verb: str, text: str, *, group: str
) -> None:
    """Gives `app` the command `delete` for what is trusted or known by its name or id: public keys
    and certificates. `path` is the one in the API, `group` names the commands."""

    @app.command("delete", help=text)
    def delete(name: Name, yes: Yes = False) -> None:
        wanted = name.casefold()
        with Api.from_environment() as api:
            for one in api.get(path):
                if wanted in (str(one["id"]), one["name"].casefold()):
                    printing.confirm(f"No longer {verb} {one['name']!r}?", yes=yes)
                    api.delete(f"{path}/{one['id']}")
                    printing.say("Deleted.")
                    return
        raise NotFound(
            f"There is no {noun} named {name!r}.",
            hint=f"`posthouse {group} list` shows what there is.",
        )
