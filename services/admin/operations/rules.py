"""Rules before they are saved: what they would have taken; and after: deliver what they would."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final, Literal

from services.admin.context import Context
from services.admin.operations.handlers import check_connections
from services.admin.operations.messages import MOST_AT_ONCE, DeliveredAgain
from shared.clock import utc_now
from shared.errors import InvalidInput
from shared.handlers import Handler, edit
from shared.rules.choosing import Candidate, choose
from shared.storage import connections, delivering_again, handlers, ledger_rule_facts
from shared.storage.ledger_rule_facts import PastMail
from shared.storage.pool import Session

#: A dry run looks at mails for so many seconds, and answers with what it has seen by then.
SECONDS: Final = 5.0
DAYS: Final = 30
MOST_DAYS: Final = 366
MOST_LISTED: Final = 100
_PAGE: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """Of `looked_at` mails it would take `taken`, of which `unsure` in doubt.

    `listed`: the newest of the taken ones; `left_out`: the newest of the others, with the reason.
    `complete` is false where time ran out: `back_to` is the oldest that was looked at.
    `not_kept`: what of the rules cannot be answered for past mails.
    """

    looked_at: int
    taken: int
    unsure: int
    listed: tuple[PastMail, ...]
    left_out: tuple[tuple[PastMail, str], ...]
    since: datetime
    back_to: datetime | None
    complete: bool
    not_kept: str
    sentences: tuple[str, ...]


class _Tally:
    """What a handler would have taken of the mails that were added, and the first of them."""

    def __init__(self, handler: Handler, others: tuple[_GroupMember, ...], listed: int) -> None:
        self._handler = handler
        self._candidates = (*others, _candidate(handler))
        self._listed = listed
        self.looked_at = self.taken = self.unsure = 0
        self.shown: list[PastMail] = []
        self.left_out: list[tuple[PastMail, str]] = []

    def add(self, mail: PastMail) -> None:
        handler_id = self._handler.id
        self.looked_at += 1
        choice = choose(
            [one for one in self._candidates if _takes(one, mail, self._handler)],
            lambda: mail.facts,
            asked={one.handler_id for one in self._candidates},
        )
        if handler_id in choice.chosen:
            self.taken += 1
            self.unsure += handler_id in choice.unsure
            if len(self.shown) < self._listed:
                self.shown.append(mail)
        elif len(self.left_out) < self._listed:
            reasons = {one.handler_id: one.reason for one in choice.left_out}
            self.left_out.append((mail, reasons.get(handler_id, "")))


def dry_run(
    ctx: Context,
    handler_id: int,
    changes: Mapping[str, Any],
    *,
    days: int = DAYS,
    listed: int = 20,
) -> DryRun:
    """What a handler would have taken with `changes`, before they are saved; nothing is changed.

    Raises NotFound, InvalidInput.
    """
    with ctx.transaction() as session:
        handler = edit(handlers.get(session, handler_id), changes)
        check_connections(session, handler.rules)
        others = tuple(one for one in _others_of_group(session, handler) if one.enabled)
        names = connections.names(session)
    since = utc_now() - timedelta(days=days)
    ends = time.monotonic() + SECONDS
    tally = _Tally(handler, others, listed)
    back_to: datetime | None = None
    complete = True
    for mail in chain.from_iterable(_pages(ctx, handler, names, since, None, ends)):
        tally.add(mail)
        back_to = mail.downloaded_at
        if time.monotonic() > ends:  # a rule may be asked for long, too
            complete = False
            break
    return DryRun(
        looked_at=tally.looked_at,
        taken=tally.taken,
        unsure=tally.unsure,
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


def deliver_since(
    ctx: Context,
    handler_id: int,
    since: datetime,
    *,
    before: uuid.UUID | None = None,
    most: int = MOST_AT_ONCE,
) -> DeliveredAgain:
    """Delivers what the saved rules would have taken since `since` and the handler did not get.

    The decryptor decides about each with all that the mail says; in a group, who has a mail keeps
    it. At most `most` mails or a few seconds a call: `next` continues. Raises NotFound,
    InvalidInput.
    """
    with ctx.transaction() as session:
        handler = handlers.get(session, handler_id)
        names = connections.names(session)
        others = _others_of_group(session, handler)
    if not handler.enabled:
        raise InvalidInput(f"The handler {handler.name!r} is disabled.", field="handler")
    ends = time.monotonic() + SECONDS
    count = 0
    following: uuid.UUID | None = None
    for page in _pages(ctx, handler, names, since, before, ends):
        wanted: list[uuid.UUID] = []
        for mail in page:
            if _missed(handler, others, mail):
                wanted.append(mail.id)
            if time.monotonic() > ends:
                break
        with ctx.transaction() as session:
            count += len(delivering_again.reconsider(session, wanted, handler.id))
        is_last = mail is page[-1] and len(page) < _PAGE
        if not is_last and (count >= most or time.monotonic() > ends):
            following = mail.id
            break
    with ctx.transaction() as session:
        what = {"since": since, "count": count}
        ctx.record(session, "deliver past mails", f"handler/{handler_id}", after=what)
    return DeliveredAgain(count, following)


def move_handler(ctx: Context, handler_id: int, to: Literal["up", "down"] | int) -> Handler:
    """Moves a handler within its group: by one place, or to a place (from 1). Raises NotFound,
    InvalidInput."""
    with ctx.transaction() as session:
        handler = handlers.get(session, handler_id, lock=True)
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


def _pages(
    ctx: Context,
    handler: Handler,
    names: Mapping[int, str],
    since: datetime,
    before: uuid.UUID | None,
    ends: float,
) -> Iterator[list[PastMail]]:
    while True:
        with ctx.transaction() as session:
            page = ledger_rule_facts.page(
                session,
                names,
                since=since,
                before=before,
                connection_ids=handler.connection_ids,
                limit=_PAGE,
                seconds=max(1.0, ends - time.monotonic()),
            )
        if page:
            yield page
        if len(page) < _PAGE:
            return
        before = page[-1].id


def _missed(handler: Handler, others: tuple[_GroupMember, ...], mail: PastMail) -> bool:
    if handler.id in mail.delivered_to:
        return False
    candidates, gone = [_candidate(handler)], list[_GroupMember]()
    for one in others:
        (candidates if one.enabled and _takes(one, mail, handler) else gone).append(one)
    choice = choose(
        candidates, lambda: mail.facts, asked={handler.id}, delivered=mail.delivered_to, gone=gone
    )
    return handler.id in choice.chosen


@dataclass(frozen=True, slots=True)
class _GroupMember(Candidate):
    """A handler of the group, with the connections that it takes."""

    connections: frozenset[int] | None = None
    enabled: bool = True


def _others_of_group(session: Session, handler: Handler) -> tuple[_GroupMember, ...]:
    if not handler.group:
        return ()
    members = _group(session, handler.group)
    return tuple(_candidate(one) for one in members if one.id != handler.id)


def _group(session: Session, name: str) -> list[Handler]:
    return [one for one in handlers.search(session) if one.group == name]


def _candidate(one: Handler) -> _GroupMember:
    taken = None if one.connection_ids is None else frozenset(one.connection_ids)
    return _GroupMember(one.id, one.name, one.rules, one.group, one.position, taken, one.enabled)


def _takes(one: _GroupMember, mail: PastMail, handler: Handler) -> bool:
    taken = one.connections
    return one.handler_id == handler.id or taken is None or mail.connection_id in taken


def _place(one: Handler) -> tuple[int, int]:
    return one.position, one.id
