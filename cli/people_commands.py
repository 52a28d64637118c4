"""`posthouse people`, `tokens` and `audit`: who may come in, and what they changed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import completing, printing
from cli.api_commands import ApiCommands
from cli.arguments import Words, prompted_secret, read_reference, search_words
from cli.client import Api
from cli.named_objects import Name, add_delete_command, print_list
from cli.printing import AsJson
from shared.untrusted_text import in_words

app = typer.Typer(cls=ApiCommands, help="Who may log in, and as what.", no_args_is_help=True)
tokens = typer.Typer(
    cls=ApiCommands, help="API tokens: how programs come in.", no_args_is_help=True
)
Role = Annotated[
    str | None,
    typer.Option(
        help="admin, operator or viewer", show_default=False, autocompletion=completing.roles
    ),
]
Email = Annotated[str | None, typer.Option(help="For single sign-on.", show_default=False)]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        help="Only connections with one of these tags; repeat it. --tag '' takes the bound away.",
        autocompletion=completing.tags,
    ),
]
Password = Annotated[
    str | None,
    typer.Option("--password", metavar="env:NAME|file:PATH", help="Where the password is."),
]


@app.command("list")
def list_people(as_json: AsJson = False) -> None:
    """Shows who may log in."""
    with Api.from_environment() as api:
        found = api.get("people")["items"]
    print_list(
        found,
        as_json,
        {
            "id": lambda p: p["id"],
            "name": lambda p: p["name"],
            "role": lambda p: p["role"],
            "tags": lambda p: ", ".join(p["tags"]),
            "state": lambda p: ("enabled", "green") if p["enabled"] else ("disabled", "dim"),
            "email": lambda p: p["email"],
            "last login": lambda p: printing.when(p["last_login_at"]),
        },
        empty="Nobody yet: the bootstrap token is the only way in.",
    )


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whom to let in.")],
    role: Role = None,
    tag: Tags = None,
    email: Email = None,
    password: Password = None,
    as_json: AsJson = False,
) -> None:
    """Lets somebody in. Asks for the password unless it is given."""
    given = read_reference(password, "password") if password else None
    body = _without_none(name=name, role=role, tags=_tags(tag), email=email, password=given)
    if given is None and not email:
        body["password"] = prompted_secret("Password", from_stdin=False)
    with Api.from_environment() as api:
        _print(api.post("people", body), as_json)


@app.command()
def edit(
    name: Name,
    role: Role = None,
    tag: Tags = None,
    email: Email = None,
    password: Password = None,
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Changes what is given; a new password ends the person's sessions."""
    given = read_reference(password, "password") if password else None
    changes = _without_none(
        role=role, tags=_tags(tag), email=email, password=given, enabled=enabled
    )
    with Api.from_environment() as api:
        found = api.named("people", name)
        _print(api.patch(f"people/{found['id']}", changes), as_json)


add_delete_command(
    app, "people", "person", "Lets somebody in no longer; ends the person's sessions."
)


@tokens.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """Shows the tokens, never what they are."""
    with Api.from_environment() as api:
        found = api.get("tokens")["items"]
    print_list(
        found,
        as_json,
        {
            "id": lambda t: t["id"],
            "name": lambda t: t["name"],
            "role": lambda t: t["role"],
            "tags": lambda t: ", ".join(t["tags"]),
            "now": _now,
            "made by": lambda t: t["created_by"],
            "until": lambda t: (t["expires_at"] or "no end")[:10],
            "last used": lambda t: printing.when(t["last_used_at"]),
        },
    )


@tokens.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="Which program it is for.")],
    role: Annotated[
        str, typer.Option(help="admin, operator or viewer", autocompletion=completing.roles)
    ] = "viewer",
    tag: Tags = None,
    days: Annotated[
        int | None, typer.Option(help="How long it is valid.", show_default="no end")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Makes a token and shows it: only this once."""
    with Api.from_environment() as api:
        made = api.post("tokens", _without_none(name=name, role=role, tags=_tags(tag), days=days))
    if as_json:
        printing.as_json(made)
        return
    typer.echo(made["token"])
    typer.echo("Copy it now: it is shown only this once.", err=True)


@tokens.command("take-over")
def take_over_token(name: Name, as_json: AsJson = False) -> None:
    """Makes a token yours: what it opens is bounded by what you may, not by who made it."""
    with Api.from_environment() as api:
        found = api.named("tokens", name)
        taken = api.post(f"tokens/{found['id']}/take-over", None)
    if as_json:
        printing.as_json(taken)
        return
    printing.say(f"{taken['name']} is yours now.")


add_delete_command(tokens, "tokens", "token", "Revokes a token: it opens nothing from now on.")


def audit(
    words: Words = None,
    query: Annotated[str, typer.Option("--query", "-q", help="Part of who, what or which.")] = "",
    subject: Annotated[str, typer.Option(help="Exactly this one, such as connection/7.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: AsJson = False,
) -> None:
    """Shows who changed what, newest first."""
    query = search_words(words, query)
    with Api.from_environment() as api:
        found = api.get("audit", q=query, subject=subject, limit=limit)["items"]
    print_list(
        found,
        as_json,
        {
            "when": lambda e: e["at"][:19].replace("T", " "),
            "who": lambda e: e["actor"],
            "did": lambda e: e["action"],
            "to": lambda e: e["subject"],
            "change": _change,
        },
        empty="Nothing was changed.",
    )


def _change(entry: Any) -> str:
    before, after = entry["before"] or {}, entry["after"] or {}
    if entry["before"] is None or entry["after"] is None:
        return ""
    names = sorted({*before, *after})
    return "; ".join(
        f"{name} {in_words(before.get(name))} → {in_words(after.get(name))}" for name in names
    )


def _now(token: Any) -> Any:
    """What a token opens at present, where that is not what it was made for."""
    now = token["now"]
    if now is None:
        return ("stopped", "red")
    if (now["role"], now["tags"]) == (token["role"], token["tags"]):
        return ""
    return ("held to " + " of ".join(filter(None, [now["role"], ", ".join(now["tags"])])), "yellow")


def _tags(given: list[str] | None) -> list[str] | None:
    return None if given is None else [one for one in given if one]


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        printing.as_json(found)
        return
    names = ("id", "name", "role", "tags", "email", "enabled", "last_login_at")
    printing.pairs(
        [
            (name.replace("_", " "), ", ".join(found[name]) if name == "tags" else found[name])
            for name in names
        ]
    )
