"""`posthouse messages`: where is my mail?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import downloads, mail_facts, parts_commands, printing
from cli.api_commands import ApiCommands
from cli.arguments import Words, search_words
from cli.client import Api
from cli.parts_commands import MessageId
from cli.printing import AsJson, Yes
from shared.errors import InvalidInput
from shared.quantities import counted, sized

app = typer.Typer(cls=ApiCommands, help="Where is my mail?", no_args_is_help=True)
Query = Annotated[
    str,
    typer.Option(
        "--query",
        "-q",
        help="Message-id, words of the subject, or addresses; else a part of these.",
    ),
]
ConnectionName = Annotated[
    str | None, typer.Option("--connection", "-c", help="Name or id of its connection.")
]
State = Annotated[
    str | None,
    typer.Option(
        help="waiting retrying published in-hand acknowledged rejected dead-letter quarantined "
        "dropped unwanted undecrypted"
    ),
]
Since = Annotated[str | None, typer.Option(help="Downloaded since this date or time.")]
Until = Annotated[str | None, typer.Option(help="Downloaded before this date or time.")]
NotFor = Annotated[
    str | None, typer.Option("--not-for", help="Left out by the rules or group of this handler.")
]
Kind = Annotated[
    str | None,
    typer.Option(help="person auto-reply bounce list calendar receipt complaint"),
]
WithAttachment = Annotated[
    bool | None,
    typer.Option("--with-attachment/--without-attachment", help="With an attachment, or without."),
]
Thread = Annotated[
    str | None, typer.Option(help="The thread, as in `data.mail.thread` of an event.")
]
Handlers = Annotated[
    list[str] | None,
    typer.Option("--handler", help="Only to this handler; repeat it. Default: all that take it."),
]


@app.command("list")
def list_messages(
    words: Words = None,
    query: Query = "",
    connection: ConnectionName = None,
    state: State = None,
    since: Since = None,
    until: Until = None,
    not_for: NotFor = None,
    kind: Kind = None,
    with_attachment: WithAttachment = None,
    thread: Thread = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 30,
    before: Annotated[str | None, typer.Option(help="Continue after this id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Finds mails, newest first: `posthouse messages list plans of the bridge`."""
    query = search_words(words, query)
    with Api.from_environment() as api:
        wanted = _filter(api, query, connection, state, since, until, not_for)
        wanted |= _facts(kind, with_attachment, thread)
        found = api.get("messages", **wanted, limit=limit, before=before)
        if as_json:
            printing.as_json(found)
            return
        left = _quarantined(api, query) if query.strip() and not before else []
    rows = [
        (
            item["id"],
            printing.when(item["downloaded_at"]),
            printing.coloured(item["state"]),
            item["connection"],
            item["sender"],
            item["subject"],
            sized(item["size"]),
        )
        for item in found["items"]
    ]
    columns = ("id", "when", "state", "connection", "from", "subject", "size")
    if rows or not left:
        printing.table(columns, rows, empty="No mail matches.")
    if left:
        printing.say("Found by this among what was not downloaded, in quarantine:", "yellow")
        printing.table(("id", "since", "connection", "from", "subject", "reason"), left, empty="")
    if found["looked_back_to"]:
        back = printing.when(found["looked_back_to"])
        printing.say(
            f"Looked at mails back to {back}. --before {found['next']} looks further.", "dim"
        )
    elif found["next"]:
        printing.say(f"--before {found['next']} shows more.", "dim")


def _quarantined(api: Api, query: str) -> list[tuple[Any, ...]]:
    """Rows of the mails that were left on their server, of which there is no other trace."""
    found = api.get("quarantine", q=query.strip().strip("<>"), limit=20)["items"]
    return [
        (
            one["id"],
            printing.when(one["created_at"]),
            one["connection"],
            one["sender"],
            one["subject"],
            (one["reason"], "red"),
        )
        for one in found
        if not one["in_ledger"]
    ]


@app.command()
def show(message_id: MessageId, as_json: AsJson = False) -> None:
    """Shows one mail and its path."""
    with Api.from_environment() as api:
        found = api.get(f"messages/{message_id}")
        facts, missing = mail_facts.asked(api, message_id)
    if as_json:
        printing.as_json(found | {"facts": facts})
        return
    security = found["security"] or {}
    findings = (facts or found)["findings"]
    printing.pairs(
        [
            ("id", found["id"]),
            ("state", printing.coloured(found["state"])),
            ("error", (found["error"], "red") if found["error"] else None),
            ("connection", found["connection"]),
            ("from", printing.mailbox(found["sender_name"], found["sender"])),
            ("to", ", ".join(found["recipients"])),
            ("subject", found["subject"]),
            ("ambiguous", ", ".join(dict.fromkeys(one["kind"] for one in findings))),
            ("message-id", found["message_id"]),
            ("kind", found["kind"]),
            *mail_facts.rows(facts),
            ("facts", (missing, "yellow") if missing else None),
            ("attachments", found["attachments"]),
            ("thread", found["thread"]),
            ("size", sized(found["size"])),
            ("sha256", found["sha256"]),
            ("encryption", security.get("status")),
            ("signature", security.get("signature")),
            ("signer", security.get("signer")),
            ("revocation", _revocation(security.get("revocation"))),
            ("reason", security.get("reason")),
        ]
    )
    rows = [((stop["at"] or "now")[:19].replace("T", " "), stop["text"]) for stop in found["path"]]
    printing.table(("when (UTC)", "what happened"), rows, empty="")


@app.command()
def raw(
    message_id: MessageId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; default: standard output.")
    ] = None,
    original: Annotated[
        bool, typer.Option("--original", help="As it was downloaded, not decrypted.")
    ] = False,
) -> None:
    """Downloads the mail itself: decrypted where possible."""
    with Api.from_environment() as api:
        chunks = api.download(f"messages/{message_id}/raw", original=original or None)
        downloads.write(chunks, output)


app.command("parts")(parts_commands.parts)
app.command("part")(parts_commands.part)


@app.command()
def deliver_again(
    message_ids: Annotated[list[str] | None, typer.Argument(help="Ids of mails.")] = None,
    query: Query = "",
    connection: ConnectionName = None,
    state: State = None,
    since: Since = None,
    until: Until = None,
    not_for: NotFor = None,
    kind: Kind = None,
    with_attachment: WithAttachment = None,
    thread: Thread = None,
    handlers: Handlers = None,
    reason: Annotated[str, typer.Option(help="Told to handlers that had them.")] = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Publishes mails again, with the same event id: those named, or all that match.

    The event says so (`redelivery`), so that a handler that had it does not take it for a repeat.
    """
    with Api.from_environment() as api:
        chosen = [api.named("handlers", one)["id"] for one in handlers or ()]
        wanted = _filter(api, query, connection, state, since, until, not_for)
        wanted |= _facts(kind, with_attachment, thread)
        if message_ids:
            if wanted:
                raise InvalidInput("Give ids or a filter, not both.", field="message_ids")
            for one in message_ids:
                api.post(f"messages/{one}/deliver-again", {"handlers": chosen, "reason": reason})
            count = len(message_ids)
        else:
            printing.confirm("Publish every mail that matches again?", yes=yes)
            asked = {"handlers": chosen, "reason": reason}
            count = _deliver_all_again(api, wanted | asked, quiet=as_json)
    if as_json:
        printing.as_json({"count": count})
    else:
        printing.say(f"{counted(count, 'mail is', 'mails are')} on the way again.")


@app.command()
def erase(
    address: Annotated[str, typer.Argument(help="The mail address of a person.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erases every mail that a person sent or was addressed in. It cannot be undone."""
    question = f"Erase every mail from and to {address}, for ever?"
    printing.confirm(question, yes=yes)
    with Api.from_environment() as api:
        erased = api.post("messages/erase", {"address": address})
    if as_json:
        printing.as_json(erased)
        return
    printing.say(f"{counted(erased['messages'], 'mail is', 'mails are')} erased.")
    if erased["postponed"]:
        printing.say("Some are being published right now: run this again in a minute.", "yellow")


def _deliver_all_again(api: Api, body: dict[str, Any], *, quiet: bool) -> int:
    """As many calls as it takes; each takes a bounded number of mails."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    count = 0
    columns = (SpinnerColumn(), TextColumn("{task.completed} mails"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None)
        while True:
            done = api.post("messages/deliver-again", body)
            count += int(done["count"])
            progress.update(task, completed=count)
            if not done["next"]:
                return count
            body = {**body, "before": done["next"]}


def _filter(
    api: Api,
    query: str,
    connection: str | None,
    state: str | None,
    since: str | None,
    until: str | None,
    not_for: str | None,
) -> dict[str, Any]:
    wanted: dict[str, Any] = {"q": query or None, "state": state, "since": since, "until": until}
    if connection is not None:
        wanted["connection"] = api.named("connections", connection)["id"]
    if not_for is not None:
        wanted["filtered_by"] = api.named("handlers", not_for)["id"]
    return {name: value for name, value in wanted.items() if value is not None}


def _facts(kind: str | None, with_attachment: bool | None, thread: str | None) -> dict[str, Any]:
    wanted = {"kind": kind, "has_attachment": with_attachment, "thread": thread}
    return {name: value for name, value in wanted.items() if value is not None}


def _revocation(known: dict[str, Any] | None) -> str:
    """What was known of the signer's certificate, and for which time."""
    if not known:
        return ""
    as_of = (known.get("as_of") or "")[:16].replace("T", " ")
    return f"{known['status']}, as of {as_of} UTC ({known['source']})" if as_of else known["status"]
