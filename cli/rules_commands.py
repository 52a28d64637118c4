"""`posthouse handlers rules`: which mails a handler takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from cli import printing
from cli.api_commands import ApiCommands
from cli.client import Api
from cli.named_objects import Name
from cli.printing import AsJson, Yes
from shared.errors import InvalidInput
from shared.quantities import counted

app = typer.Typer(cls=ApiCommands, help="Which mails a handler takes.", no_args_is_help=True)
File = Annotated[
    Path,
    typer.Argument(help="YAML or JSON: accept, reject, expression, as `apply` has them."),
]


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Shows the rules, read aloud and as a file has them."""
    with Api.from_environment() as api:
        _print(api.named("handlers", name), as_json)


@app.command("set")
def set_rules(name: Name, file: File, as_json: AsJson = False) -> None:
    """Puts the rules of a file in the place of those that are there.

    What was decided before stands: nothing is delivered by this.
    """
    rules = read(file)
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        _print(api.patch(f"handlers/{found['id']}", {"rules": rules}), as_json)


@app.command()
def clear(name: Name, as_json: AsJson = False) -> None:
    """Takes the rules away: the handler gets every mail of its connections."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        _print(api.patch(f"handlers/{found['id']}", {"rules": {}}), as_json)


@app.command("dry-run")
def dry_run(
    name: Name,
    file: Annotated[
        Path | None, typer.Argument(help="Rules that are not saved yet; default: the saved ones.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How far back.")] = 30,
    since: Annotated[
        str | None, typer.Option(help="A date or time, in place of --days, as `deliver` has it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows what rules would have taken of past mails. Nothing is changed or delivered."""
    body: dict[str, Any] = {"days": days} if since is None else {"since": since}
    if file is not None:
        body["rules"] = read(file)
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        tried = api.post(f"handlers/{found['id']}/rules/dry-run", body)
    if as_json:
        printing.as_json(tried)
        return
    doubt = f", {tried['unsure']:,} of them in doubt" if tried["unsure"] else ""
    of = f"of the last {counted(days, 'day')}" if since is None else f"since {since}"
    printing.say(
        f"Of {counted(tried['looked_at'], 'mail')} {of} this would take {tried['taken']:,}{doubt}."
    )
    if tried["had"]:
        printing.say(f"It has {tried['had']:,} of these already.")
    if tried["to_deliver"]:
        what = counted(
            tried["to_deliver"], "mail that it does not have is", "mails that it does not have are"
        )
        unsure = tried["to_deliver_unsure"]
        if unsure:
            what = f"Up to {what}"
        fitting = f": of the {unsure:,} in doubt those that fit" if unsure else ""
        printing.say(
            f"{what} delivered by `posthouse handlers rules deliver {found['name']} --since "
            f"{since or tried['since'][:10]}` once the rules are saved, and not before{fitting}."
        )
    if tried["held"]:
        fit = counted(tried["held"], "other mail fits", "other mails fit")
        printing.say(f"{fit} the rules and stay with another handler of its group.")
    if not tried["complete"]:
        printing.say(f"Time ran out: looked at back to {tried['back_to']}.", "yellow")
    if tried["not_kept"]:
        printing.say(tried["not_kept"], "yellow")
    rows = [(*_past(mail), "yes" if mail["had"] else "no") for mail in tried["listed"]]
    columns = ("id", "downloaded", "from", "subject")
    if rows:
        printing.say("It would take, the newest first:", "bold")
    printing.table((*columns, "has it"), rows, empty="It would take none.")
    others = [(*_past(mail), mail["reason"]) for mail in tried["left_out"]]
    if others:
        printing.say("It would not take:", "bold")
        printing.table((*columns, "reason"), others, empty="")


@app.command()
def deliver(
    name: Name,
    since: Annotated[str, typer.Option(help="A date or time: mails downloaded since then.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delivers past mails that the saved rules take and that the handler did not get: those that a
    dry run of the saved rules since then says."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        question = "" if yes else _question(api, found, since)
        printing.confirm(question, yes=yes)
        count = 0
        body: dict[str, Any] = {"since": since}
        while True:
            done = api.post(f"handlers/{found['id']}/deliver-since", body)
            count += int(done["count"])
            if not done["next"]:
                break
            body["before"] = done["next"]
    if as_json:
        printing.as_json({"count": count})
    else:
        moved = counted(count, "mail is", "mails are")
        printing.say(f"{moved} on the way; the rules are asked once more of each.")


def _question(api: Api, handler: dict[str, Any], since: str) -> str:
    """Before past mails are delivered: to how many that leads."""
    tried = api.post(f"handlers/{handler['id']}/rules/dry-run", {"since": since, "listed": 0})
    most = "up to " if tried["to_deliver_unsure"] else ""
    more = "" if tried["complete"] else f" since {tried['back_to'][:10]}, and older ones,"
    return f"Deliver {most}{counted(tried['to_deliver'], 'past mail')}{more} to {handler['name']}?"


def _past(mail: dict[str, Any]) -> tuple[Any, ...]:
    return mail["id"], printing.when(mail["downloaded_at"]), mail["sender"], mail["subject"]


def read(file: Path) -> dict[str, Any]:
    """The rules that a file holds, as the API takes them. Raises InvalidInput."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", field="file") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} holds no rules: accept, reject, expression.", field="file")
    if list(found) == ["rules"] and isinstance(found["rules"], dict):
        return found["rules"]  # as they stand in a file for `apply`, and in the API
    return found


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        printing.as_json(found["rules"])
        return
    if not found["sentences"]:
        printing.say("No rules: it takes every mail of its connections.")
        return
    for number, sentence in enumerate(found["sentences"], 1):
        printing.say(f"{number}. {sentence}")
    kept = {part: value for part, value in found["rules"].items() if value}
    printing.say(yaml.safe_dump(kept, allow_unicode=True, sort_keys=False).rstrip(), "dim")
