"""`posthouse quarantine`: mails that could not be processed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import printing
from cli.api_commands import ApiCommands
from cli.client import Api
from cli.printing import AsJson, Yes
from shared.errors import InvalidInput
from shared.quantities import counted, sized

app = typer.Typer(cls=ApiCommands, help="Mails that could not be processed.", no_args_is_help=True)
Ids = Annotated[list[str] | None, typer.Argument(help="Ids as the list shows them.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are in quarantine.")]
_AT_ONCE = 500


@app.command("list")
def list_entries(
    connection: Annotated[
        str | None, typer.Option("--connection", "-c", help="Name or id of a connection.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: AsJson = False,
) -> None:
    """Shows what is in quarantine, and why."""
    with Api.from_environment() as api:
        chosen = api.named("connections", connection)["id"] if connection else None
        found = api.get("quarantine", connection=chosen, limit=limit)
    if as_json:
        printing.as_json(found)
        return
    rows = [
        (
            item["id"],
            printing.when(item["created_at"]),
            item["connection"],
            sized(item["size"]),
            item["sender"],
            item["subject"],
            (item["reason"], "red"),
        )
        for item in found["items"]
    ]
    columns = ("id", "since", "connection", "size", "from", "subject", "reason")
    printing.table(columns, rows, empty="Quarantine is empty.")


@app.command()
def release(
    ids: Ids = None, everything: Everything = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Releases mails: they are processed again."""
    _act("release", "Release {}?", ids, everything, yes, as_json)


@app.command()
def drop(
    ids: Ids = None, everything: Everything = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Drops mails: they never come back by themselves."""
    _act("drop", "Drop {} for good?", ids, everything, yes, as_json)


def _act(
    verb: str, question: str, ids: list[str] | None, everything: bool, yes: bool, as_json: bool
) -> None:
    if bool(ids) == everything:
        raise InvalidInput("Give ids, or --all.", field="ids")
    with Api.from_environment() as api:
        chosen = ids or [item["id"] for item in _every(api)]
        if chosen:
            asked = question.format(counted(len(chosen), "mail"))
            printing.confirm(asked, yes=yes or not everything)
        count = 0
        for start in range(0, len(chosen), _AT_ONCE):
            body = {"ids": chosen[start : start + _AT_ONCE]}
            count += api.post(f"quarantine/{verb}", body)["count"]
    if as_json:
        printing.as_json({"count": count})
    else:
        printing.say(f"{counted(count, 'mail')}: done.")


def _every(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    before = None
    while True:
        page = api.get("quarantine", limit=_AT_ONCE, before=before)
        found += page["items"]
        before = page["next"]
        if before is None:
            return found
