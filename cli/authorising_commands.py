"""`posthouse connections authorize`, `revoke` and `links`: logins at a provider, by whom."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import printing
from cli.api_commands import ApiCommands
from cli.client import Api
from cli.named_objects import Name, print_list
from cli.printing import AsJson, Yes

links = typer.Typer(
    cls=ApiCommands,
    help="Links with which the owner of a mailbox, who has no account here, authorises it.",
    no_args_is_help=True,
)


def authorize(name: Name) -> None:
    """Says where a connection with OAuth2 is authorised: in the browser, on its page."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
    page = f"{api.url}/connections/{found['id']}"
    printing.say(f"Open this page and press Authorise: {page}")
    printing.say("For an owner who has no account here: posthouse connections links add", "dim")


def revoke(name: Name, yes: Yes = False) -> None:
    """Revokes a connection's authorisation; nothing is fetched until somebody authorises."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        printing.confirm(f"Revoke the authorisation of {found['name']!r}?", yes=yes)
        confirmed = api.post(f"connections/{found['id']}/revoke")["confirmed"]
    printing.say("The authorisation is revoked.")
    if not confirmed:
        printing.say(
            "The provider did not confirm it: remove Posthouse on its account page, too.", "yellow"
        )


@links.command("add")
def add_link(
    name: Name,
    days: Annotated[int, typer.Option(min=1, max=30, help="How long it is good for.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Makes a link to send to the owner: for one login at the provider, shown this once."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        made = api.post(f"connections/{found['id']}/authorisation-links", {"days": days})
    if as_json:
        printing.as_json(made)
        return
    printing.say(f"Send this to {found['username']}; it is good until {made['expires_at']}:", "dim")
    typer.echo(made["url"])


@links.command("list")
def list_links(name: Name, as_json: AsJson = False) -> None:
    """Shows the links of a connection and what became of them, newest first."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        made = api.get(f"connections/{found['id']}/authorisation-links")
    columns = {
        "id": lambda one: one["id"],
        "state": lambda one: one["state"],
        "made": lambda one: printing.when(one["created_at"]),
        "by": lambda one: one["created_by"],
        "good until": lambda one: printing.when(one["expires_at"]),
        "logged in": lambda one: one["account"],
    }
    print_list(made, as_json, columns)


@links.command("revoke")
def revoke_link(
    name: Name, link: Annotated[int, typer.Argument(help="Its id.", min=1)], as_json: AsJson = False
) -> None:
    """Revokes a link: it opens nothing any more."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        revoked = api.delete(f"connections/{found['id']}/authorisation-links/{link}")
    if as_json:
        printing.as_json(revoked)
    else:
        printing.say(f"The link is {revoked['state']}.")
