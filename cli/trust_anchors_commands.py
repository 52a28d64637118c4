"""`posthouse trust-anchors`: whom signatures are trusted from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import printing
from cli.api_commands import ApiCommands
from cli.client import Api
from cli.named_objects import add_distrust_command, print_list
from cli.printing import AsJson

app = typer.Typer(cls=ApiCommands, help="Whom signatures are trusted from.", no_args_is_help=True)


@app.command("list")
def list_trust_anchors(as_json: AsJson = False) -> None:
    """Shows the certificates that signatures are trusted from."""
    with Api.from_environment() as api:
        found = api.get("trust-anchors")
    print_list(
        found,
        as_json,
        {
            "id": lambda a: a["id"],
            "name": lambda a: a["name"],
            "subject": lambda a: a["subject"],
            "until": lambda a: (a["not_after"] or "")[:10],
            "fingerprint": lambda a: a["fingerprint"],
        },
        empty="None was added: S/MIME signatures are valid for known senders alone, unless "
        "POSTHOUSE_TRUST_SYSTEM is set.",
    )


@app.command()
def add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="PEM or DER.")],
    name: Annotated[str, typer.Option(help="Default: its subject.")] = "",
) -> None:
    """Trusts the certificates in a file."""
    with Api.from_environment() as api:
        made = api.post(
            "trust-anchors", files={"file": (file.name, file.read_bytes())}, data={"name": name}
        )
    for one in made:
        printing.say(f"{one['name']} is trusted from now on.")


@app.command("lists")
def show_lists(as_json: AsJson = False) -> None:
    """Shows the revocation lists of authorities, how old they are, and which cannot be fetched."""
    with Api.from_environment() as api:
        found = api.get("revocation-lists")
    print_list(
        found,
        as_json,
        {
            "id": lambda one: one["id"],
            "authority": lambda one: one["issuer_name"],
            "from": lambda one: one["address"] or "given by hand",
            "as of": lambda one: (one["as_of"] or "")[:16],
            "until": lambda one: (one["next_update"] or "")[:16],
            "error": lambda one: one["error"],
        },
        empty="None yet: they are fetched after a mail whose signer a trust anchor vouches for.",
    )


@app.command("add-list")
def add_list(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A CRL, PEM or DER.")],
) -> None:
    """Takes a revocation list of an authority by hand, where it cannot be fetched."""
    with Api.from_environment() as api:
        made = api.post("revocation-lists", files={"file": (file.name, file.read_bytes())})
    printing.say(f"The list of {made['issuer_name']} counts until {made['next_update'][:10]}.")


add_distrust_command(
    app,
    "trust-anchors",
    "trust anchor",
    "trust",
    "Trusts an anchor no longer.",
    group="trust-anchors",
)
