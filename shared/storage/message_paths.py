"""The path of a mail: every stop that is known, and at its end what became of each delivery.

What was so stays: a later delivery, opening or decision adds a stop and changes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop on a mail's path. `what` is stable for programs, `text` is for people.

    `at` is None at its end: what is so now, as of the last look at the handler's queue.
    """

    at: datetime | None
    what: str
    text: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One handler's event: when it was confirmed, where in its queue, how often again.

    `state`: `waiting`, `in-hand`, `acknowledged`, `dead-letter`, `rejected` (its dead letter was
    discarded) or `unknown`, when the queue was looked at last (`checked_at`).
    """

    handler_id: int
    handler: str
    published_at: datetime
    position: str
    repeats: int
    #: Why it got the mail in doubt; empty where its rules took it.
    note: str = ""
    #: {count, time, reason}: somebody asked for it once more.
    redelivery: Mapping[str, Any] | None = None
    state: str = "unknown"
    checked_at: datetime | None = None
    #: {consumer, since, deliveries}
    in_hand: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What was so of a mail and is not any more (`message_history`)."""

    at: datetime
    what: str
    handler_id: int | None
    handler: str
    detail: Mapping[str, Any]


_SETTLED: Final = {
    "read": "Marked read on the server",
    "deleted": "Deleted on the server",
    "vanished": "Gone from its folder before it was marked or deleted",
    "nothing": "Nothing marked: it stays on the server as it is",
    "": "Settled on the server",
}
_OPENED: Final = {
    "none": "Not encrypted",
    "decrypted": "Decrypted",
    "no_recipient": "Left encrypted: no attached certificate fits",
    "unsupported": "Left encrypted: this encryption is not supported",
    "failed": "Left encrypted: it could not be decrypted",
}


def settled(at: datetime, settled_as: str) -> Stop:
    return Stop(at, "settled", _SETTLED[settled_as], {"as": settled_as})


#: What events say where nobody gave a reason (`MailEvent.redelivery`), for people.
_REASONS: Final = {
    "requested": "without a reason",
    "opened-again": "it could not be opened before",
}


def opened(at: datetime, security: Mapping[str, Any]) -> Stop:
    status, signature = str(security.get("status") or "none"), security.get("signature") or "none"
    text = _OPENED.get(status, status)
    text = text if signature == "none" else f"{text}; signature {signature}"
    return Stop(at, "opened", text, security)


def published(one: Delivered) -> Iterable[Stop]:
    """The delivery, and what became of it."""
    detail = {"position": one.position, "note": one.note, "redelivery": one.redelivery}
    yield _published(one.published_at, one.handler_id, one.handler, detail)
    facts = {"handler_id": one.handler_id, "checked_at": one.checked_at}
    name = _name(one.handler)
    if one.state == "in-hand" and one.in_hand:
        # A program may have it before it is written here that it was published.
        since = max(datetime.fromisoformat(one.in_hand["since"]), one.published_at)
        tries = int(one.in_hand["deliveries"])
        again = f", given {tries} times" if tries > 1 else ""
        text = f"In hand at {name}: consumer {one.in_hand['consumer']}{again}"
        yield Stop(since, "in-hand", text, facts | dict(one.in_hand))
    elif one.state == "acknowledged":
        yield Stop(None, "acknowledged", f"Acknowledged by {name}", facts)
    elif one.state == "dead-letter":
        yield Stop(None, "dead-letter", f"Among the dead letters of {name}", facts)
    elif one.state == "waiting":
        # RabbitMQ does not say of a single event whether somebody has it in hand, or had it.
        text = "Waits in the queue of" if one.position else "Not known to be acknowledged by"
        yield Stop(None, "waiting", f"{text} {name}", facts)


def not_for(at: datetime, handler_id: int, handler: str, by: str, reason: str) -> Stop:
    text = f"Not for {_name(handler)}: {reason}"
    return Stop(at, "filtered", text, {"handler_id": handler_id, "by": by})


def past(one: Past) -> Stop:
    """What was so."""
    name, reason = _name(one.handler), str(one.detail.get("reason") or "")
    facts = {"handler_id": one.handler_id, **one.detail}
    why = f": {reason}" if reason else ""
    match one.what:
        case "published":
            return _published(one.at, one.handler_id or 0, one.handler, one.detail)
        case "opened":
            return opened(one.at, one.detail)
        case "filtered":
            return not_for(one.at, one.handler_id or 0, one.handler, one.detail["by"], reason)
        case "rejected":
            text = f"Rejected by {name}{why}"
        case "given-up":
            text = f"Not handled by {name}{why}"
        case "delivered-again":
            text = f"Dead letter delivered again to {name}"
        case "discarded":
            text = f"Discarded from the dead letters of {name}"
        case "left-dead-letters":
            text = f"No dead letter of {name} any more: somebody took it out at the broker"
        case "quarantined":
            text = f"Put into quarantine{why}"
        case "released":
            text = "Out of quarantine, tried again"
        case _:
            text = "Dropped from quarantine"
    return Stop(one.at, one.what, text, facts)


def in_order(stops: Iterable[Stop]) -> list[Stop]:
    """In the order of time; what is so now at the end."""
    found = list(stops)
    dated = [(stop.at, stop) for stop in found if stop.at]
    dated.sort(key=lambda pair: pair[0])
    return [*(stop for _, stop in dated), *(stop for stop in found if not stop.at)]


def _published(at: datetime, handler_id: int, handler: str, detail: Mapping[str, Any]) -> Stop:
    redelivery, note = detail.get("redelivery"), detail.get("note")
    reason = _REASONS.get(str(redelivery["reason"]), redelivery["reason"]) if redelivery else ""
    again = f", delivered again on purpose ({reason})" if redelivery else ""
    doubt = f", in doubt: {note}" if note else ""
    text = f"Published to {_name(handler)}{again}{doubt}"
    return Stop(at, "published", text, {"handler_id": handler_id, **detail})


def _name(handler: str) -> str:
    return handler or "a handler that is gone"
