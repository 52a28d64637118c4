"""`posthouse handlers`: the programs that take mails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import dead_letters_commands, forward_commands, printing, rules_commands
from cli.api_commands import ApiCommands
from cli.client import Api
from cli.named_objects import Name, print_list
from cli.printing import AsJson, Yes
from shared.handlers import SILENT_S

app = typer.Typer(cls=ApiCommands, help="The programs that take mails.", no_args_is_help=True)
app.add_typer(rules_commands.app, name="rules")
app.add_typer(forward_commands.app, name="forward")
Connections = Annotated[
    list[str] | None,
    typer.Option("--connection", "-c", help="Name or id of a connection; repeat it."),
]
Enabled = Annotated[
    bool | None,
    typer.Option(
        "--enabled/--disabled",
        show_default=False,
        help="A disabled one gets no new mails; what waits in its queue stays.",
    ),
]
Description = Annotated[str | None, typer.Option(show_default=False)]
Group = Annotated[
    str | None,
    typer.Option(help="Of its handlers the first that accepts has a mail; empty: none."),
]
Position = Annotated[
    int | None,
    typer.Option(min=0, help="Its place in the group: the lowest first, of equal ones the oldest."),
]


def _state(found: Mapping[str, Any]) -> tuple[str, str]:
    if not found["enabled"]:
        return "disabled", "dim"
    if found["forward"] and found["forward"]["fails"]:
        return "endpoint takes nothing", "red"
    return ("nobody reads it", "red") if found["queue"]["nobody_reads"] else ("enabled", "green")


@app.command("list")
def list_handlers(as_json: AsJson = False) -> None:
    """Shows the handlers and how far behind they are."""
    with Api.from_environment() as api:
        found = api.get("handlers")["items"]
    print_list(
        found,
        as_json,
        {
            "id": lambda h: h["id"],
            "name": lambda h: h["name"],
            "state": _state,
            "connections": lambda h: "all" if h["connections"] == "all" else len(h["connections"]),
            "to publish": lambda h: h["waiting"],
            "backlog": lambda h: h["queue"]["backlog"],
            "oldest": lambda h: printing.when(h["queue"]["oldest_at"]),
            "dead letters": lambda h: h["queue"]["dead_letters"],
        },
        empty="No handler yet: nothing is downloaded before there is one.",
    )


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Shows one handler, its queue and how to subscribe."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        work = api.get(f"handlers/{found['id']}/work")
    if as_json:
        printing.as_json(found | {"work": work})
        return
    _print(found, as_json)
    for one in found["queue"]["consumers"] or ():
        held = "" if one["in_hand"] is None else f", {one['in_hand']} in hand"
        silent = one["idle_s"] if (one["idle_s"] or 0) > SILENT_S else None
        said = "" if silent is None else f", silent for {printing.span(silent)}"
        printing.say(f"consumer {one['name']}{held}{said}")
    for one in work["in_hand"]:
        what = one["subject"] or "(no subject)"
        printing.say(f"in hand of {one['consumer']} since {printing.when(one['since'])}: {what}")
    for one in work["waiting"]:
        what = one["subject"] or "(no subject)"
        printing.say(f"waits since {printing.when(one['published_at'])}: {what}")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and hyphens: part of its queue's name.")],
    connections: Connections = None,
    description: Description = None,
    enabled: Enabled = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Which mails it takes, from the first on: YAML or JSON, as `rules set` reads it.",
        ),
    ] = None,
    group: Group = None,
    position: Position = None,
    forward_to: Annotated[
        str | None,
        typer.Option(
            metavar="URL|env:NAME|file:PATH",
            help="Pass its events on (https://… signed, tls://… to NATS, kafka+ssl://…), so that "
            "no program has to consume its queue.",
        ),
    ] = None,
    forward_set: forward_commands.Options = None,
    broker_account: Annotated[
        bool,
        typer.Option(
            "--broker-account", help="Make an account of the broker that opens its queue alone."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Adds a handler, for all connections unless some are named. Shows its secrets, once.

    Without --disabled it takes mails at once: those that --rules take, or all. To try rules on past
    mails first, add it --disabled, then `rules dry-run`, `rules set` and `edit --enabled`.
    """
    given = {} if rules is None else {"rules": rules_commands.read(rules)}
    with Api.from_environment() as api:
        body: dict[str, Any] = {"name": name, "connections": "all", **given}
        body |= _changes(api, connections, description, enabled) | _place(group, position)
        if forward_to is not None:
            address = forward_commands.address(forward_to)
            body["forward"] = {**forward_commands.options(forward_set), "address": address}
        made = api.post("handlers", body)
        if not broker_account:
            _print(made, as_json)
            return
        account = api.post(f"handlers/{made['id']}/broker-account")
        if as_json:
            printing.as_json(made | {"broker_account": account})
        else:
            _print(made, as_json)
            _print_account(account)


@app.command()
def edit(
    name: Name,
    connections: Connections = None,
    everything: Annotated[bool, typer.Option("--all", help="Take all connections.")] = False,
    description: Description = None,
    enabled: Enabled = None,
    group: Group = None,
    position: Position = None,
    as_json: AsJson = False,
) -> None:
    """Changes what a handler takes, or switches it on or off."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        changes = _changes(api, connections, description, enabled) | _place(group, position)
        changes |= {"connections": "all"} if everything else {}
        _print(api.patch(f"handlers/{found['id']}", changes), as_json)


@app.command()
def token(name: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Makes a new token for a handler and shows it, once; the old one stops working."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        printing.confirm(f"The present token of {found['name']} stops working. Go on?", yes=yes)
        _print(api.post(f"handlers/{found['id']}/token"), as_json)


@app.command("signing-key")
def signing_key(
    name: Name,
    end_former: Annotated[
        bool, typer.Option("--end-former", help="Make none; end the one before the present one.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Makes a new signing key for a handler and shows it, once.

    Events are signed with the new and the former key until `--end-former`.
    """
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        address = f"handlers/{found['id']}/signing-key"
        if end_former:
            question = f"Programs of {found['name']} that only have the former key stop. Go on?"
            printing.confirm(question, yes=yes)
            api.delete(f"{address}/former")
            _print(api.named("handlers", name), as_json)
            return
        if found["has_former_signing_key"]:
            printing.confirm("The key before the present one ends by this. Go on?", yes=yes)
        _print(api.post(address), as_json)


@app.command("broker-account")
def broker_account(name: Name, as_json: AsJson = False) -> None:
    """Makes an account of the broker for a handler's program, or shows the commands that do.

    It consumes its own queue and nothing else. One that is there gets a new password.
    """
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        account = api.post(f"handlers/{found['id']}/broker-account")
    if as_json:
        printing.as_json(account)
    else:
        _print_account(account)


app.command("dead-letters")(dead_letters_commands.dead_letters)
app.command("deliver-again")(dead_letters_commands.deliver_again)
app.command("discard")(dead_letters_commands.discard)


@app.command()
def delete(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Although mails wait for it.")] = False,
    yes: Yes = False,
) -> None:
    """Deletes a handler."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        printing.confirm(f"Delete the handler {found['name']!r}?", yes=yes)
        api.delete(f"handlers/{found['id']}", force=force or None)
    printing.say("Deleted.")


def _changes(
    api: Api, connections: list[str] | None, description: str | None, enabled: bool | None
) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if connections:
        changes["connections"] = [api.named("connections", one)["id"] for one in connections]
    if description is not None:
        changes["description"] = description
    if enabled is not None:
        changes["enabled"] = enabled
    return changes


def _place(group: str | None, position: int | None) -> dict[str, Any]:
    given = {"group": group, "position": position}
    return {name: value for name, value in given.items() if value is not None}


def _print_account(account: dict[str, Any]) -> None:
    if not account["made"]:
        printing.say("Run these where you administer the broker:")
        for command in account["commands"]:
            printing.say(f"  {command}")
    printing.pairs([("user", account["user"]), ("password", (account["password"], "bold"))])
    if account["made"]:
        printing.say("The password is shown this once.", "yellow")
    if account["note"]:
        printing.say(account["note"], "yellow")


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        printing.as_json(found)
        return
    queue = found["queue"]
    printing.pairs(
        [
            ("name", f"{found['name']}  (id {found['id']})"),
            ("description", found["description"]),
            ("enabled", found["enabled"]),
            ("connections", found["connections"] if found["connections"] != "all" else "all"),
            ("rules", " ".join(found["sentences"]) or None),
            ("group", f"{found['group']}, place {found['position']}" if found["group"] else None),
            ("Redis stream", found["redis_stream"]),
            ("RabbitMQ queue", found["rabbitmq_queue"]),
            ("to publish", found["waiting"]),
            ("backlog", queue["backlog"]),
            ("oldest", printing.when(queue["oldest_at"])),
            ("last acknowledged", printing.when(queue["last_acknowledged_at"])),
            ("dead letters", queue["dead_letters"]),
            ("forwarded to", forward_commands.summary(found["forward"])),
            ("token", (found["token"], "bold") if found["token"] else None),
            ("signing key", (found["signing_key"], "bold") if found["signing_key"] else None),
            *forward_commands.secret_row(found["forward"]),
        ]
    )
    if found["token"]:
        printing.say(
            "The token is shown this once. It opens this handler's mails only: "
            "POSTHOUSE_HANDLER_TOKEN.",
            "yellow",
        )
    forward_commands.print_secret(found["forward"])
    if found["signing_key"]:
        printing.say(
            "The signing key is shown this once. Events are signed with it: POSTHOUSE_SIGNING_KEY.",
            "yellow",
        )
