"""`posthouse webhooks`: where alerts go, and what was told to whom."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import showing
from cli.given import referred
from cli.objects import Name, deletable, listed
from cli.remote import Api
from cli.showing import AsJson

app = typer.Typer(help="Where alerts go, and what was told to whom.", no_args_is_help=True)
_REFERENCE = "env:NAME|file:PATH"


@app.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """Shows the webhooks, never their addresses: those are secrets."""
    with Api.from_environment() as api:
        found = api.get("webhooks")["items"]
    listed(
        found,
        as_json,
        {
            "id": lambda h: h["id"],
            "name": lambda h: h["name"],
            "form": lambda h: h["template"],
            "state": lambda h: ("enabled", "green") if h["enabled"] else ("disabled", "dim"),
            "signed": lambda h: h["has_secret"],
        },
    )


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    url: Annotated[str, typer.Option(metavar=_REFERENCE, help="Where its address is.")],
    form: Annotated[str, typer.Option(help="json, slack, teams or opsgenie")] = "json",
    secret: Annotated[
        str | None, typer.Option(metavar=_REFERENCE, help="Where the signing secret is.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Adds a webhook: it is told of every alert from now on."""
    body = {"name": name, "url": referred(url, "url"), "template": form}
    if secret:
        body["secret"] = referred(secret, "secret")
    with Api.from_environment() as api:
        made = api.post("webhooks", body)
    if as_json:
        showing.as_json(made)
    else:
        showing.say(f"{made['name']} is told of every alert from now on.")


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
    showing.say(f"A test is on its way to {found['name']}.")


deletable(app, "webhooks", "webhook", "Deletes a webhook and its lines of the log.")


@app.command()
def alerts(
    limit: Annotated[int, typer.Option(min=1, max=500)] = 30, as_json: AsJson = False
) -> None:
    """Shows the latest alerts and whether each was told."""
    with Api.from_environment() as api:
        found = api.get("webhooks/alerts", limit=limit)
    listed(
        found,
        as_json,
        {
            "when": lambda a: a["at"][:19].replace("T", " "),
            "what": lambda a: a["text"],
            "told": lambda a: (
                "\n".join(f"{line['webhook']}: {line['error'] or 'ok'}" for line in a["deliveries"])
                or ("on its way" if a["open"] else "nobody")
            ),
        },
        empty="No alert yet.",
    )


def _switch(name: str, *, enabled: bool) -> None:
    with Api.from_environment() as api:
        found = api.named("webhooks", name)
        api.patch(f"webhooks/{found['id']}", {"enabled": enabled})
    showing.say(f"{found['name']} is {'enabled' if enabled else 'disabled'}.")
