"""`posthouse webhooks`: where alerts go, and which were sent there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cli import printing
from cli.api_commands import ApiCommands
from cli.arguments import read_reference
from cli.client import Api
from cli.named_objects import Name, add_delete_command, print_list
from cli.printing import AsJson
from shared.errors import InvalidInput
from shared.quantities import counted

app = typer.Typer(
    cls=ApiCommands, help="Where alerts go, and what was told to whom.", no_args_is_help=True
)
_REFERENCE = "env:NAME|file:PATH"
#: The second is its name in release 0.1.0.
_TEMPLATE = ("--template", "--form")
_TEMPLATES = "json, slack, teams or opsgenie"
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        help="A kind of alert that it is told of, with its end, such as connection-failing; "
        "repeat it. `all`: every kind, as without it.",
    ),
]


@app.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """Shows the webhooks, never their addresses: those are secrets."""
    with Api.from_environment() as api:
        found = api.get("webhooks")["items"]
    print_list(
        found,
        as_json,
        {
            "id": lambda h: h["id"],
            "name": lambda h: h["name"],
            "template": lambda h: h["template"],
            "told of": lambda h: ", ".join(h["kinds"]) or "every kind",
            "state": _state,
            "signed": lambda h: h["has_secret"],
        },
    )


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    url: Annotated[str, typer.Option(metavar=_REFERENCE, help="Where its address is.")],
    template: Annotated[str, typer.Option(*_TEMPLATE, help=_TEMPLATES)] = "json",
    secret: Annotated[
        str | None, typer.Option(metavar=_REFERENCE, help="Where the signing secret is.")
    ] = None,
    kind: Kinds = None,
    as_json: AsJson = False,
) -> None:
    """Adds a webhook: alerts are sent to it from now on."""
    body: dict[str, Any] = {"name": name, "url": read_reference(url, "url"), "template": template}
    body["kinds"] = [] if kind == ["all"] else kind or []
    if secret:
        body["secret"] = read_reference(secret, "secret")
    with Api.from_environment() as api:
        made = api.post("webhooks", body)
    if as_json:
        printing.as_json(made)
    else:
        told = (
            f"alerts of {counted(len(made['kinds']), 'kind')}" if made["kinds"] else "every alert"
        )
        printing.say(f"{made['name']} is told of {told} from now on.")


@app.command()
def edit(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name", help="What it is called.")] = None,
    url: Annotated[
        str | None, typer.Option(metavar=_REFERENCE, help="Where its new address is.")
    ] = None,
    template: Annotated[str | None, typer.Option(*_TEMPLATE, help=_TEMPLATES)] = None,
    secret: Annotated[
        str | None, typer.Option(metavar=_REFERENCE, help="Where its new signing secret is.")
    ] = None,
    kind: Kinds = None,
    as_json: AsJson = False,
) -> None:
    """Changes what is given; a new address needs its secret again."""
    given: dict[str, Any] = {"name": new_name, "template": template}
    given["url"] = read_reference(url, "url") if url else None
    given["secret"] = read_reference(secret, "secret") if secret else None
    given["kinds"] = [] if kind == ["all"] else kind or None
    body = {field: value for field, value in given.items() if value is not None}
    if not body:
        raise InvalidInput("Say what shall change.", field="name", hint="See --help.")
    changed = _change(name, body)
    if as_json:
        printing.as_json(changed)
    else:
        printing.say(f"{changed['name']} is changed.")


@app.command()
def mute(
    name: Name,
    hours: Annotated[
        float, typer.Option("--hours", min=0.01, max=8760, help="For how long.")
    ] = 1.0,
) -> None:
    """Tells it nothing for a time, and nothing of that time later."""
    until = datetime.now(UTC) + timedelta(hours=hours)
    changed = _change(name, {"muted_until": until.isoformat(timespec="seconds")})
    printing.say(f"{changed['name']} is told nothing until {until:%Y-%m-%d %H:%M} UTC.")


@app.command()
def unmute(name: Name) -> None:
    """Tells it of alerts again."""
    printing.say(f"{_change(name, {'muted_until': None})['name']} is told of alerts again.")


@app.command()
def enable(name: Name) -> None:
    """Tells it of alerts again."""
    _switch(name, enabled=True)


@app.command()
def disable(name: Name) -> None:
    """Tells it nothing until it is enabled again."""
    _switch(name, enabled=False)


@app.command()
def test(name: Name) -> None:
    """Sends it a test; `posthouse webhooks alerts` shows how that went."""
    with Api.from_environment() as api:
        found = api.named("webhooks", name)
        api.post(f"webhooks/{found['id']}/test")
    printing.say(f"A test is on its way to {found['name']}.")


add_delete_command(app, "webhooks", "webhook", "Deletes a webhook and its lines of the log.")


@app.command()
def alerts(
    limit: Annotated[int, typer.Option(min=1, max=500)] = 30, as_json: AsJson = False
) -> None:
    """Shows the latest alerts and whether each was told."""
    with Api.from_environment() as api:
        found = api.get("webhooks/alerts", limit=limit)
    print_list(
        found,
        as_json,
        {
            "when": lambda a: a["at"][:19].replace("T", " "),
            "what": lambda a: a["text"],
            "told": lambda a: (
                "\n".join(f"{line['webhook']}: {line['error'] or 'ok'}" for line in a["deliveries"])
                or ("not told yet" if a["open"] else "nobody")
            ),
        },
        empty="No alert yet.",
    )


def _switch(name: str, *, enabled: bool) -> None:
    changed = _change(name, {"enabled": enabled})
    printing.say(f"{changed['name']} is {'enabled' if enabled else 'disabled'}.")


def _change(name: str, body: dict[str, Any]) -> dict[str, Any]:
    with Api.from_environment() as api:
        found = api.named("webhooks", name)
        changed: dict[str, Any] = api.patch(f"webhooks/{found['id']}", body)
    return changed


def _state(hook: Mapping[str, Any]) -> tuple[str, str]:
    if not hook["enabled"]:
        return ("disabled", "dim")
    if hook["muted_until"]:
        return (f"muted until {hook['muted_until'][:16].replace('T', ' ')}", "yellow")
    return ("enabled", "green")
