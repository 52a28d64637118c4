"""`posthouse handlers dead-letters`, `deliver-again` and `discard`: what a handler did not take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import printing
from cli.client import Api
from cli.named_objects import Name
from cli.printing import AsJson, Yes
from shared.quantities import counted

Events = Annotated[
    list[str] | None, typer.Argument(help="Events as `dead-letters` shows them; default: all.")
]
Reason = Annotated[str | None, typer.Option(help="Those with this very reason.")]


def dead_letters(name: Name, as_json: AsJson = False) -> None:
    """Shows what a handler rejected or did not manage, oldest first."""
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        letters = api.get(f"handlers/{found['id']}/dead-letters")
    if as_json:
        printing.as_json(letters)
        return
    rows = [
        (
            one["event_id"],
            printing.when(one["died_at"]),
            one["deliveries"],
            one["subject"],
            (one["reason"], "yellow" if one["given_up"] else ""),
        )
        for one in letters
    ]
    printing.table(
        ("event", "since", "tries", "subject", "reason"), rows, empty="It rejected none."
    )


def deliver_again(
    name: Name,
    event_ids: Events = None,
    reason: Reason = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Puts dead letters at the end of a handler's queue."""
    done = _with_dead("deliver-again", "Deliver again", name, event_ids, reason, yes=yes)
    _print_count(done, ("event is", "events are"), "in the queue again", as_json)


def discard(
    name: Name,
    event_ids: Events = None,
    reason: Reason = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Removes dead letters for good; their mails stay, and can be delivered again."""
    done = _with_dead("discard", "Discard", name, event_ids, reason, yes=yes)
    _print_count(done, ("dead letter is", "dead letters are"), "discarded", as_json)


def _print_count(done: Any, words: tuple[str, str], outcome: str, as_json: bool) -> None:
    if as_json:
        printing.as_json(done)
    else:
        printing.say(f"{counted(done['count'], *words)} {outcome}.")


def _with_dead(
    path: str, verb: str, name: str, event_ids: list[str] | None, reason: str | None, *, yes: bool
) -> Any:
    with Api.from_environment() as api:
        found = api.named("handlers", name)
        if not event_ids:
            which = f"with the reason {reason!r}" if reason is not None else "there is"
            printing.confirm(f"{verb} every dead letter of {found['name']} {which}?", yes=yes)
        body = {"event_ids": event_ids or None, "reason": reason}
        given = {key: value for key, value in body.items() if value is not None}
        return api.post(f"handlers/{found['id']}/dead-letters/{path}", given)
