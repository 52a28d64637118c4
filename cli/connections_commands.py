"""`posthouse connections`: the mailboxes that are watched."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cli import authorising_commands, bulk_commands, printing
from cli.api_commands import ApiCommands
from cli.arguments import Settings, Words, fields, prompted_secret, search_words
from cli.client import Api, ApiRefused
from cli.completing import handlers, healths, modes, tags
from cli.named_objects import Name, add_delete_command
from cli.printing import AsJson
from shared.errors import InvalidInput
from shared.kinds import KINDS, kind_named
from shared.quantities import counted, sized

app = typer.Typer(cls=ApiCommands, help="The mailboxes that are watched.", no_args_is_help=True)
StartFrom = Annotated[
    str | None,
    typer.Option(
        help='"everything" new, "now" (only what arrives from now on), or a date.',
        show_default=False,
    ),
]
Acknowledge = Annotated[
    bool, typer.Option("--acknowledge", help="The new mails may be downloaded; do not ask.")
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@app.command("list")
def list_connections(
    words: Words = None,
    query: Annotated[str, typer.Option("--query", "-q", help="Part of name, host, user …")] = "",
    health: Annotated[
        str | None,
        typer.Option(
            help="working failing unused disabled needs-authorisation pending overdue",
            autocompletion=healths,
        ),
    ] = None,
    mode: Annotated[str | None, typer.Option(help=" ".join(KINDS), autocompletion=modes)] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="It has this tag; repeat it for more.", autocompletion=tags),
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option(help="This handler takes it (name or id).", autocompletion=handlers),
    ] = None,
    sort: Annotated[str, typer.Option(help="name host username health next_run …")] = "name",
    page: Annotated[int, typer.Option(min=1)] = 1,
    per_page: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: AsJson = False,
) -> None:
    """Shows the connections and how they are doing."""
    query = search_words(words, query)
    with Api.from_environment() as api:
        found = api.get(
            "connections",
            q=query,
            health=health,
            mode=mode,
            tag=tag or None,
            handler=api.named("handlers", handler)["id"] if handler else None,
            sort=sort,
            page=page,
            per_page=per_page,
        )
    if as_json:
        printing.as_json(found)
        return
    rows = [
        (
            item["id"],
            item["name"],
            printing.coloured(item["health"]),
            item["mode"],
            item["username"],
            item["folder"] or "inbox",
            ", ".join(item["tags"]),
            printing.when(item["last_success_at"]),
            printing.when(item["next_run_at"]),
            item["new_today"],
        )
        for item in found["items"]
    ]
    columns = ("id", "name", "health", "mode", "user", "folder", "tags", "success", "next", "today")
    printing.table(columns, rows, empty="No connection matches.")
    if found["total"] > len(rows):
        printing.say(f"{len(rows)} of {found['total']}; --page {page + 1} shows more.", "dim")


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Shows one connection: fields, health, warnings, and who takes it."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
    if as_json:
        printing.as_json(found)
    else:
        _show(found)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    mode: Annotated[str, typer.Option(help=" ".join(KINDS))],
    username: Annotated[str, typer.Option(help="Who logs in.")],
    host: Annotated[str | None, typer.Option(help="The mail server (imap, pop3).")] = None,
    settings: Settings = None,
    password_stdin: PasswordStdin = False,
    enable: Annotated[bool, typer.Option("--enable", help="Enable it at once.")] = False,
    acknowledge: Acknowledge = False,
    start_from: StartFrom = None,
    as_json: AsJson = False,
) -> None:
    """Adds a connection; it starts disabled unless --enable is given."""
    body = {"name": name, "mode": mode, "username": username} | fields(settings)
    if host is not None:
        body["host"] = host
    kind = kind_named(mode)
    asks = kind is not None and kind.has_server
    if asks and not {"password", "credential_id", "client_certificate"} & set(body):
        password = prompted_secret("Password", from_stdin=password_stdin)
        if password is not None:
            body["password"] = password
    with Api.from_environment() as api:
        saved = api.post("connections", body)
        if enable:
            saved = _enable(api, saved["id"], acknowledge, start_from)
    _print_saved(saved, as_json)


@app.command()
def edit(
    name: Name,
    settings: Settings = None,
    password_stdin: PasswordStdin = False,
    acknowledge: Acknowledge = False,
    start_from: StartFrom = None,
    as_json: AsJson = False,
) -> None:
    """Changes fields of a connection."""
    body = fields(settings)
    if password_stdin:
        body["password"] = prompted_secret("Password", from_stdin=True)
    if not body:
        raise InvalidInput("Nothing is to be changed: give --set FIELD=VALUE.", field="set")
    with Api.from_environment() as api:
        found = api.named("connections", name)
        path = f"connections/{found['id']}"
        saved = _acknowledged(acknowledge, start_from, lambda more: api.patch(path, body | more))
    _print_saved(saved, as_json)


add_delete_command(
    app, "connections", "connection", "Deletes a connection; mails that it brought stay."
)


app.command()(bulk_commands.bulk)
app.command()(bulk_commands.duplicate)
app.command("import")(bulk_commands.import_csv)
app.command()(authorising_commands.authorize)
app.command()(authorising_commands.revoke)
app.add_typer(authorising_commands.links, name="links")


@app.command()
def test(name: Name, as_json: AsJson = False) -> None:
    """Tests a connection step by step. Changes nothing. Exit code 1 where it fails."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        report = api.post(f"connections/{found['id']}/test")
    if as_json:
        printing.as_json(report)
    else:
        _show_test(report)
    if not report["ok"]:
        raise typer.Exit(1)


@app.command()
def estimate(name: Name, start_from: StartFrom = None, as_json: AsJson = False) -> None:
    """Counts what enabling would download. Changes nothing."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        counted = api.post(f"connections/{found['id']}/estimate", {"start_from": start_from})
    if as_json:
        printing.as_json(counted)
    else:
        _show_estimate(counted)


@app.command()
def enable(
    name: Name,
    acknowledge: Acknowledge = False,
    start_from: StartFrom = None,
    as_json: AsJson = False,
) -> None:
    """Enables a connection, once the number of new mails is acknowledged."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        saved = _enable(api, found["id"], acknowledge, start_from)
    _print_saved(saved, as_json)


@app.command()
def disable(name: Name, as_json: AsJson = False) -> None:
    """Stops fetching from a connection."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        saved = api.post(f"connections/{found['id']}/disable")
    _print_saved(saved, as_json)


@app.command()
def fetch(name: Name) -> None:
    """Fetches as soon as possible."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        api.post(f"connections/{found['id']}/fetch")
    printing.say(f"{found['name']} is due now.")


@app.command()
def folders(name: Name, as_json: AsJson = False) -> None:
    """Lists the mailbox's folders as the server shows them now."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        listed = api.get(f"connections/{found['id']}/folders")
    if as_json:
        printing.as_json(listed)
        return
    rows = [(folder["name"], folder["special_use"]) for folder in listed if folder["selectable"]]
    printing.table(("folder", "use"), rows, empty="There is no folder.")


@app.command()
def runs(
    name: Name, limit: Annotated[int, typer.Option(min=1, max=500)] = 20, as_json: AsJson = False
) -> None:
    """Shows the runs that found something or failed, newest first."""
    with Api.from_environment() as api:
        found = api.named("connections", name)
        listed = api.get(f"connections/{found['id']}/runs", limit=limit)
    if as_json:
        printing.as_json(listed)
        return
    rows = [
        (
            printing.when(run["started_at"]),
            f"{run['duration_ms']} ms",
            run["found"],
            run["downloaded"],
            sized(run["bytes"]),
            ((run["error"] or {}).get("message", ""), "red"),
        )
        for run in listed
    ]
    printing.table(("when", "took", "found", "new", "size", "error"), rows, empty="No run yet.")


def _enable(api: Api, connection_id: int, acknowledge: bool, start_from: str | None) -> Any:
    path = f"connections/{connection_id}/enable"
    return _acknowledged(acknowledge, start_from, lambda more: api.post(path, more))


def _acknowledged(acknowledge: bool, start_from: str | None, change: Any) -> Any:
    """Makes a change; where it needs the acknowledgement, shows the estimate and asks."""
    more: dict[str, Any] = {"start_from": start_from} if start_from is not None else {}
    if acknowledge:
        return change({**more, "acknowledged": True})
    try:
        return change(more)
    except ApiRefused as error:
        if error.code != "acknowledgement-needed":
            raise
        if not sys.stdin.isatty():
            error.hint = (
                "--acknowledge downloads them; --start-from now, or a date, leaves the rest."
            )
            raise
        _show_estimate(error.problem["estimate"])
        typer.confirm("Download them?", abort=True)
        return change({**more, "acknowledged": True})


def _print_saved(saved: dict[str, Any], as_json: bool) -> None:
    if as_json:
        printing.as_json(saved)
        return
    if saved.get("notice"):
        printing.say(f"{saved['notice']}", "green")
    _show(saved)


def _show(found: dict[str, Any]) -> None:
    error = found["error"] or {}
    printing.pairs(
        [
            ("name", f"{found['name']}  (id {found['id']})"),
            ("health", printing.coloured(found["health"])),
            ("error", (error.get("message", ""), "red") if error else None),
            ("what to do", error.get("hint")),
            ("description", found["description"]),
            ("tags", ", ".join(found["tags"])),
            ("mode", found["mode"]),
            (
                "server",
                f"{found['host']}:{found['port']} {found['security']}" if found["host"] else "",
            ),
            ("username", found["username"]),
            ("shared mailbox", found["shared_mailbox"]),
            ("trusted servers", found["trusted_servers"]),
            ("authorised", _authorised(found.get("authorisation"))),
            ("folder", found["folder"] or "inbox"),
            ("which mails", found["selection"]),
            ("after download", found["after_download"]),
            ("interval", f"{found['interval_minutes']} min"),
            ("certificates", ", ".join(c["label"] for c in found.get("certificates") or ())),
            ("handlers", ", ".join(h["name"] for h in found.get("handlers") or ())),
            ("last success", printing.when(found["last_success_at"])),
            ("next run", printing.when(found["next_run_at"])),
            ("new today", found["new_today"]),
        ]
    )
    _show_warnings(found)


def _show_warnings(found: dict[str, Any]) -> None:
    for warning in found.get("warnings") or ():
        style = "bold red" if warning["serious"] else "yellow"
        printing.say(f"! {warning['text']}", style)


def _authorised(status: dict[str, Any] | None) -> tuple[str, str] | None:
    """Who authorised a connection with OAuth2, when, and whether it still holds."""
    if status is None:
        return None
    when = printing.when(status["authorised_at"])
    text = f"as {status['account'] or '?'} by {status['authorised_by']}, {when}"
    return (text, "") if status["valid"] else (f"{text}; no longer valid", "red")


def _show_test(report: dict[str, Any]) -> None:
    marks = {"ok": "✓", "failed": "✗", "skipped": "–"}
    for step in report["steps"]:
        printing.say(f"{marks[step['status']]} {step['title']}", printing.COLOURS[step["status"]])
        if step["text"]:
            printing.say(f"  {step['text']}", "red")
        if step["hint"]:
            printing.say(f"  {step['hint']}", "dim")
    if report["ok"]:
        unread = "" if report["unread"] is None else f", {report['unread']} unread"
        printing.say(f"{report['folder'] or 'inbox'}: {counted(report['total'], 'mail')}{unread}")
        if report["server"]:
            printing.say(f"{report['server']}", "dim")
    _show_warnings(report)


def _show_estimate(counted: dict[str, Any]) -> None:
    at_least = "at least " if counted["confidence"] == "partial" else ""
    printing.pairs(
        [
            ("new", f"{at_least}{counted['new']}"),
            ("known", counted["known"]),
            ("reset", counted["reset"] or None),
            ("left, in quarantine", counted["left"] or None),
            ("total", counted["total"]),
            ("unread", counted["unread"]),
            ("note", counted["reason"]),
        ]
    )
    _show_warnings(counted)
