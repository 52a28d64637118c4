"""`posthouse overview`: what flows, what is stuck, what needs somebody."""

from __future__ import annotations

from cli import printing
from cli.client import Api
from cli.printing import AsJson


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
        ]
    )
    for one in found["backends"]:
        if one["trouble"]:
            printing.say(f"{one['name']} ({one['place']}): {one['trouble']}", "red")
    for one in found["services"]:
        if one["is_silent"]:
            printing.say(f"{one['name']}: not running since {printing.when(one['seen_at'])}", "red")
        for check, why in one["failing"].items():
            printing.say(f"{one['name']}: {check}: {why}", "red")
    for name in found["absent"]:
        printing.say(f"{name}: never seen", "red")
    spaces = [one for one in found["services"] if one["total"]]
    if spaces:
        worst = min(spaces, key=lambda one: int(one["free"]))
        printing.say(f"store: {worst['free'] >> 20:,} of {worst['total'] >> 20:,} MB free")
    for one in found["sick"]:
        said = (one["error"] or {}).get("message", "")
        printing.say(f"{one['name']}: {one['health']}. {said}".rstrip(), "red")
    for one in found["expiring"]:
        printing.say(f"{one['kind']} {one['name']} ends {one['expires_at'][:10]}", "yellow")
    for one in found["handlers"]:
        if one["queue"]["backlog"] or one["queue"]["dead"]:
            since = printing.when(one["queue"]["oldest_at"])
            printing.say(
                f"handler {one['name']}: {one['queue']['backlog']} wait (the oldest since {since}),"
                f" {one['queue']['dead']} rejected"
            )


def _seconds(median: float | None, p95: float | None) -> str:
    return "" if median is None else f"{median:.1f} s, 95 of 100 within {p95:.1f} s"
