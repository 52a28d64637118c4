"""The mails of the past as rules see them: what the ledger keeps of each. Reads only."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import errors as pg
from psycopg.rows import dict_row

from shared.clock import first_id
from shared.connections import folder_name
from shared.errors import InvalidInput
from shared.handlers import Handler
from shared.mail.addresses import lowered
from shared.mail.summary import MailHeaders
from shared.mail_security import UNOPENED
from shared.rules.choosing import LeftOut
from shared.rules.facts import RuleFacts, all_addressed, with_kept
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("ledger_rule_facts")


@dataclass(frozen=True, slots=True)
class PastMail:
    """One mail, as one handler is asked about it. Header fields are not kept: what asks for them
    has no answer.

    `delivered_to`: who has it; `to_have`: who is about to get it; `is_asked`: whether the handler's
    rules are asked when it is published, which it waits for; `left_out`: why the handler does not
    get it, of a mail that waits, where it is in a group, or where `rules_since` is given;
    `is_decided`: that was decided since then.
    """

    id: uuid.UUID
    connection_id: int
    facts: RuleFacts
    subject: str
    sender: str
    downloaded_at: datetime
    delivered_to: frozenset[int]
    to_have: frozenset[int]
    is_asked: bool
    left_out: LeftOut | None
    is_decided: bool


def page(
    session: Session,
    names: Mapping[int, str],
    *,
    handler: Handler,
    since: datetime,
    before: uuid.UUID | None,
    limit: int,
    seconds: float,
    rules_since: datetime | None = None,
) -> list[PastMail]:
    """Mails of a handler's connections downloaded since `since`, newest first; `names` are those of
    the connections. `rules_since`: since when the handler has the rules that are asked.

    Raises InvalidInput where it would take longer than `seconds`.
    """
    taken = handler.connection_ids
    values = {
        "since": first_id(since),
        "before": before,
        "connection_ids": None if taken is None else list(taken),
        "handler_id": handler.id,
        "in_group": bool(handler.group),
        "rules_since": rules_since,
        "limit": limit,
    }
    try:
        with session.transaction(), session.cursor(row_factory=dict_row) as cursor:
            # Compiling the plan of all partitions takes longer than running it.
            cursor.execute(
                f"SET LOCAL jit = off; SET LOCAL statement_timeout = '{int(seconds * 1000)}ms'"
            )
            # A plan for whichever connections goes through the mails of all.
            rows = cursor.execute(_SQL["page"], values, prepare=False)
            return [_mail(row, names) for row in rows]
    except pg.QueryCanceled as error:
        raise InvalidInput(
            f"Looking at past mails was given up after {seconds:g} seconds.",
            field="since",
            hint="Look at fewer days.",
        ) from error


def _mail(row: Mapping[str, Any], names: Mapping[int, str]) -> PastMail:
    plain = MailHeaders(
        message_id=row["message_id"],
        sender=row["sender"],
        to=tuple(row["recipients"]),
        cc=tuple(row["cc"]),
        subject=row["subject"],
        date=None,
        sender_name=row["sender_name"],
        to_names=("",) * len(row["recipients"]),
        cc_names=("",) * len(row["cc"]),
        findings=(),
    )
    headers = MailHeaders.from_json(row["headers"] or {}, plain)
    facts = RuleFacts(
        # One that is gone is none of those that rules name, or was when it had the mail: what was
        # handed over then is not asked for anew.
        connection=names.get(row["connection_id"], ""),
        folder=folder_name(row["folder"]),
        sender=lowered(headers.sender),
        addressed=tuple(map(lowered, (*headers.to, *headers.cc))),
        addressed_complete=all_addressed(headers.to, headers.cc),
        subject=headers.subject,
        size=row["size"],
        signature=row["signature"] or "none",
        encrypted=row["encrypted"],
        is_cut=row["is_cut"],
    )
    *out, is_decided = row["left_out"] or (False,)
    return PastMail(
        row["id"],
        row["connection_id"],
        with_kept(facts, row["facts"], opened=row["status"] not in UNOPENED),
        row["subject"],
        row["sender"],
        row["downloaded_at"],
        frozenset(row["delivered_to"]),
        frozenset(row["to_have"] or ()),
        row["is_asked"],
        LeftOut(*out) if out else None,
        bool(is_decided),
    )
