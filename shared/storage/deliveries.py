"""Which handlers get which mail, which have it, and why others do not."""

from __future__ import annotations

import uuid
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from shared.rules.choosing import Candidate, LeftOut
from shared.rules.ruleset import Rules, stored_rules
from shared.storage.arrays import array, text_array, uuid_array
from shared.storage.outbox_claims import Redelivery
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("deliveries")


@dataclass(frozen=True, slots=True)
class DeliveryTarget:
    """A handler, the connections it takes (None: all) and its sealed signing keys."""

    handler_id: int
    name: str
    connections: frozenset[int] | None
    signing_key: bytes | None = None
    former_signing_key: bytes | None = None
    rules: Rules = field(default_factory=Rules)
    group: str = ""
    position: int = 0

    def takes(self, connection_id: int) -> bool:
        return self.connections is None or connection_id in self.connections

    @property
    def is_choosy(self) -> bool:
        """Whether it may be left out of a mail of its connections."""
        return bool(self.rules or self.group)

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.handler_id, self.name, self.rules, self.group, self.position)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of mails that are to be published: those that are still ours, the enabled
    handlers and the disabled ones, and who had which mail already, on which asking it was the last
    time."""

    mine: set[uuid.UUID]
    targets: Sequence[DeliveryTarget]
    delivered: Mapping[uuid.UUID, Mapping[int, Redelivery | None]]
    disabled: Sequence[DeliveryTarget]


def recorded(
    session: Session, ids: Sequence[uuid.UUID], token: uuid.UUID, connection_ids: Iterable[int]
) -> Recorded:
    """Asked right before publishing: a decryptor that stalled must not publish a second time."""
    values = {
        "ids": uuid_array(ids),
        "claim": token,
        "connection_ids": array(map(str, sorted(set(connection_ids)))),
    }
    rows = session.execute(_SQL.of("standing", len(ids)), values).fetchall()
    *_, mine, delivered, _ = rows[0]
    found: dict[uuid.UUID, dict[int, Redelivery | None]] = defaultdict(dict)
    for message_id, handler_id, redelivery in delivered or ():
        found[uuid.UUID(message_id)][handler_id] = redelivery
    there = [row for row in rows if row[0] is not None]
    return Recorded(
        set(mine),
        [_target(row) for row in there if row[-1]],
        found,
        [_target(row) for row in there if not row[-1]],
    )


@lru_cache(maxsize=64)
def targets_in(text: str) -> Sequence[DeliveryTarget]:
    """The handlers in what a claim says of a mail (`shared.storage.outbox_claims.Fresh`), of which
    each takes it by its connection. Read once for each version."""
    return [
        DeliveryTarget(
            identifier,
            name,
            None,
            key and b64decode(key),
            former and b64decode(former),
            stored_rules(rules) if rules else Rules(),
            group,
            position,
        )
        for identifier, name, key, former, rules, group, position in orjson.loads(text)
    ]


def _target(row: tuple[Any, ...]) -> DeliveryTarget:
    identifier, name, takes_all, chosen, key, former, rules, group, position, *_ = row
    return DeliveryTarget(
        identifier,
        name,
        None if takes_all else frozenset(chosen),
        key,
        former,
        stored_rules(rules) if rules else Rules(),
        group,
        position,
    )


def left_out(session: Session, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, dict[int, LeftOut]]:
    """Which handlers do not get these mails, by handler."""
    found: dict[uuid.UUID, dict[int, LeftOut]] = defaultdict(dict)
    for message_id, *row in session.execute(_SQL["left_out"], {"ids": uuid_array(ids)}):
        one = LeftOut(*row)
        found[message_id][one.handler_id] = one
    return found


def record_choices(
    session: Session, rows: Sequence[tuple[uuid.UUID, frozenset[int], Mapping[int, str]]]
) -> None:
    """(message, handlers that get it, why some do in doubt).

    For mails that `hold` gave in this transaction. They get it although they were left out before:
    no row says so any more.
    """
    if not rows:
        return
    session.execute(
        _SQL["record_choices"],
        {
            "ids": uuid_array(row[0] for row in rows),
            "choices": text_array(array(map(str, sorted(row[1]))) for row in rows),
            "doubts": [
                Jsonb({str(handler): why for handler, why in row[2].items()}) for row in rows
            ],
        },
    )
    forget_left_out(session, [(row[0], handler) for row in rows for handler in row[1]])


def record_left_out(session: Session, rows: Sequence[tuple[uuid.UUID, LeftOut]]) -> None:
    """(message, the handler that does not get it), in the same transaction."""
    if rows:
        session.execute(
            _SQL["record_left_out"],
            {
                "ids": uuid_array(row[0] for row in rows),
                "handlers": array(str(row[1].handler_id) for row in rows),
                "by": text_array(row[1].by for row in rows),
                "reasons": text_array(row[1].reason for row in rows),
                "holders": [row[1].holder for row in rows],
            },
        )


def forget_left_out(session: Session, rows: Sequence[tuple[uuid.UUID, int]]) -> None:
    """(message, handler) that is decided about anew: what was decided stays on the path alone."""
    if rows:
        session.execute(
            _SQL["forget_left_out"],
            {
                "ids": uuid_array(row[0] for row in rows),
                "handlers": array(str(row[1]) for row in rows),
            },
        )


def record_deliveries(
    session: Session,
    rows: Sequence[tuple[uuid.UUID, int, str]],
    notes: Mapping[tuple[uuid.UUID, int], str] | None = None,
    *,
    delivered: Mapping[tuple[uuid.UUID, int], Redelivery | None] | None = None,
) -> None:
    """(message, handler, position) of events that the output queue has confirmed.

    By (message, handler): `notes`, why a handler got a mail in doubt; `delivered`, those that got
    it before, with the asking on which they have it now. For mails that `hold` gave in this
    transaction.
    """
    delivered = delivered or {}
    again = [row for row in rows if (row[0], row[1]) in delivered]
    if again:
        values = {
            "ids": uuid_array(row[0] for row in again),
            "handlers": array(str(row[1]) for row in again),
        }
        session.execute(_SQL["keep_deliveries"], values)
    if rows:
        session.execute(
            _SQL["record_deliveries"],
            {
                "ids": uuid_array(row[0] for row in rows),
                "handlers": array(str(row[1]) for row in rows),
                "positions": text_array(row[2] for row in rows),
                "notes": text_array((notes or {}).get((row[0], row[1]), "") for row in rows),
                "redeliveries": [
                    Jsonb(redelivery) if (redelivery := delivered.get((row[0], row[1]))) else None
                    for row in rows
                ],
            },
        )
