"""The `posthouse` command. Each group of subcommands has a module of its own beside this one."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any, Final, cast

import typer

from cli import (
    certificates_commands,
    connections_commands,
    credentials_commands,
    demo_commands,
    doctor,
    handlers_commands,
    messages_commands,
    overview,
    people_commands,
    quarantine_commands,
    secrets_commands,
    senders_commands,
    tail,
    trust_anchors_commands,
    up,
    webhooks_commands,
)
from cli.api_commands import ApiCommand
from cli.declared import commands as declared
from cli.suggesting import Commands
from shared.errors import InvalidInput, PosthouseError

_FAILED: Final = 1
_MISUSED: Final = 2
#: What typer raises for a command that is misused; BadParameter is the kind of it that is public.
_MISUSES: Final = cast("tuple[type[typer.BadParameter], ...]", typer.BadParameter.__bases__)

app = typer.Typer(
    name="posthouse",
    cls=Commands,
    help="Watches mailboxes and hands every new mail, decrypted, to the programs that act on it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up", rich_help_panel="Run")(up.up)
app.add_typer(demo_commands.app, name="demo", rich_help_panel="Run")
app.add_typer(secrets_commands.app, name="secrets", rich_help_panel="Administer")
app.add_typer(connections_commands.app, name="connections", rich_help_panel="Administer")
app.add_typer(certificates_commands.app, name="certificates", rich_help_panel="Administer")
app.add_typer(trust_anchors_commands.app, name="trust-anchors", rich_help_panel="Administer")
app.add_typer(senders_commands.app, name="senders", rich_help_panel="Administer")
app.add_typer(credentials_commands.app, name="credentials", rich_help_panel="Administer")
app.add_typer(handlers_commands.app, name="handlers", rich_help_panel="Administer")
app.add_typer(webhooks_commands.app, name="webhooks", rich_help_panel="Administer")
app.add_typer(people_commands.app, name="people", rich_help_panel="Administer")
app.add_typer(people_commands.tokens, name="tokens", rich_help_panel="Administer")
app.command("overview", cls=ApiCommand, rich_help_panel="Look")(overview.overview)
app.command("doctor", cls=ApiCommand, rich_help_panel="Look")(doctor.doctor)
app.command("audit", cls=ApiCommand, rich_help_panel="Look")(people_commands.audit)
app.command("apply", cls=ApiCommand, rich_help_panel="Administer")(declared.apply)
app.command("export", cls=ApiCommand, rich_help_panel="Administer")(declared.export)
app.add_typer(messages_commands.app, name="messages", rich_help_panel="Look")
app.add_typer(quarantine_commands.app, name="quarantine", rich_help_panel="Look")
app.command("tail", cls=ApiCommand, rich_help_panel="Look")(tail.tail)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the code an error came from.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from shared.telemetry.service_lifecycle import release

        typer.echo(f"posthouse {release()}")
        raise typer.Exit
    context.obj = {"debug": debug}


@app.command(rich_help_panel="Services")
def scheduler() -> None:
    """Sends due connections to the fetchers, sends lost jobs again, deletes what has aged out."""
    run_service("scheduler")


@app.command(rich_help_panel="Services")
def fetcher() -> None:
    """Downloads new mails, makes them durable, marks them on their server."""
    run_service("fetcher")


@app.command(rich_help_panel="Services")
def decryptor() -> None:
    """Opens and verifies mails and publishes their events to the handlers' queues."""
    run_service("decryptor")


@app.command(rich_help_panel="Services")
def forwarder() -> None:
    """Passes the events of handlers on to where their programs are."""
    run_service("forwarder")


@app.command(rich_help_panel="Services")
def admin() -> None:
    """Serves the API and the pages."""
    run_service("admin")


@app.command(rich_help_panel="Services")
def migrate(
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Change nothing: wait until somebody else has done it."
        ),
    ] = None,
    adopt_store: Annotated[
        bool,
        typer.Option(
            "--adopt-store",
            help="Also make the store at POSTHOUSE_STORE_URL this database's own: after it was "
            "moved or restored, never because a service merely refuses it.",
        ),
    ] = False,
) -> None:
    """Brings the database schema to this version, and the services' roles to what they need.

    Safe to run at any time, by any number."""
    from shared.settings import MigrationSettings, StoreSettings, load
    from shared.storage import schema
    from shared.storage.migrate import migrate as bring_up

    chosen = load(MigrationSettings)
    url = chosen.database_url.get_secret_value()
    if wait is None:
        version = bring_up(url, services=chosen.of_services())
    else:
        version = schema.wait_until_there(url, wait)
    typer.echo(f"The schema is at version {version}.")
    if adopt_store:
        from shared.storage.pool import Database
        from shared.store.open import open_store
        from shared.store_identity import adopt_store as adopt

        with Database(url, size=1) as database:
            identity = adopt(database, open_store(load(StoreSettings)))
        typer.echo(f"The store {identity} belongs to this database now.")


def run_service(name: str) -> None:
    from cli.run_service import run  # what a service needs is not loaded for any other command

    run(name)


def main() -> None:
    """The entry point: errors are written in words; exits 0, 1 (failed) or 2 (misused)."""
    debug = "--debug" in sys.argv or bool(os.environ.get("POSTHOUSE_DEBUG"))
    # Drawn for a terminal, help cuts what is wider than its columns: names of options, too.
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None
    try:
        if "--json" in sys.argv:
            _for_programs()
        else:
            app()
    except PosthouseError as error:
        if debug:
            raise
        if "--json" in sys.argv:
            say_error_as_json(error)
        else:
            say_error(error)
        sys.exit(_MISUSED if isinstance(error, InvalidInput) else _FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_FAILED)


def _for_programs() -> None:
    """Runs the command; what is misused (an unknown option, a missing argument) is raised as
    InvalidInput, in place of a text for people."""
    try:
        code = app(standalone_mode=False, prog_name="posthouse")
    except _MISUSES as error:
        where = getattr(getattr(error, "ctx", None), "command_path", "posthouse")
        name = getattr(getattr(error, "param", None), "name", None)
        raise InvalidInput(
            error.format_message(),
            field=name or "",
            hint=f"`{where} --help` says what there is.",
        ) from error
    except typer.Abort as error:
        raise PosthouseError("Nobody confirmed it.", code="not-confirmed") from error
    if isinstance(code, int):
        sys.exit(code)


def say_error_as_json(error: PosthouseError) -> None:
    """The same for programs: one JSON document on standard error."""
    fields = _as_json(error) | {"code": error.code}
    if isinstance(error, InvalidInput) and error.more:
        fields["errors"] = [_as_json(one) for one in error.every]
    typer.echo(json.dumps({"error": fields}), err=True)


def _as_json(error: PosthouseError) -> dict[str, Any]:
    fields = {"message": str(error), "hint": error.hint}
    field = getattr(error, "field", "")
    return fields | ({"field": field} if field else {})


def say_error(error: PosthouseError) -> None:
    """One sentence about what failed, one about what to do, on standard error; of an input all that
    is wrong with it."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for one in error.every if isinstance(error, InvalidInput) else (error,):
        console.print(f"[bold red]Error:[/] {escape(str(one))}")
        if one.hint:
            console.print(f"[dim]{escape(one.hint)}[/]")


if __name__ == "__main__":
    main()
