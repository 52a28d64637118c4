"""Which handlers get a mail: asked of their rules once, recorded before anything is published.

So a second attempt publishes to the same handlers, whatever the rules say by then: in a group never
to two of them, and never to none.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.connections import Connection, folder_name
from shared.mail.addresses import lowered
from shared.mail.encoded_words import read_text
from shared.mail.fields import HEADER_LIMIT, read_fields
from shared.mail.summary import MailHeaders
from shared.mail_security import UNOPENED
from shared.messages import DecryptOutcome
from shared.rules.choosing import Candidate, Choice, LeftOut, choose
from shared.rules.facts import RuleFacts, all_addressed, is_cut, kept, with_kept
from shared.storage import deliveries, outbox
from shared.storage.deliveries import DeliveryTarget
from shared.storage.outbox_claims import Claimed, Redelivery
from shared.storage.pool import Database, Session

#: Octets of a mail that say whether its header is longer than is read: the empty line that ends one
#: of just that length is among them.
HEADER_OCTETS: Final = HEADER_LIMIT + 2
_MOST_FIELDS: Final = 500
_VALUE_LIMIT: Final = 2048


@dataclass(frozen=True, slots=True)
class Standing:
    """What is so far: which mails are still ours, who may have them, who has which, and who was
    left out of which.

    `is_asked`: whether there is a handler with rules or in a group, or a mail of which was decided.
    `disabled`: handlers that may hold a place in a group; not known of a mail that nobody began.
    """

    mine: set[uuid.UUID]
    targets: Sequence[DeliveryTarget]
    delivered: Mapping[uuid.UUID, Mapping[int, Redelivery | None]]
    left_out: Mapping[uuid.UUID, Mapping[int, LeftOut]]
    is_asked: bool
    disabled: Sequence[DeliveryTarget] = ()

    def delivered_to(self, mail: Claimed) -> set[int]:
        return set(self.delivered.get(mail.id, ())) if self.delivered else set()

    def redelivery(self, mail: Claimed, handler_id: int) -> Redelivery | None:
        """What a handler that had the mail is told of why it comes again; None: nobody asked.

        A queue that was lost and is filled again repeats what the handler was told before.
        """
        before = self.delivered.get(mail.id, {}).get(handler_id) if self.delivered else None
        return mail.redeliveries.get(handler_id) or before

    def candidates(self, mail: Claimed) -> list[DeliveryTarget]:
        """The handlers that a mail is for, before their rules are asked."""
        return [
            target
            for target in self.targets
            if target.handler_id in mail.asked_handlers
            or (mail.initial and target.takes(mail.connection_id))
        ]

    def is_choosy(self, mail: Claimed) -> bool:
        """Whether anything has to be decided about a mail, or was."""
        return self.is_asked and (
            mail.chosen is not None or any(one.is_choosy for one in self.candidates(mail))
        )

    def choice(self, mail: Claimed, facts: Callable[[], RuleFacts]) -> Choice:
        """Decides; what was decided before stands."""
        asked = {target.handler_id for target in self.candidates(mail)}
        candidates: list[Candidate] = []
        gone = [target.candidate for target in self.disabled]
        for target in self.targets:
            takes = target.handler_id in asked or target.takes(mail.connection_id)
            (candidates if takes else gone).append(target.candidate)
        return choose(
            candidates,
            facts,
            asked=asked,
            delivered=self.delivered_to(mail) | mail.earlier_handlers,
            chosen=mail.chosen or frozenset(),
            left_out=self.left_out.get(mail.id),
            gone=gone,
        )


def standing_of(database: Database, mails: Sequence[Claimed], token: uuid.UUID) -> Standing:
    """What is recorded of these mails, asked right before they are published. What was said of one
    that comes alone when it was claimed, a moment ago, is not asked again."""
    fresh = mails[0].fresh if len(mails) == 1 else None
    if fresh is not None and time.monotonic() < fresh.until:
        targets = deliveries.targets_in(fresh.targets)
        return Standing({mails[0].id}, targets, {}, {}, any(t.is_choosy for t in targets))
    ids = [mail.id for mail in mails]
    with database.autocommit() as session:
        found = deliveries.recorded(session, ids, token, [mail.connection_id for mail in mails])
        asks = any(t.is_choosy for t in found.targets) or any(m.chosen is not None for m in mails)
        left_out = deliveries.left_out(session, ids) if asks else {}
    return Standing(found.mine, found.targets, found.delivered, left_out, asks, found.disabled)


def record(
    session: Session,
    token: uuid.UUID,
    choices: Mapping[uuid.UUID, Choice],
    mails: Sequence[Claimed],
    standing: Standing,
) -> set[uuid.UUID]:
    """Records what was decided; returns the mails that are still ours.

    Where a handler is left out for another reason than before (`standing`), both stay on the path.
    """
    held = outbox.hold(session, [mail.id for mail in mails], token)
    ours = [mail for mail in mails if mail.id in held]
    out: list[tuple[uuid.UUID, LeftOut]] = [
        (mail.id, one) for mail in ours for one in choices[mail.id].left_out
    ]
    before = [
        (mail_id, one.handler_id)
        for mail_id, one in out
        if one.handler_id in standing.left_out.get(mail_id, ())
    ]
    deliveries.forget_left_out(session, before)
    deliveries.record_left_out(session, out)
    chosen = [
        (
            mail.id,
            choices[mail.id].chosen | choices[mail.id].standing,
            choices[mail.id].unsure,
        )
        for mail in ours
    ]
    deliveries.record_choices(session, chosen)
    return held


def rule_facts(
    mail: Claimed,
    outcome: DecryptOutcome,
    connection: Connection | None,
    facts: Mapping[str, Any],
    header: bytes | None,
) -> RuleFacts:
    """What rules may ask of a mail. `header`: its first `HEADER_OCTETS` or more, where a rule asks
    for fields."""
    security = outcome.security
    headers = MailHeaders.from_json(security.get("headers", {}), mail.headers)
    found = RuleFacts(
        connection=connection.name if connection else None,
        folder=folder_name(mail.folder),
        sender=lowered(headers.sender),
        addressed=tuple(map(lowered, (*headers.to, *headers.cc))),
        addressed_complete=all_addressed(headers.to, headers.cc),
        subject=headers.subject,
        size=mail.size if outcome.opened is None else outcome.opened.size,
        signature=str(security.get("signature", "none")),
        encrypted=bool(security.get("encrypted")),
        is_cut=is_cut(mail.headers.findings),
    )
    if header is not None:
        found = _with_fields(found, header)
    found = with_kept(found, kept(facts), opened=security.get("status") not in UNOPENED)
    # Which servers' results count is a setting of the connection.
    return found if connection else found._replace(authentication=None)


def _with_fields(facts: RuleFacts, octets: bytes) -> RuleFacts:
    found: dict[str, list[str]] = {}
    block = read_fields(octets[:HEADER_OCTETS])
    fields = block.fields
    cut = {""} if len(fields) > _MOST_FIELDS or block.is_too_long else set[str]()
    for field in fields[:_MOST_FIELDS]:
        if field.name:
            found.setdefault(field.name, []).append(read_text(field.value[:_VALUE_LIMIT]).text)
            if len(field.value) > _VALUE_LIMIT:
                cut.add(field.name)
    return facts._replace(headers=found, headers_cut=cut)
