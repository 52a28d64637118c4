"""What has still to be published: claimed by a decryptor, finished once every handler has it.

The outbox is why the broker may lose everything: a row leaves it only after the output queue of
every handler that takes the mail has confirmed the event.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson
from psycopg.types.json import Jsonb

from shared.mail_security import PLAIN
from shared.messages import DecryptOutcome, RawRef
from shared.storage import quarantine
from shared.storage.arrays import array, text_array, uuid_array
from shared.storage.outbox_claims import Claimed, claimed_of, claimed_rows
from shared.storage.pool import Session
from shared.storage.queries import Queries

_FRAGMENTS: Final = ("hold", "finished", "still_repeated")
_SQL = Queries("outbox", **{name: Queries("outbox")[name] for name in _FRAGMENTS})
#: What the ledger keeps of `PLAIN`, as nearly all mails are: that they were looked into.
_PLAIN: Final = Jsonb({})
#: Seconds for which what a claim says of a mail holds: a decryptor that stalled longer asks again.
_FRESH_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Release:
    """Gives a mail back for `delay` seconds.

    `blameless`: the attempt does not count against it; `missing`: its octets are not in the store.
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


def is_due(session: Session) -> bool:
    """Whether `due` would find a mail that nobody else holds."""
    row = session.execute(_SQL["is_due"]).fetchone()
    return bool(row and row[0])


def claim(
    session: Session, ids: Sequence[uuid.UUID], token: uuid.UUID, ttl: float
) -> list[Claimed]:
    """Takes those of `ids` that nobody holds, in the order in which they lie in the store."""
    until = time.monotonic() + _FRESH_S
    values = {"ids": uuid_array(ids), "claim": token, "ttl": ttl}
    with session.cursor(row_factory=claimed_rows) as cursor:
        rows = cursor.execute(_SQL.of("claim", len(ids)), values)
        return [claimed_of(row, until) for row in rows]


def renew(
    session: Session, tokens: Sequence[uuid.UUID], ids: Sequence[uuid.UUID], ttl: float
) -> None:
    """Prolongs claims while their mails are being opened."""
    session.execute(_SQL["renew"], {"claims": list(tokens), "ids": uuid_array(ids), "ttl": ttl})


def hold(session: Session, ids: Sequence[uuid.UUID], token: uuid.UUID) -> set[uuid.UUID]:
    """Those of `ids` that are still ours, and stay it until the transaction ends.

    Asked before anything is recorded or finished: whoever took a claim back wants the mail
    published once more.
    """
    rows = session.execute(_SQL["hold"], {"ids": uuid_array(ids), "claim": token})
    return {row[0] for row in rows}


def release(session: Session, token: uuid.UUID, releases: Sequence[Release]) -> None:
    if releases:
        session.execute(
            _SQL["release"],
            {
                "claim": token,
                "ids": uuid_array(item.id for item in releases),
                "errors": [item.error for item in releases],
                "delays": [item.delay for item in releases],
                "blameless": [item.blameless for item in releases],
                "missing": [item.missing for item in releases],
            },
        )


#: (message, handler, number of the asking by which it is given; 0: nobody asked).
Given = tuple[uuid.UUID, int, int]


def note_repeated(session: Session, token: uuid.UUID, given: Sequence[Given]) -> None:
    """Of mails that are given back: these handlers got it, so that nobody repeats it for them."""
    if given:
        values = {"claim": token, "ids": uuid_array(row[0] for row in given), **_columns(given)}
        session.execute(_SQL["note_repeated"], values)


def leave(
    session: Session, token: uuid.UUID, ids: Sequence[uuid.UUID], given: Sequence[Given]
) -> list[uuid.UUID]:
    """Those of `ids` that stay, after `hold` and before `finish`: for handlers that were asked for
    since they were claimed, and that are not among those who got it by that asking."""
    if not ids:
        return []
    values = {
        "claim": token,
        "ids": uuid_array(ids),
        "given": uuid_array(row[0] for row in given),
        **_columns(given),
    }
    return [row[0] for row in session.execute(_SQL["leave"], values)]


def _columns(given: Sequence[Given]) -> dict[str, Any]:
    return {
        "handlers": [handler for _, handler, _ in given],
        "askings": [asking for _, _, asking in given],
    }


def record_outcomes(session: Session, outcomes: Sequence[DecryptOutcome]) -> None:
    """What was found inside: kept, so that a mail is opened once however often it is published."""
    if not outcomes:
        return
    opened = [outcome.opened for outcome in outcomes]
    session.execute(
        _SQL["record_outcomes"],
        {
            "ids": uuid_array(outcome.id for outcome in outcomes),
            "securities": [
                _PLAIN if outcome.security is PLAIN else Jsonb(dict(outcome.security))
                for outcome in outcomes
            ],
            "keys": [ref and ref.key for ref in opened],
            "offsets": [ref and ref.offset for ref in opened],
            "sizes": [ref and ref.size for ref in opened],
            "sha256s": [outcome.opened_sha256 for outcome in outcomes],
        },
    )


class Finished(NamedTuple):
    """Mails that every handler which takes them has. Those without an outcome were plain.

    `left`: those that stay in the outbox, for what was asked for meanwhile.

    `facts` are kept for dry runs and searches, by mail; of one that is not in it none were read.
    `unwanted`: those that the rules of every handler left out; `threads`: the first message id of
    the thread, of mails that are not the first one.
    """

    ids: Sequence[uuid.UUID]
    facts: Mapping[uuid.UUID, Mapping[str, Any]]
    unwanted: Iterable[uuid.UUID] = ()
    threads: Mapping[uuid.UUID, str] = MappingProxyType({})
    left: Iterable[uuid.UUID] = ()

    def values(self, token: uuid.UUID) -> dict[str, Any]:
        """The parameters of the statements that record it."""
        ids, facts, threads = self.ids, self.facts, self.threads
        return {
            "ids": uuid_array(ids),
            "claim": token,
            "plain": _PLAIN,
            # Nearly all mails have none that are worth a word.
            "facts": orjson.dumps({str(i): found for i in ids if (found := facts.get(i))}).decode(),
            "threads": orjson.dumps({str(i): threads[i] for i in ids if i in threads}).decode(),
            "unread": uuid_array(i for i in ids if i not in facts),
            "unwanted": uuid_array(self.unwanted),
            "left": uuid_array(self.left),
        }


def finish(session: Session, token: uuid.UUID, finished: Finished) -> None:
    """The work is done, of mails that are still ours."""
    if finished.ids:
        session.execute(_SQL["finish"], finished.values(token))


def complete(
    session: Session,
    token: uuid.UUID,
    finished: Finished,
    given: Sequence[tuple[uuid.UUID, int, str]],
) -> list[uuid.UUID]:
    """`hold`, `record_deliveries` of (message, handler, position) that nobody had before, and
    `finish`, in one statement; returns those that were still ours and of which nothing was asked
    for since they were claimed: of others nothing is recorded."""
    values = {
        **finished.values(token),
        "given": uuid_array(message_id for message_id, _, _ in given),
        "handlers": array(str(handler) for _, handler, _ in given),
        "positions": text_array(position for _, _, position in given),
    }
    return [row[0] for row in session.execute(_SQL.of("complete", len(finished.ids)), values)]


def move_to_quarantine(
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


def size(session: Session) -> tuple[int, datetime | None]:
    """How many mails wait to be published, and since when the oldest does."""
    row = session.execute(_SQL["size"]).fetchone()
    return (row[0], row[1]) if row else (0, None)
