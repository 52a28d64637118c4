"""The dead letters of a handler, what it rejected or did not manage: listed, delivered again,
discarded."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from services.admin.context import Context
from shared.errors import NotFound
from shared.queueing.output import ALL_DEAD, DeadChoice, DeadLetter, QueueLost
from shared.storage import dead_letters, handler_queues, handlers, messages
from shared.storage.dead_letters import DeadReason

_LISTED = 100


@dataclass(frozen=True, slots=True)
class Rejected:
    """One dead letter, with the subject of its mail where the ledger still has it."""

    letter: DeadLetter
    message_id: uuid.UUID | None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The oldest of them, and of all that are known here how many have which reason."""

    listed: Sequence[Rejected]
    reasons: Sequence[DeadReason]


def list_dead_letters(ctx: Context, handler_id: int) -> DeadLetters:
    """The oldest hundred. Asks the broker. Raises NotFound, TryAgain, NeedsPerson."""
    output = ctx.app_state.output
    with ctx.transaction() as session:
        name = handlers.get(session, handler_id).name
    letters = output.dead(name, _LISTED)
    with ctx.transaction() as session:
        reasons = dead_letters.reasons(session, handler_id)
        found = []
        for letter in letters:
            try:
                identifier = uuid.UUID(letter.event_id)
                subject = messages.get(session, identifier).message.subject
            except (ValueError, NotFound):
                found.append(Rejected(letter, None))
            else:
                found.append(Rejected(letter, identifier, subject))
    return DeadLetters(found, reasons)


def deliver_dead_letters_again(ctx: Context, handler_id: int, chosen: DeadChoice = ALL_DEAD) -> int:
    """Puts these at the end of the queue again; how many. Raises as the list does."""
    return _act(ctx, handler_id, chosen, "delivered-again")


def discard_dead_letters(ctx: Context, handler_id: int, chosen: DeadChoice = ALL_DEAD) -> int:
    """Removes these for good; how many. Their mails stay, and can be delivered again.

    Raises as the list does.
    """
    return _act(ctx, handler_id, chosen, "discarded")


def _act(ctx: Context, handler_id: int, chosen: DeadChoice, what: str) -> int:
    """What the broker does cannot be taken back with a transaction, so all that must not be lost if
    this process dies, or the broker, is committed first: who asked for it, what was rejected, and
    that it is published."""
    output = ctx.app_state.output
    again = what == "delivered-again"
    with ctx.transaction() as session:
        name = handlers.get(session, handler_id).name
        handler_queues.hold(session, handler_id)
        # Those that the scheduler has not seen yet: what was rejected stays on the mail's path.
        letters = output.dead(name, dead_letters.MOST_NOTED)
        state = output.inspect(name)
        dead_letters.record(session, handler_id, letters, dead=len(letters), whole=False)
        asked = sum(chosen.holds(one.event_id, one.reason) for one in letters)
        events = max(state.dead, asked) if chosen == ALL_DEAD else asked
        after = {"events": events, "reason": chosen.reason}
        verb = "deliver-again" if again else "discard"
        ctx.record(session, verb, f"handler/{handler_id}", after=after)
    if again and asked and not state.exists:
        raise QueueLost(name)

    def leaving(letters: Sequence[DeadLetter]) -> None:
        with ctx.transaction() as beside:
            dead_letters.record_leaving(beside, handler_id, letters, for_queue=again)

    with ctx.transaction() as session:
        handler_queues.hold(session, handler_id)
        if again:
            moved = output.deliver_dead_again(name, chosen, leaving)
            done = list(moved)
        else:
            moved, done = {}, output.discard_dead(name, chosen, leaving)
        left = output.inspect(name).dead
        dead_letters.record_ended(session, handler_id, done, what, left=left)
        dead_letters.record_delivered_again(session, handler_id, moved)
    return len(done)
