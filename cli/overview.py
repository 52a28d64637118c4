"""`posthouse overview`: what flows, what is stuck, what needs somebody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli import printing
from cli.client import Api
from cli.printing import AsJson
from shared.quantities import counted, sized


def overview(as_json: AsJson = False) -> None:
    """Shows what flows, what is stuck, and what needs somebody."""
    with Api.from_environment() as api:
        found = api.get("overview")
    if as_json:
        printing.as_json(found)
        return
    delays, backlog = found["delays"], found["backlog"]
    printing.pairs(
        [
            ("connections", ", ".join(f"{n:,} {h}" for h, n in found["connections"].items())),
            ("mails, last hour", sum(slot["mails"] for slot in found["last_hour"])),
            ("mails, last day", sum(slot["mails"] for slot in found["last_day"])),
            ("on their way", backlog["mails"]),
            ("oldest of them", printing.when(backlog["oldest_at"])),
            ("download to event", _seconds(delays["median"], delays["p95"])),
            ("in quarantine", found["quarantined"]),
            ("stayed encrypted, last day", found["undecrypted"] or ""),
            ("wanted by no handler, last day", found["unwanted"] or ""),
        ]
    )
    _itself(found)
    for one in found["unhealthy"]:
        said = (one["error"] or {}).get("message", "")
        printing.say(f"{one['name']}: {one['health']}. {said}".rstrip(), "red")
    for one in found["expiring"]:
        printing.say(f"{one['kind']} {one['name']} ends {one['expires_at'][:10]}", "yellow")
    for one in found["handlers"]:
        if one["queue"]["backlog"] or one["queue"]["dead_letters"]:
            since = printing.when(one["queue"]["oldest_at"])
            oldest = f" (the oldest since {since})" if since else ""
            waiting = counted(one["queue"]["backlog"], "mail waits", "mails wait")
            dead = counted(one["queue"]["dead_letters"], "dead letter")
            printing.say(f"handler {one['name']}: {waiting}{oldest}, {dead}")


def _itself(found: Mapping[str, Any]) -> None:
    """Posthouse's own health: what it needs, and each service."""
    rows: list[list[Any]] = [
        [one["name"], _state(one["trouble"]), "", "", one["place"]] for one in found["backends"]
    ]
    for one in found["services"]:
        failing = [f"{check}: {why}" for check, why in one["failing"].items()]
        trouble = "not running" if one["is_silent"] else ", ".join(failing)
        space = ""
        if one["total"]:
            space = f"store: {sized(one['free'])} of {sized(one['total'])} free"
        seen = printing.when(one["seen_at"])
        rows.append([one["name"], _state(trouble), one["version"], seen, space])
    rows += [[name, _state("never seen"), "", "", ""] for name in found["absent"]]
    if rows:  # which people with rights by tag are not told
        columns = ["service", "state", "version", "last heartbeat", "where"]
        printing.table(columns, rows, empty="")


def _state(trouble: str) -> tuple[str, str]:
    return (trouble, "bold red") if trouble else printing.coloured("working")


def _seconds(median: float | None, p95: float | None) -> str:
    return "" if median is None else f"{median:.1f} s, 95 of 100 within {p95:.1f} s"
