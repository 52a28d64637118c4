"""What a handler makes of the mails of the past: one answer for the dry run and for the delivery.

Its rules say which mails it takes; the ledger says who has them. Who has a mail of a group keeps
it, whatever the order and the rules of the group are by now.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.admin.context import Context
from shared.handlers import Handler
from shared.rules.choosing import BY_GROUP, BY_RULES, Candidate, LeftOut, choose
from shared.storage import handlers, ledger_rule_facts
from shared.storage.ledger_rule_facts import PastMail
from shared.storage.pool import Session

PAGE: Final = 2000
#: A decryptor may go on with the rules that were saved before, for less than that.
_RULES_ARE_READ_S: Final = 10
_WAITS: Final = "it waits to be published: the saved rules are asked then"


@dataclass(frozen=True, slots=True)
class PastChoice:
    """What becomes of one mail.

    `taken`: the handler's rules take it, and no other of its group has it; `had`: it has the mail
    already, or is about to get it; `unsure`: a fact that its rules ask is not known. Of one that is
    not taken, `reason` says why, and `held` that its rules take it and another of its group has it.
    """

    taken: bool
    had: bool = False
    unsure: bool = False
    held: bool = False
    reason: str = ""

    @property
    def missed(self) -> bool:
        """Whether a delivery of past mails gives it to the handler."""
        return self.taken and not self.had


class PastMails:
    """The past mails of a handler's connections, and what it makes of each."""

    def __init__(
        self,
        session: Session,
        handler: Handler,
        names: Mapping[int, str],
        *,
        saved: Handler | None = None,
    ) -> None:
        """`handler` as it is, or as it is to be, then with `saved` as it is; `names` are those of
        the connections."""
        self._handler = handler
        self._rules_since = None
        saved = saved or handler
        if handler.rules and handler.rules == saved.rules and saved.updated_at:
            self._rules_since = saved.updated_at + timedelta(seconds=_RULES_ARE_READ_S)
        self._names = names
        self._own = _candidate(handler)
        everybody = handlers.search(session)
        self._everybody = {one.id for one in everybody}
        self._others = [
            one
            for one in everybody
            if handler.group and one.group == handler.group and one.id != handler.id
        ]

    def pages(
        self, ctx: Context, since: datetime, before: uuid.UUID | None, ends: float
    ) -> Iterator[Sequence[PastMail]]:
        """Mails downloaded since `since`, newest first, `PAGE` at once; `ends`: until when, on the
        monotonic clock. Raises InvalidInput where a page takes longer."""
        while True:
            with ctx.transaction() as session:
                page = ledger_rule_facts.page(
                    session,
                    self._names,
                    handler=self._handler,
                    since=since,
                    before=before,
                    limit=PAGE,
                    seconds=max(1.0, ends - time.monotonic()),
                    rules_since=self._rules_since,
                )
            if page:
                yield page
            if len(page) < PAGE:
                return
            before = page[-1].id

    def choice(self, mail: PastMail) -> PastChoice:
        """What becomes of one of them."""
        own = self._own
        had = own.handler_id in mail.delivered_to | mail.to_have
        if mail.is_asked and not had and mail.left_out is None:
            return PastChoice(False, reason=_WAITS)
        # What it has, nobody takes away from it: only whether its rules take such mails is asked.
        there, gone = ([], []) if had else self._members(mail)
        found = choose(
            [own, *there],
            lambda: mail.facts,
            asked={own.handler_id},
            delivered=frozenset() if had else mail.delivered_to,
            chosen=frozenset() if had else mail.to_have,
            gone=gone,
        )
        if own.handler_id in found.chosen:
            is_unsure = own.handler_id in found.unsure
            decided = mail.left_out
            if is_unsure and not had and decided and decided.by == BY_RULES and mail.is_decided:
                # These very rules were asked with all that the mail says.
                return PastChoice(False, reason=decided.reason)
            return PastChoice(True, had, is_unsure)
        (out,) = found.left_out
        return PastChoice(False, held=out.by == BY_GROUP, reason=_reason(out, mail.left_out))

    def _members(self, mail: PastMail) -> tuple[list[Candidate], list[Candidate]]:
        """The others of its group: those that get mails of the connection, and those that do not
        (any more)."""
        there, gone = list[Candidate](), list[Candidate]()
        for one in self._others:
            takes = one.connection_ids is None or mail.connection_id in one.connection_ids
            (there if one.enabled and takes else gone).append(_candidate(one))
        deleted = mail.left_out.holder if mail.left_out else None
        if deleted is not None and deleted not in self._everybody:
            gone.append(Candidate(deleted, "", group=self._handler.group))
        return there, gone


def _candidate(one: Handler) -> Candidate:
    return Candidate(one.id, one.name, one.rules, one.group, one.position)


def _reason(out: LeftOut, before: LeftOut | None) -> str:
    """The name of a handler that was deleted stands in what was decided then."""
    if before and out.holder is not None and out.holder == before.holder:
        return before.reason
    return out.reason
