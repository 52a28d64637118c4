"""`posthouse handlers forward`: where the forwarder passes a handler's events on to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import printing
from cli.api_commands import ApiCommands
from cli.arguments import read_reference
from cli.client import Api
from cli.named_objects import Name
from cli.printing import AsJson, Yes
from shared.errors import InvalidInput, NotFound

app = typer.Typer(
    cls=ApiCommands, help="Where a handler's events are passed on to.", no_args_is_help=True
)
_REFERENCE = "env:NAME|file:PATH"

To = Annotated[
    str | None,
    typer.Option(
        metavar="URL|env:NAME|file:PATH",
        help="Where events go: https://…, tls://… (NATS) or kafka+ssl://….",
    ),
]
Credential = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=env:NAME|file:PATH",
        help="A secret of the login: username, password, token, nkey or creds; repeat it.",
    ),
]
Secret = Annotated[
    str | None, typer.Option(metavar=_REFERENCE, help="The signing secret; default: a new one.")
]
Header = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=env:NAME|file:PATH", help="A further header field; repeat it."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Any option of the API; repeat it."),
]


@app.command("set")
def set_forward(
    name: Name,
    to: To = None,
    secret: Secret = None,
    header: Header = None,
    credential: Credential = None,
    client_certificate: Annotated[
        str | None, typer.Option(metavar=_REFERENCE, help="PEM with its key.")
    ] = None,
    ca_certificate: Annotated[
        Path | None, typer.Option(help="PEM file of a private authority.")
    ] = None,
    given: Options = None,
    test_first: Annotated[
        bool, typer.Option("--test", help="Send a test event first; save only if it is taken.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Forwards a handler's events, or changes how; what is not named stays as it is."""
    forward: dict[str, Any] = options(given)
    if to is not None:
        forward["address"] = address(to)
    if secret is not None:
        forward["secret"] = read_reference(secret, "secret")
    if header is not None:
        forward["headers"] = dict(_header(one) for one in header)
    if credential is not None:
        forward["credentials"] = dict(_header(one) for one in credential)
    if client_certificate is not None:
        forward["client_certificate"] = read_reference(client_certificate, "client_certificate")
    if ca_certificate is not None:
        forward["ca_certificate"] = read_reference(f"file:{ca_certificate}", "ca_certificate")
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        if test_first:
            tested = api.post(f"handlers/{found['id']}/forward/test", {"forward": forward})
            if not tested["ok"]:
                raise InvalidInput(f"Not saved: {tested['detail']} {tested['answer']}".strip())
        _print(api.patch(f"handlers/{found['id']}", {"forward": forward}), as_json)


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Shows where a handler's events go."""
    with Api.from_environment() as api:
        _print(api.named("handlers", name), as_json)


@app.command()
def end(name: Name, yes: Yes = False) -> None:
    """Forwards no more: what waits stays in the handler's queue, for a program of its own."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        printing.confirm(f"Forward nothing of {found['name']!r} any more?", yes=yes)
        api.patch(f"handlers/{found['id']}", {"forward": None})
    printing.say("Its events stay in its queue from now on.")


@app.command()
def test(name: Name, as_json: AsJson = False) -> None:
    """Sends one made-up event there, and shows how it was taken."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        tested = api.post(f"handlers/{found['id']}/forward/test")
    if as_json:
        printing.as_json(tested)
    else:
        word = ("taken", "green") if tested["ok"] else (tested["detail"], "red")
        rows = [("result", word), ("status", tested["status"]), ("answer", tested["answer"])]
        printing.pairs([*rows, ("seconds", f"{tested['seconds']:.3f}")])
    if not tested["ok"]:
        raise typer.Exit(1)


@app.command()
def pause(name: Name, reason: Annotated[str, typer.Option(help="For the others.")] = "") -> None:
    """Sends nothing until it is resumed; what comes waits in the queue."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        api.post(f"handlers/{found['id']}/forward/pause", {"reason": reason})
    printing.say(f"{found['name']} is paused.")


@app.command()
def resume(name: Name) -> None:
    """Sends what waits, and what comes."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        api.post(f"handlers/{found['id']}/forward/resume")
    printing.say(f"{found['name']} is forwarded again.")


@app.command("secret")
def renew_secret(
    name: Name,
    end_former: Annotated[
        bool, typer.Option("--end-former", help="Make none; end the one before the present one.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Makes a new signing secret and shows it, once; both are signed with until --end-former."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        path = f"handlers/{found['id']}/forward/secret"
        if end_former:
            printing.confirm("Receivers with the former secret refuse events. Go on?", yes=yes)
            api.delete(f"{path}/former")
            _print(api.named("handlers", name), as_json)
        else:
            _print(api.post(path), as_json)


@app.command()
def log(
    name: Name,
    outcome: Annotated[
        str, typer.Option(help="delivered, failed, dead or paused; default: all")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 30,
    as_json: AsJson = False,
) -> None:
    """Shows the newest attempts to pass events on."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        path = f"handlers/{found['id']}/forward/attempts"
        lines = api.get(path, outcome=outcome, limit=limit)["items"]
    if as_json:
        printing.as_json(lines)
        return
    rows = [
        (
            one["at"][:19].replace("T", " "),
            (one["outcome"], "green" if one["outcome"] == "delivered" else "red"),
            one["status"],
            f"{one['seconds']:.3f} s",
            one["event_id"],
            one["detail"] or one["answer"][:100],
        )
        for one in lines
    ]
    heads = ("when", "outcome", "status", "took", "event", "answer")
    printing.table(heads, rows, empty="No attempt yet.")


def address(given: str) -> str:
    """An address as it was given: itself, or where it is."""
    return read_reference(given, "address") if given.startswith(("env:", "file:")) else given


def summary(forward: dict[str, Any] | None) -> str | None:
    """One line of a handler's forward."""
    if forward is None:
        return None
    paused = f", paused: {forward['pause_reason']}" if forward["paused_at"] else ""
    where = forward["subject"] or forward["topic"] or forward["format"]
    return f"{forward['place']} ({forward['kind']}, {where}){paused}"


def secret_row(forward: dict[str, Any] | None) -> list[tuple[str, Any]]:
    """The secret where the answer has it."""
    if forward is None or not forward["secret"]:
        return []
    return [("forward secret", (forward["secret"], "bold"))]


def print_secret(forward: dict[str, Any] | None) -> None:
    if forward is not None and forward["secret"]:
        printing.say(
            "The forward secret is shown this once. Receivers verify with it (Standard Webhooks).",
            "yellow",
        )


def _print(found: dict[str, Any], as_json: bool) -> None:
    forward = found["forward"]
    if forward is None:
        raise NotFound(f"{found['name']} is not forwarded.")
    if as_json:
        printing.as_json(forward)
        return
    hidden = {"secret", "ca_certificate", "place", "paused_at", "paused_by", "pause_reason"}
    rows = [("handler", found["name"]), ("forwarded to", summary(forward))]
    rows += [
        (key.replace("_", " "), ", ".join(value) if isinstance(value, list) else value)
        for key, value in forward.items()
        if key not in hidden
    ]
    printing.pairs([*rows, *secret_row(forward)])
    print_secret(forward)


def options(settings: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not equals:
            raise InvalidInput(f"{setting!r} is not of the form FIELD=VALUE.", field="set")
        found[key.strip()] = int(text) if text.isdecimal() else text
    return found


def _header(given: str) -> tuple[str, str]:
    key, equals, text = given.partition("=")
    if not equals:
        raise InvalidInput(f"{key!r} is not of the form NAME=env:NAME.", field=key.strip())
    return key.strip(), read_reference(text, "header") if text.startswith(
        ("env:", "file:")
    ) else text
