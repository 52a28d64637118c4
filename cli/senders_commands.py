"""`posthouse senders`: whose signatures count without a trust anchor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import printing
from cli.api_commands import ApiCommands
from cli.client import Api
from cli.named_objects import add_distrust_command, print_list
from cli.printing import AsJson

app = typer.Typer(
    cls=ApiCommands, help="Whose signatures count without a trust anchor.", no_args_is_help=True
)


@app.command("list")
def list_senders(as_json: AsJson = False) -> None:
    """Shows the senders whose OpenPGP keys and certificates are known."""
    with Api.from_environment() as api:
        found = api.get("sender-keys")
    print_list(
        found,
        as_json,
        {
            "id": lambda s: s["id"],
            "name": lambda s: s["name"],
            "kind": lambda s: s["kind"],
            "addresses": lambda s: ", ".join(s["emails"]),
            "until": lambda s: "revoked" if s["revoked"] else (s["not_after"] or "never")[:10],
            "fingerprint": lambda s: s["fingerprint"],
        },
        empty="None yet: no OpenPGP signature is valid.",
    )


@app.command()
def add(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="OpenPGP, PEM or DER.")],
    name: Annotated[str, typer.Option(help="Default: its address.")] = "",
) -> None:
    """Knows the senders whose public keys or certificates are in a file."""
    with Api.from_environment() as api:
        made = api.post(
            "sender-keys", files={"file": (file.name, file.read_bytes())}, data={"name": name}
        )
    for one in made:
        printing.say(f"{one['name']} is known from now on.")


add_distrust_command(
    app, "sender-keys", "sender", "know", "Knows a sender no longer.", group="senders"
)
