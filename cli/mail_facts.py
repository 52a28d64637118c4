"""What a mail says of itself (`data.mail` of its event), as `posthouse messages show` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli import printing
from cli.client import Api, ApiRefused
from shared.errors import TryAgain


def asked(api: Api, message_id: str) -> tuple[dict[str, Any] | None, str]:
    """(the facts, or None; why there are none, empty where they may not be seen)."""
    try:
        facts: dict[str, Any] = api.get(f"messages/{message_id}/facts")
    except ApiRefused as error:
        return None, "" if error.status == 403 else str(error)
    except TryAgain as error:
        return None, str(error)
    return facts, ""


def rows(facts: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """Names and values, for `printing.pairs`."""
    if facts is None:
        return []
    path, spam = facts["return_path"], facts["spam"]
    return [
        ("evidence", "; ".join(f"{one['field']}: {one['value']}" for one in facts["evidence"])),
        *_bounce(facts["bounce"]),
        ("authentication", ", ".join(map(_result, facts["authentication"]))),
        ("spam", spam and _spam(spam)),
        ("delivered to", ", ".join(map(_recipient, facts["delivered_to"]))),
        ("return path", path and (path["address"] or "null: nobody waits for an answer")),
        ("sender", facts["sender"] and _mailbox(facts["sender"])),
        ("reply to", ", ".join(map(_mailbox, facts["reply_to"]))),
        ("list", facts["list_id"]),
        ("answers", "it asks for no automatic reply" if facts["auto_reply_suppressed"] else ""),
    ]


def _bounce(found: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    if found is None:
        return []
    source = " (as its text says)" if found["diagnostic_is_from_text"] else ""
    words = (found["action"] or "not known", found["status"], found["recipient"])
    return [
        ("bounce", " ".join(filter(None, words))),
        ("diagnostic", f"{found['diagnostic']}{source}"),
        ("came back", found["original_message_id"]),
    ]


def _result(one: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (f"{one['method']}={one['result']}", one["domain"])))


def _spam(one: Mapping[str, Any]) -> str:
    score = one["score"]
    return f"{one['verdict']}" + ("" if score is None else f", score {score:g}")


def _recipient(one: Mapping[str, Any]) -> str:
    return _mailbox(one) + (f" (tag {one['tag']})" if one["tag"] else "")


def _mailbox(one: Mapping[str, Any]) -> str:
    return printing.mailbox(one["name"], one["address"])
