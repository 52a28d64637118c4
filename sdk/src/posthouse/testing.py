"""For the tests of handlers: events without a mailbox, a consumer without a broker.

from posthouse.testing import make_event, run_in_memory

def test_a_ticket_is_opened():
    report = run_in_memory(handle, [make_event(subject="Help")])
    assert report.acknowledged and not report.dead
"""

from __future__ import annotations

import hashlib
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableSet, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from posthouse.callbacks import Callback, refuse_unusable
from posthouse.consumer import Consumer
from posthouse.contents import read_message
from posthouse.event import MailEvent
from posthouse.event_data import Connection, Headers, Raw, Redelivery, Security
from posthouse.mail import Address, AuthenticationResult, Spam
from posthouse.ordering import OrderKey
from posthouse.outcome import Outcome
from posthouse.source import Held
from posthouse.testing_facts import facts_of
from posthouse.testing_mails import MadeMail

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def make_event(
    *,
    subject: str = "Hello",
    sender: str = "ann@example.org",
    sender_name: str = "Ann Example",
    to: Sequence[str] = ("support@example.com",),
    cc: Sequence[str] = (),
    text: str = "Hello,\nthis is a mail.\n",
    html: str = "",
    attachments: Mapping[str, bytes] = _NOTHING,
    headers: Mapping[str, str] = _NOTHING,
    raw: bytes | None = None,
    kind: str | None = None,
    reply_text: str = "",
    thread: str | None = None,
    folder: str = "INBOX",
    labels: Sequence[str] = (),
    arrived_at: datetime | None = None,
    authentication: Sequence[AuthenticationResult] = (),
    spam: Spam | None = None,
    id: str | None = None,
    connection: Connection | None = None,
    sequence: int = 1,
    security: Security | None = None,
    redelivery: Redelivery | None = None,
) -> MailEvent:
    """A complete event of a mail that is made of what stands before `raw` (`attachments`: octets by
    the name of the file; `headers`: further fields), or is `raw` (RFC 5322).

    Its fields and facts are those of the mail, as Python's `email` reads it; its kind is what the
    mail's own fields say by the RFCs (Posthouse knows more fields), or `kind`; its thread is its
    first message id, or `thread`. What no mail says itself is as it is given: `reply_text`, a guess
    of Posthouse's, and what the mailbox says of a mail (`folder` to `spam`).
    """
    identifier = id or str(uuid.uuid4())
    now = datetime.now(UTC)
    if raw is None:
        raw = MadeMail(
            f"<{identifier}@example.org>",
            now,
            subject,
            sender,
            sender_name,
            to,
            cc,
            text,
            html,
            attachments,
            headers,
        ).octets()
    facts = facts_of(raw, kind)
    facts = replace(
        facts,
        reply_text=reply_text,
        thread=facts.thread if thread is None else thread,
        folder=folder,
        labels=tuple(labels),
        arrived_at=arrived_at,
        authentication=tuple(authentication),
        spam=spam,
    )
    parsed = read_message(raw)
    author = facts.senders[0] if facts.senders else Address("", "")
    connection = connection or Connection(1, "Support", "imap", "support@example.com")
    return MailEvent(
        id=identifier,
        source=f"/connections/{connection.id}",
        time=now,
        connection=connection,
        sequence=sequence,
        headers=Headers(
            str(parsed["message-id"] or "").strip(),
            author.address,
            tuple(one.address for one in facts.to),
            tuple(one.address for one in facts.cc),
            str(parsed["subject"] or ""),
            parsed["date"].datetime if parsed["date"] else None,
            author.name,
            tuple(one.name for one in facts.to),
            tuple(one.name for one in facts.cc),
        ),
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        raw=Raw(inline=raw),
        security=security or Security(),
        mail=facts,
        downloaded_at=now,
        redelivery=redelivery,
    )


class Dead(NamedTuple):
    """An event that was rejected or given up, by its id."""

    id: str
    reason: str


class Retried(NamedTuple):
    """A delivery after which the event with this id comes again; `attempt` counts from 1."""

    id: str
    attempt: int


@dataclass
class Report:
    """What became of the events: `acknowledged` has ids, in the order of the settling."""

    acknowledged: list[str] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    retried: list[Retried] = field(default_factory=list)


def run_in_memory(
    callback: Callback,
    events: Iterable[MailEvent],
    *,
    concurrency: int = 1,
    max_deliveries: int = 10,
    seen: MutableSet[str] | None = None,
    timeout_s: float | None = None,
    order_by: OrderKey | None = None,
    on_outcome: Callable[[Outcome], object] | None = None,
) -> Report:
    """Runs the real consumer over `events` until each is settled. Delays pass at once.

    Raises TypeError for a callback that `Consumer.run` would refuse.
    """
    refuse_unusable(callback)
    source = _MemorySource(events)
    consumer = Consumer(
        "memory://",
        "test",
        concurrency=concurrency,
        max_deliveries=max_deliveries,
        seen=seen,
        timeout_s=timeout_s,
        order_by=order_by,
        on_outcome=on_outcome,
        verify=False,
        source=source,
    )
    source.settled = consumer.stop
    if not source.open:
        return source.report
    consumer.run(callback)
    return source.report


#: Deliveries put off in one run in memory, where no time passes.
_MOST_RETRIES = 1000


class _MemorySource:
    longest_delay_s = 0.0
    keeps_held = True

    def __init__(self, events: Iterable[MailEvent]) -> None:
        self._queue = deque(
            (Held(number, event.to_json(), 1), event.id) for number, event in enumerate(events)
        )
        self._given: dict[object, tuple[bytes, str]] = {}
        self.open = len(self._queue)
        self.report = Report()
        self.settled: Callable[[], None] = lambda: None

    def receive(self, room: int, wait_s: float) -> list[Held]:
        given = []
        for _ in range(min(room, len(self._queue))):
            held, event_id = self._queue.popleft()
            self._given[held.token] = (held.body, event_id)
            given.append(held)
        return given

    def acknowledge(self, done: Sequence[Held]) -> None:
        for held in done:
            self.report.acknowledged.append(self._close(held))

    def again(self, held: Held, *, counts: bool) -> Held | None:
        body, event_id = self._given[held.token]
        self.report.retried.append(Retried(event_id, held.attempt))
        if len(self.report.retried) > _MOST_RETRIES:
            raise RuntimeError(f"event {event_id} is put off again and again")
        return replace(held, body=body, attempt=held.attempt + counts)

    def dead_letter(self, held: Held, reason: str) -> None:
        self.report.dead.append(Dead(self._close(held), reason))

    def keep(self, held: Sequence[Held]) -> None:
        pass

    def give_back(self, held: Sequence[Held]) -> None:
        pass

    def close(self) -> None:
        pass

    def _close(self, held: Held) -> str:
        _, event_id = self._given.pop(held.token)
        self.open -= 1
        if not self.open:
            self.settled()
        return event_id
