"""`posthouse credentials`: the OAuth2 clients that connections log in with."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import printing
from cli.api_commands import ApiCommands
from cli.arguments import Settings, Words, fields, search_words
from cli.client import Api
from cli.named_objects import Name, add_delete_command, print_list
from cli.printing import AsJson

app = typer.Typer(
    cls=ApiCommands, help="The OAuth2 clients that connections log in with.", no_args_is_help=True
)


@app.command("list")
def list_credentials(
    words: Words = None,
    query: Annotated[str, typer.Option("--query", "-q", help="Part of name or client id.")] = "",
    as_json: AsJson = False,
) -> None:
    """Shows the credentials and how many connections use them."""
    query = search_words(words, query)
    with Api.from_environment() as api:
        found = api.get("credentials", q=query)["items"]
    print_list(
        found,
        as_json,
        {
            "id": lambda c: c["id"],
            "name": lambda c: c["name"],
            "provider": lambda c: c["provider"],
            "grant": lambda c: c["grant"],
            "client id": lambda c: c["client_id"],
            "secret until": lambda c: (c["secret_expires_at"] or "")[:10],
            "uses": lambda c: c["uses"],
        },
    )


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Shows one credential, its redirect address, and who uses it."""
    with Api.from_environment() as api:
        _print(api.named("credentials", name), as_json)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    provider: Annotated[str, typer.Option(help="google or microsoft")],
    client_id: Annotated[str, typer.Option(help="As the provider shows it.")] = "",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Adds a credential. Give its secret as --set client_secret=env:NAME (or file:PATH)."""
    body = {"name": name, "provider": provider, "client_id": client_id} | fields(settings)
    with Api.from_environment() as api:
        _print(api.post("credentials", body), as_json)


@app.command()
def edit(name: Name, settings: Settings = None, as_json: AsJson = False) -> None:
    """Changes fields; secrets that are not given stay."""
    with Api.from_environment() as api:
        found = api.named("credentials", name)
        _print(api.patch(f"credentials/{found['id']}", fields(settings)), as_json)


add_delete_command(
    app, "credentials", "credential", "Deletes a credential that no connection uses."
)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        printing.as_json(found)
        return
    names = ("id", "name", "provider", "grant", "client_id", "tenant", "cloud", "redirect_uri")
    printing.pairs(
        [
            *((name.replace("_", " "), found[name]) for name in names),
            ("consent link", found["admin_consent_url"] or None),
            ("secret", found["has_client_secret"]),
            ("certificate", found["has_client_certificate"]),
            ("secret until", found["secret_expires_at"]),
            ("used by", ", ".join(user["name"] for user in found["used_by"] or ())),
        ]
    )
