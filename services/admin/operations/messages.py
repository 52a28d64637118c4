"""Mails: find one, see its path, read it, have it delivered again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Final

from services.admin.context import Context
from shared import person_erasure
from shared.errors import InvalidInput, NotFound
from shared.mail.kinds import MailKind as MailKind
from shared.mail_security import UNOPENED
from shared.messages import RawRef
from shared.person_erasure import Erased
from shared.storage import delivering_again, handlers, message_search, messages
from shared.storage.message_filter import MessageFilter as MessageFilter
from shared.storage.message_paths import Delivered as Delivered
from shared.storage.message_paths import Stop as Stop
from shared.storage.message_search import MessagePage as MessagePage
from shared.storage.messages import LoggedMessage as LoggedMessage
from shared.storage.messages import MessageDetail as MessageDetail
from shared.storage.messages import MessageState as MessageState
from shared.storage.messages import NotFor as NotFor

#: One call re-delivers no more mails than this; another call continues.
MOST_AT_ONCE: Final = 10_000
_CHUNK: Final = 500
#: Nor does it begin with more of them after so many seconds.
_LONGEST_S: Final = 20.0
#: Mails that the page of a mail shows of its thread.
_OF_THREAD: Final = 30


@dataclass(frozen=True, slots=True)
class DeliveredAgain:
    """How many mails are on their way again; `next` continues where more match."""

    count: int
    next: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class RawMail:
    """The octets of one mail, in chunks of at most 1 MiB. `original`: as it was downloaded."""

    size: int
    original: bool
    chunks: Iterator[bytes]


def search_messages(
    ctx: Context, wanted: MessageFilter, *, before: uuid.UUID | None = None, limit: int = 50
) -> MessagePage:
    """Raises InvalidInput where the search would take too long."""
    wanted = replace(wanted, part=ctx.principal.tags)
    with ctx.transaction() as session:
        return message_search.search(session, wanted, before=before, limit=limit)


def get_message(ctx: Context, message_id: uuid.UUID) -> MessageDetail:
    """A mail with its path. Raises NotFound."""
    with ctx.transaction() as session:
        return messages.get(session, message_id)


def get_thread(ctx: Context, message: LoggedMessage) -> MessagePage:
    """The mails of the thread of a mail that came last, itself among them where it did, by their
    dates, newest first; `next` is set where there are more. Empty where its thread is not known."""
    if not message.thread:
        return MessagePage((), None)
    page = search_messages(ctx, MessageFilter(thread=message.thread), limit=_OF_THREAD)
    return replace(page, items=tuple(sorted(page.items, key=_written_at, reverse=True)))


def _written_at(message: LoggedMessage) -> tuple[datetime, datetime, int, uuid.UUID]:
    """When a mail was sent, as it says, if that may be: before it was here. Of mails of the same
    second when they arrived, as their server says, and their place in the order of downloads."""
    sent, here = message.sent_at, message.downloaded_at
    written = here if sent is None or sent > here else sent
    return written, message.arrived_at or here, message.sequence, message.id


def read_message(ctx: Context, message_id: uuid.UUID, *, original: bool = False) -> RawMail:
    """What a handler should read: decrypted where possible, unless `original`.

    A handler gets its own mails only: those published to it, or about to be.
    Raises NotFound, also where retention has removed the octets.
    """
    with ctx.transaction() as session:
        handler_id = ctx.principal.handler_id
        if handler_id is not None and not messages.handler_may_read(
            session, handler_id, message_id
        ):
            raise NotFound(f"There is no mail {message_id}.")
        as_it_came = messages.raw(session, message_id, original=True)
        ref = as_it_came if original else messages.raw(session, message_id)
        ctx.record_reading(session, f"message/{message_id}")
    return RawMail(ref.size, ref == as_it_came, _stream(ctx, ref))


def deliver_message_again(
    ctx: Context, message_id: uuid.UUID, *, handler_ids: Sequence[int] = (), reason: str = ""
) -> None:
    """Publishes a mail again, with the same event id; to all handlers that take it where none is
    named. A mail that could not be decrypted is tried again first. The event tells a handler that
    had it the `reason`. Raises NotFound."""
    if ctx.principal.tags and handler_ids:
        raise InvalidInput(
            "Your rights are for some connections only: a mail goes to those that take it.",
            field="handlers",
        )
    with ctx.transaction() as session:
        _check_handlers(ctx, handler_ids)
        detail = messages.get(session, message_id)
        if detail.quarantine:
            raise InvalidInput("This mail is in quarantine.", hint="Release it there.", field="id")
        unopened = _is_unopened(detail.message)
        why = reason.strip() or _reason(unopened)
        delivering_again.deliver_again(session, [message_id], handler_ids, reason=why)
        if unopened:
            delivering_again.reopen(session, [message_id], reason=why)
        ctx.record(
            session,
            "deliver-again",
            f"message/{message_id}",
            after={"handlers": list(handler_ids), "reason": why},
        )


def deliver_messages_again(
    ctx: Context,
    wanted: MessageFilter,
    *,
    handler_ids: Sequence[int] = (),
    reason: str = "",
    before: uuid.UUID | None = None,
    most: int = MOST_AT_ONCE,
) -> DeliveredAgain:
    """The same for all that a search finds, newest first, at most `most` of them.

    A filter that names nothing is refused: nobody means every mail there is.
    """
    if wanted == MessageFilter():
        raise InvalidInput(
            "The filter is empty: this would deliver every mail again.",
            hint="Give a connection, a state, a time or a text.",
        )
    _check_handlers(ctx, handler_ids)
    count = 0
    deadline = time.monotonic() + _LONGEST_S
    while count < most and time.monotonic() < deadline:
        limit = min(_CHUNK, most - count)
        with ctx.transaction() as session:
            page = message_search.search(session, wanted, before=before, limit=limit)
            fitting = [message for message in page.items if message.state != "quarantined"]
            for unopened in (False, True):
                ids = [m.id for m in fitting if _is_unopened(m) is unopened]
                why = reason.strip() or _reason(unopened)
                delivering_again.deliver_again(session, ids, handler_ids, reason=why)
                if unopened:
                    delivering_again.reopen(session, ids, reason=why)
            count += len(fitting)
        before = page.next
        if before is None:
            break
    with ctx.transaction() as session:
        what = {"filter": str(wanted), "handlers": list(handler_ids), "count": count}
        ctx.record(session, "deliver-again", "messages", after=what)
    return DeliveredAgain(count, before)


def erase_person(ctx: Context, address: str) -> Erased:
    """Erases every mail that `address` sent or was addressed in: rows and octets.

    The audit log keeps that it was done, and not whom it concerned. Raises InvalidInput.
    """
    erased = person_erasure.erase_person(ctx.app_state.database, ctx.app_state.store, address)
    with ctx.transaction() as session:
        ctx.record(session, "erase", "messages", after=erased)
    return erased


def _check_handlers(ctx: Context, handler_ids: Sequence[int]) -> None:
    with ctx.transaction() as session:
        known = {handler.id: handler for handler in handlers.search(session)}
    for handler_id in handler_ids:
        if handler_id not in known:
            raise InvalidInput(f"There is no handler {handler_id}.", field="handlers")
        if not known[handler_id].enabled:
            raise InvalidInput(
                f"The handler {known[handler_id].name!r} is disabled.", field="handlers"
            )


def _reason(unopened: bool) -> str:
    """What the event says where nobody gave a reason."""
    return "opened-again" if unopened else "requested"


def _is_unopened(message: LoggedMessage) -> bool:
    return (message.security or {}).get("status") in UNOPENED


def _stream(ctx: Context, ref: RawRef) -> Iterator[bytes]:
    # The first chunk is read at once, so that a missing object is an error and no short answer.
    chunks = ctx.app_state.store.stream(ref)
    first = next(chunks, b"")
    return chain([first], chunks)
