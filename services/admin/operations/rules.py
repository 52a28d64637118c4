"""Rules before they are saved: what they would have taken; and after: deliver what they would."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final, Literal

from services.admin.context import Context
from services.admin.operations.handlers import check_connections
from services.admin.operations.messages import MOST_AT_ONCE, DeliveredAgain
from services.admin.operations.past_mails import PAGE, PastChoice, PastMails
from shared.clock import utc_now
from shared.errors import InvalidInput
from shared.handlers import Handler, edit
from shared.storage import connections, delivering_again, handlers
from shared.storage.ledger_rule_facts import PastMail
from shared.storage.pool import Session

#: A dry run looks at mails for so many seconds, and answers with what it has seen by then.
SECONDS: Final = 5.0
DAYS: Final = 30
MOST_DAYS: Final = 366
MOST_LISTED: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """Of `looked_at` mails it would take `taken`: `had` are with the handler already, and
    `to_deliver` is what `deliver_since` reads once more when the rules are saved. `unsure` of the
    taken ones are in doubt, and `to_deliver_unsure` of those to deliver: of these the handler gets
    the ones that fit by all that they say. `held` others fit its rules and are with another handler
    of its group.

    `listed`: the newest of the taken ones, those that it does not have first, each with whether it
    has it; `left_out`: the newest of the others, with the reason. `complete` is false where time
    ran out: `back_to` is the oldest that was looked at. `not_kept`: what of the rules cannot be
    answered for past mails.
    """

    looked_at: int
    taken: int
    had: int
    to_deliver: int
    unsure: int
    to_deliver_unsure: int
    held: int
    listed: tuple[tuple[PastMail, bool], ...]
    left_out: tuple[tuple[PastMail, str], ...]
    since: datetime
    back_to: datetime | None
    complete: bool
    not_kept: str
    sentences: tuple[str, ...]


class _Tally:
    """What becomes of the mails that were added, and the first of them."""

    def __init__(self, listed: int) -> None:
        self._listed = listed
        self.looked_at = self.had = self.to_deliver = self.held = 0
        self.unsure = self.to_deliver_unsure = 0
        self._had: list[tuple[PastMail, bool]] = []
        self._missed: list[tuple[PastMail, bool]] = []
        self.left_out: list[tuple[PastMail, str]] = []

    def add(self, mail: PastMail, choice: PastChoice) -> None:
        self.looked_at += 1
        self.had += choice.had and choice.taken
        self.to_deliver += choice.missed
        self.unsure += choice.unsure
        self.to_deliver_unsure += choice.unsure and choice.missed
        self.held += choice.held
        if not choice.taken:
            if len(self.left_out) < self._listed:
                self.left_out.append((mail, choice.reason))
            return
        shown = self._had if choice.had else self._missed
        if len(shown) < self._listed:
            shown.append((mail, choice.had))

    @property
    def shown(self) -> list[tuple[PastMail, bool]]:
        return (self._missed + self._had)[: self._listed]


def dry_run(
    ctx: Context,
    handler_id: int,
    changes: Mapping[str, Any],
    *,
    since: datetime | None = None,
    days: int = DAYS,
    listed: int = 20,
) -> DryRun:
    """What a handler would have taken with `changes`, before they are saved; nothing is changed.

    `since`: of mails downloaded since then; else since the UTC day that was `days` ago began.
    Raises NotFound, InvalidInput.
    """
    with ctx.transaction() as session:
        saved = handlers.get(session, handler_id)
        handler = edit(saved, changes)
        check_connections(session, handler.rules)
        past = PastMails(session, handler, connections.names(session), saved=saved)
    since = since or first_day(days)
    ends = time.monotonic() + SECONDS
    tally = _Tally(listed)
    back_to: datetime | None = None
    complete = True
    try:
        for mail in chain.from_iterable(past.pages(ctx, since, None, ends)):
            tally.add(mail, past.choice(mail))
            back_to = mail.downloaded_at
            if time.monotonic() > ends:  # a rule may be asked for long, too
                complete = False
                break
    except InvalidInput:  # a page took too long
        if back_to is None:
            raise
        complete = False
    return DryRun(
        looked_at=tally.looked_at,
        taken=tally.had + tally.to_deliver,
        had=tally.had,
        to_deliver=tally.to_deliver,
        unsure=tally.unsure,
        to_deliver_unsure=tally.to_deliver_unsure,
        held=tally.held,
        listed=tuple(tally.shown),
        left_out=tuple(tally.left_out),
        since=since,
        back_to=back_to,
        complete=complete,
        not_kept="Header fields are not kept of past mails: what asks for them has no answer, and "
        "such mails count as taken in doubt."
        if handler.rules.asks_headers
        else "",
        sentences=tuple(handler.rules.sentences),
    )


def first_day(days: int = DAYS) -> datetime:
    """When the UTC day that was `days` ago began."""
    return (utc_now() - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)


def deliver_since(
    ctx: Context,
    handler_id: int,
    since: datetime,
    *,
    before: uuid.UUID | None = None,
    most: int = MOST_AT_ONCE,
) -> DeliveredAgain:
    """Delivers what the saved rules would have taken since `since` and the handler did not get:
    what a dry run of them since then counts as `to_deliver`.

    The decryptor decides about each with all that the mail says. At most `most` mails or a few
    seconds a call: `next` continues. Raises NotFound, InvalidInput.
    """
    with ctx.transaction() as session:
        handler = handlers.get(session, handler_id)
        past = PastMails(session, handler, connections.names(session))
    if not handler.enabled:
        raise InvalidInput(
            f"The handler {handler.name!r} is disabled.",
            field="handler",
            hint="Enable it first: then it also takes what comes from now on.",
        )
    ends = time.monotonic() + SECONDS
    count = 0
    following: uuid.UUID | None = None
    last: uuid.UUID | None = None
    try:
        for page in past.pages(ctx, since, before, ends):
            wanted: list[uuid.UUID] = []
            for mail in page:
                if past.choice(mail).missed:
                    wanted.append(mail.id)
                if time.monotonic() > ends:
                    break
            with ctx.transaction() as session:
                count += len(delivering_again.reconsider(session, wanted, handler.id))
            last = mail.id
            is_last = mail is page[-1] and len(page) < PAGE
            if not is_last and (count >= most or time.monotonic() > ends):
                following = last
                break
    except InvalidInput:  # a page took too long; those before it are on their way
        if last is None:
            raise
        following = last
    with ctx.transaction() as session:
        what = {"since": since, "count": count}
        ctx.record(session, "deliver past mails", f"handler/{handler_id}", after=what)
    return DeliveredAgain(count, following)


def move_handler(ctx: Context, handler_id: int, to: Literal["up", "down"] | int) -> Handler:
    """Moves a handler within its group: by one place, or to a place (from 1). Raises NotFound,
    InvalidInput."""
    with ctx.transaction() as session:
        handlers.lock_order(session)
        handler = handlers.get(session, handler_id)
        if not handler.group:
            raise InvalidInput("It is in no group.", field="group")
        ordered = sorted(_group(session, handler.group), key=_place)
        at = [one.id for one in ordered].index(handler_id)
        place = at - 1 if to == "up" else at + 1 if to == "down" else to - 1
        ordered.insert(min(max(0, place), len(ordered) - 1), ordered.pop(at))
        for position, one in enumerate(ordered, 1):
            if one.position != position:
                handlers.move(session, one.id, position)
        after = handlers.get(session, handler_id)
        ctx.record(session, "move", f"handler/{handler_id}", handler, after)
        return after


def group_of(ctx: Context, handler: Handler) -> list[Handler]:
    """The handlers of its group in the order in which they are asked; empty outside of groups."""
    if not handler.group:
        return []
    with ctx.transaction() as session:
        return sorted(_group(session, handler.group), key=_place)


def _group(session: Session, name: str) -> list[Handler]:
    return [one for one in handlers.search(session) if one.group == name]


def _place(one: Handler) -> tuple[int, int]:
    return one.position, one.id
