"""What a handler rejected: listed from its dead-letter queue, and put back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from services.admin.context import Context
from shared.errors import NotFound
from shared.queueing.output import DeadLetter
from shared.storage import handlers, messages

_LISTED = 100


@dataclass(frozen=True, slots=True)
class Rejected:
    """One dead letter, with the subject of its mail where the ledger still has it."""

    letter: DeadLetter
    message_id: uuid.UUID | None
    subject: str = ""


def list_dead_letters(ctx: Context, handler_id: int) -> Sequence[Rejected]:
    """The oldest hundred. Asks the broker. Raises NotFound, TryAgain, NeedsPerson."""
    with ctx.transaction() as session:
        name = handlers.get(session, handler_id).name
    letters = ctx.app_state.output.dead(name, _LISTED)
    with ctx.transaction() as session:
        found = []
        for letter in letters:
            try:
                identifier = uuid.UUID(letter.event_id)
                subject = messages.get(session, identifier).message.subject
            except (ValueError, NotFound):
                found.append(Rejected(letter, None))
            else:
                found.append(Rejected(letter, identifier, subject))
    return found


def redrive_dead_letters(ctx: Context, handler_id: int, event_ids: Sequence[str] | None) -> int:
    """Puts these (None: all) back at the end of the queue; how many. Raises as the list does."""
    with ctx.transaction() as session:
        name = handlers.get(session, handler_id).name
    done = ctx.app_state.output.redrive_dead(name, event_ids)
    with ctx.transaction() as session:
        ctx.record(session, "redrive", f"handler/{handler_id}", after={"events": done})
    return done
