"""What a search for mails asks for, and the conditions that say so to Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from shared.clock import first_id
from shared.mail.kinds import MailKind
from shared.storage.messages import MessageState
from shared.storage.queries import Queries

_SQL = Queries("message_search")
#: States that a mail has by what its handlers did, with the condition that finds its mails without
#: asking that of every mail; None where there is no such condition.
_STATES_BY_HANDLERS: Final[Mapping[str, LiteralString | None]] = {
    MessageState.DEAD_LETTER: "dead_letters",
    MessageState.IN_HAND: "in_hand",
    MessageState.REJECTED: "were_dead_letters",
    MessageState.ACKNOWLEDGED: None,
    MessageState.PUBLISHED: None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """What a search looks for; what is empty does not narrow it.

    `q` is a message-id, or whole words of subject and sender, addresses and domains (`@b.example`)
    of senders, addresses of recipients, all of which a mail has; where no mail has them, a part of
    any of these. `since` and `until` bound the time of the download. `filtered_by` is a handler
    that it was not for.
    `kind`, `has_attachment` and `thread` (as in `data.mail` of its event) are known once the event
    is published.
    """

    q: str = ""
    connection_id: int | None = None
    state: MessageState | None = None
    since: datetime | None = None
    until: datetime | None = None
    filtered_by: int | None = None
    kind: MailKind | None = None
    has_attachment: bool | None = None
    thread: str = ""
    #: Of connections with one of these tags alone: the rights of who asks.
    part: tuple[str, ...] = ()


def conditions(wanted: MessageFilter) -> tuple[list[LiteralString], dict[str, Any]]:
    """All but `q`: conditions that follow on `candidates`, and their values but for `before`."""
    parts: list[LiteralString] = [_SQL["in_range"]]
    values: dict[str, Any] = {
        "since": first_id(wanted.since) if wanted.since else None,
        "until": first_id(wanted.until) if wanted.until else None,
        "connection_id": wanted.connection_id,
        "part": list(wanted.part) or None,
        "filtered_by": wanted.filtered_by,
    }
    if wanted.state and wanted.state in _STATES_BY_HANDLERS:
        values["state"] = wanted.state.value
        parts += [_SQL["handed_over"], _SQL["state_by_handlers"]]
    elif wanted.state:
        parts.append(_SQL[wanted.state.value])
    if wanted.filtered_by is not None:
        parts.append(_SQL["filtered_by"])
    if wanted.kind is not None:
        parts.append(_SQL["of_a_person" if wanted.kind is MailKind.PERSON else "of_kind"])
        values["kind"] = wanted.kind.value
    if wanted.has_attachment is not None:
        parts.append(_SQL["with_files" if wanted.has_attachment else "without_files"])
    if thread := wanted.thread.strip():
        parts.append(_SQL["in_thread"])
        values["threads"] = spellings(thread)
    return parts, values


def indexed_conditions(state: MessageState | None) -> list[LiteralString] | None:
    """Conditions with which mails of a state are looked up in all that the ledger keeps; None where
    every mail has to be looked at."""
    if state is None or state not in _STATES_BY_HANDLERS:
        return []
    name = _STATES_BY_HANDLERS[state]
    return [_SQL[name]] if name else None


def spellings(message_id: str) -> list[str]:
    """A message-id with and without its angle brackets, and as it was given."""
    bare = message_id.strip("<>")
    return [bare, f"<{bare}>", message_id]
