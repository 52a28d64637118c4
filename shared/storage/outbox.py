"""What has still to be published: claimed by a decryptor, finished once every handler has it.

The outbox is why the broker may lose everything: a row leaves it only after the output queue of
every handler that takes the mail has confirmed the event.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from shared.mail.summary import MailHeaders, findings_from_json
from shared.messages import Outcome, RawRef
from shared.rules.choosing import Candidate, LeftOut
from shared.rules.ruleset import Rules, stored_rules
from shared.security import Security
from shared.storage import quarantine
from shared.storage.arrays import array, text_array
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("outbox")
_PLAIN = Jsonb(Security().to_json())


#: That a mail was asked for on purpose once more: {count, time (RFC 3339), reason}.
Redelivery = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A mail that this decryptor holds. `outcome` is set where it was opened before."""

    id: uuid.UUID
    connection_id: int
    sequence: int
    size: int
    sha256: bytes
    raw: RawRef
    headers: MailHeaders
    downloaded_at: datetime
    arrived_at: datetime | None
    attempts: int
    initial: bool
    repeat_handlers: frozenset[int]
    outcome: Outcome | None
    correlation_id: uuid.UUID | None = None
    #: Seconds since the store was first seen to lack its bytes, None where it does not.
    missing_s: float | None = None
    #: Handlers that shall have it too where their rules take it.
    asked_handlers: frozenset[int] = frozenset()
    #: Those that had it under another label.
    had_handlers: frozenset[int] = frozenset()
    #: Whom the rules chose at an earlier attempt; None: nothing was decided yet.
    chosen: frozenset[int] | None = None
    #: Why some of them get it in doubt, by handler.
    doubts: dict[int, str] = field(default_factory=dict)
    #: What handlers that had it are told of why it comes again, by handler: {count, time, reason}.
    redeliveries: Mapping[int, Redelivery] = field(default_factory=dict)
    #: The provider's id of the thread, and its labels, where it has such.
    thread: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """An enabled handler, the connections it takes (None: all) and its sealed signing keys."""

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
class Release:
    """Gives a mail back for `delay` seconds.

    `blameless`: the attempt does not count against it; `missing`: its bytes are not in the store.
    """

    id: uuid.UUID
    error: str
    delay: float
    blameless: bool = True
    missing: bool = False


def due(session: Session, limit: int) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
    """Mails that were not published in time: (in batches, each alone)."""
    batch: list[uuid.UUID] = []
    alone: list[uuid.UUID] = []
    for identifier, suspect in session.execute(_SQL["due"], {"limit": limit}):
        (alone if suspect else batch).append(identifier)
    return batch, alone


def claim(
    session: Session, ids: Sequence[uuid.UUID], token: uuid.UUID, ttl: float
) -> list[Claimed]:
    """Takes those of `ids` that nobody holds, in the order in which they lie in the store."""
    rows = session.execute(_SQL["claim"], {"ids": _uuids(ids), "claim": token, "ttl": ttl})
    return [_claimed(row) for row in rows]


def _claimed(row: Sequence[Any]) -> Claimed:
    identifier, size, key, offset = row[0], row[3], row[5], row[6]
    security, opened_key, opened_offset, opened_size, opened_sha256 = row[18:23]
    outcome = None
    if security is not None:
        opened = None if opened_key is None else RawRef(opened_key, opened_offset, opened_size)
        outcome = Outcome(
            id=identifier, security=security, opened=opened, opened_sha256=opened_sha256
        )
    return Claimed(
        id=identifier,
        connection_id=row[1],
        sequence=row[2],
        size=size,
        sha256=row[4],
        raw=RawRef(key, offset, size),
        headers=MailHeaders(
            message_id=row[7],
            sender=row[8],
            to=tuple(row[9] or ()),
            cc=tuple(row[10] or ()),
            subject=row[11],
            date=row[12],
            sender_name=row[24],
            to_names=tuple(row[25] or [""] * len(row[9] or ())),
            cc_names=tuple(row[26] or [""] * len(row[10] or ())),
            findings=findings_from_json(row[27] or ()),
        ),
        downloaded_at=row[13],
        arrived_at=row[14],
        attempts=row[15],
        initial=row[16],
        repeat_handlers=frozenset(row[17]),
        outcome=outcome,
        correlation_id=row[23],
        missing_s=row[28],
        asked_handlers=frozenset(row[29]),
        had_handlers=frozenset(row[30]),
        chosen=None if row[31] is None else frozenset(row[31]),
        doubts={int(handler): why for handler, why in (row[32] or {}).items()},
        thread=row[33],
        labels=tuple(row[34]),
        redeliveries={int(handler): one for handler, one in (row[35] or {}).items()},
    )


def renew(
    session: Session, tokens: Sequence[uuid.UUID], ids: Sequence[uuid.UUID], ttl: float
) -> None:
    """Prolongs claims while their mails are being opened."""
    session.execute(_SQL["renew"], {"claims": list(tokens), "ids": _uuids(ids), "ttl": ttl})


def still_mine(session: Session, ids: Sequence[uuid.UUID], token: uuid.UUID) -> set[uuid.UUID]:
    """Asked right before publishing: a decryptor that stalled must not publish a second time."""
    rows = session.execute(_SQL["still_mine"], {"ids": _uuids(ids), "claim": token})
    return {row[0] for row in rows}


def hold(session: Session, ids: Sequence[uuid.UUID], token: uuid.UUID) -> set[uuid.UUID]:
    """Those of `ids` that are still ours, and stay it until the transaction ends.

    Asked before anything is recorded or finished: whoever took a claim back wants the mail
    published once more.
    """
    rows = session.execute(_SQL["hold"], {"ids": _uuids(ids), "claim": token})
    return {row[0] for row in rows}


def release(session: Session, token: uuid.UUID, releases: Sequence[Release]) -> None:
    if releases:
        session.execute(
            _SQL["release"],
            {
                "claim": token,
                "ids": _uuids(item.id for item in releases),
                "errors": [item.error for item in releases],
                "delays": [item.delay for item in releases],
                "blameless": [item.blameless for item in releases],
                "missing": [item.missing for item in releases],
            },
        )


def targets(session: Session, connection_ids: Iterable[int]) -> list[Target]:
    rows = session.execute(_SQL["targets"], {"connection_ids": sorted(set(connection_ids))})
    return [
        Target(
            identifier,
            name,
            None if takes_all else frozenset(chosen),
            key,
            former,
            stored_rules(rules) if rules else Rules(),
            group,
            position,
        )
        for identifier, name, takes_all, chosen, key, former, rules, group, position in rows
    ]


def delivered(
    session: Session, ids: Sequence[uuid.UUID]
) -> Mapping[uuid.UUID, dict[int, Redelivery | None]]:
    """Which handlers already have which of these mails, and on which asking they had it last."""
    found: dict[uuid.UUID, dict[int, Redelivery | None]] = defaultdict(dict)
    rows = session.execute(_SQL["delivered"], {"ids": _uuids(ids)})
    for message_id, handler_id, redelivery in rows:
        found[message_id][handler_id] = redelivery
    return found


def left_out(session: Session, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, dict[int, str]]:
    """Which handlers do not get these mails, and by what (`shared.rules.choosing`)."""
    found: dict[uuid.UUID, dict[int, str]] = defaultdict(dict)
    for message_id, handler_id, by in session.execute(_SQL["left_out"], {"ids": _uuids(ids)}):
        found[message_id][handler_id] = by
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
            "ids": _uuids(row[0] for row in rows),
            "choices": text_array(array(map(str, sorted(row[1]))) for row in rows),
            "doubts": [
                Jsonb({str(handler): why for handler, why in row[2].items()}) for row in rows
            ],
        },
    )
    _forget_left_out(session, [(row[0], handler) for row in rows for handler in row[1]])


def record_left_out(session: Session, rows: Sequence[tuple[uuid.UUID, LeftOut]]) -> None:
    """(message, the handler that does not get it), in the same transaction."""
    if rows:
        session.execute(
            _SQL["record_left_out"],
            {
                "ids": _uuids(row[0] for row in rows),
                "handlers": array(str(row[1].handler_id) for row in rows),
                "by": text_array(row[1].by for row in rows),
                "reasons": text_array(row[1].reason for row in rows),
            },
        )


def _forget_left_out(session: Session, rows: Sequence[tuple[uuid.UUID, int]]) -> None:
    if rows:
        session.execute(
            _SQL["forget_left_out"],
            {
                "ids": _uuids(row[0] for row in rows),
                "handlers": array(str(row[1]) for row in rows),
            },
        )


def record_outcomes(session: Session, outcomes: Sequence[Outcome]) -> None:
    """What was found inside: kept, so that a mail is opened once however often it is published."""
    if not outcomes:
        return
    opened = [outcome.opened for outcome in outcomes]
    session.execute(
        _SQL["record_outcomes"],
        {
            "ids": _uuids(outcome.id for outcome in outcomes),
            "securities": [Jsonb(dict(outcome.security)) for outcome in outcomes],
            "keys": [ref and ref.key for ref in opened],
            "offsets": [ref and ref.offset for ref in opened],
            "sizes": [ref and ref.size for ref in opened],
            "sha256s": [outcome.opened_sha256 for outcome in outcomes],
        },
    )


def record_deliveries(
    session: Session,
    rows: Sequence[tuple[uuid.UUID, int, str]],
    notes: Mapping[tuple[uuid.UUID, int], str] | None = None,
    *,
    had: Mapping[tuple[uuid.UUID, int], Redelivery | None] | None = None,
) -> None:
    """(message, handler, position) of events that the output queue has confirmed.

    By (message, handler): `notes`, why a handler got a mail in doubt; `had`, those that had it
    before, with the asking on which they have it now. For mails that `hold` gave in this
    transaction.
    """
    had = had or {}
    again = [row for row in rows if (row[0], row[1]) in had]
    if again:
        values = {
            "ids": _uuids(row[0] for row in again),
            "handlers": array(str(row[1]) for row in again),
        }
        session.execute(_SQL["keep_deliveries"], values)
    if rows:
        session.execute(
            _SQL["record_deliveries"],
            {
                "ids": _uuids(row[0] for row in rows),
                "handlers": array(str(row[1]) for row in rows),
                "positions": text_array(row[2] for row in rows),
                "notes": text_array((notes or {}).get((row[0], row[1]), "") for row in rows),
                "redeliveries": [
                    Jsonb(told) if (told := had.get((row[0], row[1]))) else None for row in rows
                ],
            },
        )


def finish(
    session: Session,
    token: uuid.UUID,
    ids: Sequence[uuid.UUID],
    facts: Mapping[uuid.UUID, Mapping[str, Any]],
    unwanted: Iterable[uuid.UUID] = (),
    threads: Mapping[uuid.UUID, str] = MappingProxyType({}),
) -> None:
    """Every handler that takes these mails has them. Those without an outcome were plain.

    `facts` are kept for dry runs and searches; `unwanted`: those that the rules of every handler
    left out; `threads`: the first message id of the thread, of mails that are not the first one.
    """
    if ids:
        values = {
            "ids": _uuids(ids),
            "claim": token,
            "plain": _PLAIN,
            "facts": orjson.dumps({str(i): facts[i] for i in ids if i in facts}).decode(),
            "threads": orjson.dumps({str(i): threads[i] for i in ids if i in threads}).decode(),
            "unwanted": _uuids(unwanted),
        }
        session.execute(_SQL["finish"], values)


def put_aside(
    session: Session, token: uuid.UUID, message_id: uuid.UUID, code: str, reason: str
) -> None:
    """Moves a mail that is still ours to quarantine."""
    row = session.execute(_SQL["take_out"], {"id": message_id, "claim": token}).fetchone()
    if row is None:
        return
    connection_id, folder, native_key, uid_validity, size, raw_key, raw_offset, work = row
    entry = quarantine.NewEntry(
        id=message_id,
        connection_id=connection_id,
        folder=folder,
        native_key=native_key,
        uid_validity=uid_validity,
        code=code,
        reason=reason,
        size=size,
        raw=RawRef(raw_key, raw_offset, size),
        work=work,
    )
    quarantine.add(session, entry)


def redeliver(
    session: Session,
    ids: Sequence[uuid.UUID],
    handlers: Sequence[int] = (),
    *,
    reason: str = "requested",
) -> list[uuid.UUID]:
    """Asks for mails again (same event id), at `handlers` or at all that take them.

    Their events say so, with the `reason`, to handlers that had them.
    """
    values = {"ids": _uuids(ids), "handlers": list(handlers), "reason": reason}
    rows = session.execute(_SQL["redeliver"], values).fetchall()
    session.execute(_SQL["number_redelivery"], values)
    return [row[0] for row in rows]


def reconsider(session: Session, ids: Sequence[uuid.UUID], handler_id: int) -> list[uuid.UUID]:
    """Lets a handler's present rules decide about these mails, with all that a mail says."""
    values = {"ids": _uuids(ids), "handler_id": handler_id}
    rows = session.execute(_SQL["reconsider"], values).fetchall()
    session.execute(_SQL["forget_left_out_of"], values)
    return [row[0] for row in rows]


def reopen(session: Session, ids: Sequence[uuid.UUID]) -> None:
    """Lets mails be opened anew when they are published next: a certificate was attached.

    After `redeliver`, which takes them out of the hands of who might just be recording them.
    """
    session.execute(_SQL["reopen"], {"ids": _uuids(ids)})
    session.execute(_SQL["forget_all_left_out"], {"ids": _uuids(ids)})


def refill(session: Session, handler_id: int, watermark: datetime) -> list[uuid.UUID]:
    """Publishes again what a lost queue may not have handed over, also what is on its way."""
    withdraw(session, handler_id, watermark)
    rows = session.execute(_SQL["refill"], {"handler_id": handler_id, "watermark": watermark})
    return [row[0] for row in rows]


def withdraw(session: Session, handler_id: int, watermark: datetime) -> None:
    """Takes back the claims of all decryptors: what they publish now is not recorded."""
    session.execute(_SQL["take_turns"])
    session.execute(_SQL["withdraw"], {"handler_id": handler_id, "watermark": watermark})


def size(session: Session) -> tuple[int, datetime | None]:
    """How many mails wait to be published, and since when the oldest does."""
    row = session.execute(_SQL["size"]).fetchone()
    return (row[0], row[1]) if row else (0, None)


def _uuids(ids: Iterable[uuid.UUID]) -> str:
    return array(identifier.hex for identifier in ids)
