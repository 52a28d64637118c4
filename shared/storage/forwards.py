"""Forwards in Postgres: where handlers' events are passed on to, what is to be tried again, and the
delivery log. Rows in, values out, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from shared.forward_editing import stored_options
from shared.forward_kinds import ForwardProtocol
from shared.forwards import Forward, ForwardOptions
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("forwards")
#: Attempts of each handler that the log keeps.
KEPT_ATTEMPTS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedForward:
    """All that is needed to consume a handler's queue and to send, sealed as it is stored."""

    handler_id: int
    name: str
    signing_key: bytes | None = field(repr=False)
    former_signing_key: bytes | None = field(repr=False)
    kind: ForwardProtocol
    options: ForwardOptions
    address: bytes = field(repr=False)
    secret: bytes | None = field(repr=False)
    former_secret: bytes | None = field(repr=False)
    headers: bytes | None = field(repr=False)
    client_certificate: bytes | None = field(repr=False)
    credentials: bytes | None = field(repr=False)
    link_key: bytes = field(repr=False)
    paused_at: datetime | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that the endpoint did not take yet. `now` is Postgres' clock."""

    attempts: int
    first_failed_at: datetime
    next_attempt_at: datetime
    now: datetime

    @property
    def wait_s(self) -> float:
        """Seconds until it is due; 0 where it is."""
        return max(0.0, (self.next_attempt_at - self.now).total_seconds())

    @property
    def failing_s(self) -> float:
        """Seconds since it failed for the first time."""
        return (self.now - self.first_failed_at).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardAttempt:
    """One line of the delivery log. `status` is HTTP's, None where no answer came."""

    id: int = 0
    event_id: str
    at: datetime
    seconds: float
    outcome: str
    status: int | None = None
    detail: str = ""
    answer: str = ""


def of_handlers(session: Session, ids: Sequence[int]) -> dict[int, Forward]:
    """Those of `ids` that are forwarded."""
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["forwards"] + "\n" + _SQL["of_handlers"], {"ids": list(ids)})
        return {row.pop("handler_id"): _forward(row) for row in cursor}


def failing(session: Session, ids: Sequence[int]) -> set[int]:
    """Those of `ids` whose endpoint took neither what waits nor what was sent last."""
    return {row[0] for row in session.execute(_SQL["failing"], {"ids": list(ids)})}


def of_handler(session: Session, handler_id: int, *, lock: bool = False) -> Forward | None:
    """`lock` keeps others from changing it until the transaction ends."""
    if lock:
        session.execute(_SQL["lock"], {"id": handler_id})
    return of_handlers(session, [handler_id]).get(handler_id)


def insert(
    session: Session, handler_id: int, forward: Forward, *, address: bytes, link_key: bytes
) -> None:
    """Both sealed."""
    values = {"address": address, "link_key": link_key}
    session.execute(_SQL["insert"], _values(handler_id, forward) | values)


def change(session: Session, handler_id: int, forward: Forward) -> None:
    """Writes everything but the secrets and the pause."""
    session.execute(_SQL["change"], _values(handler_id, forward))


def delete(session: Session, handler_id: int) -> None:
    """Its log goes with it; what waits in the queue stays there."""
    session.execute(_SQL["delete"], {"id": handler_id})


def write_address(session: Session, handler_id: int, sealed: bytes) -> None:
    session.execute(_SQL["write_address"], {"id": handler_id, "sealed": sealed})


def write_headers(session: Session, handler_id: int, sealed: bytes | None) -> None:
    session.execute(_SQL["write_headers"], {"id": handler_id, "sealed": sealed})


def write_client_certificate(session: Session, handler_id: int, sealed: bytes | None) -> None:
    session.execute(_SQL["write_client_certificate"], {"id": handler_id, "sealed": sealed})


def write_credentials(session: Session, handler_id: int, sealed: bytes | None) -> None:
    session.execute(_SQL["write_credentials"], {"id": handler_id, "sealed": sealed})


def secret(session: Session, handler_id: int) -> bytes | None:
    """The sealed secret that is signed with."""
    row = session.execute(_SQL["secret"], {"id": handler_id}).fetchone()
    return row[0] if row else None


def write_secrets(
    session: Session, handler_id: int, present: bytes | None, former: bytes | None
) -> None:
    values = {"id": handler_id, "secret": present, "former": former}
    session.execute(_SQL["write_secrets"], values)


def link_key(session: Session, handler_id: int) -> bytes | None:
    """The sealed key that addresses of mails are signed with; None where it is not forwarded."""
    row = session.execute(_SQL["link_key"], {"id": handler_id}).fetchone()
    return row[0] if row else None


def sealed(session: Session, handler_id: int | None = None) -> list[SealedForward]:
    """Every forward, or that of one handler."""
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["sealed"], {"id": handler_id})
        return [
            SealedForward(
                **{
                    **row,
                    "kind": ForwardProtocol(row["kind"]),
                    "options": stored_options(row["options"]),
                }
            )
            for row in cursor
        ]


def pause(session: Session, handler_id: int, by: str, reason: str) -> bool:
    """Stops sending, on every forwarder. False where it was paused before."""
    values = {"id": handler_id, "by": by, "reason": reason}
    return session.execute(_SQL["pause"], values).rowcount > 0


def resume(session: Session, handler_id: int) -> bool:
    """False where it was not paused."""
    return session.execute(_SQL["resume"], {"id": handler_id}).rowcount > 0


def lease_sending(
    session: Session, handler_ids: Sequence[int], owner: str, ttl_s: float
) -> set[int]:
    """Those of `handler_ids` for which `owner` alone sends, from now on for up to `ttl_s`."""
    values = {"ids": list(handler_ids), "owner": owner, "ttl": ttl_s}
    session.execute(_SQL["lease_sending"], values)
    return {row[0] for row in session.execute(_SQL["sending_leased"], values)}


def release_sending(session: Session, owner: str) -> None:
    """Others may send at once."""
    session.execute(_SQL["release_sending"], {"owner": owner})


def all_waiting(session: Session) -> list[tuple[int, str, float]]:
    """(handler, event, seconds until it may be tried again) of what failed and is not settled."""
    return [(row[0], row[1], row[2]) for row in session.execute(_SQL["all_waiting"])]


def failed(
    session: Session, handler_id: int, event_id: str, *, first_s: float, longest_s: float
) -> Waiting:
    """Counts a failed attempt; the next is due after `first_s`, doubled each time."""
    values = {"id": handler_id, "event": event_id, "first": first_s, "longest": longest_s}
    row = session.execute(_SQL["failed"], values).fetchone()
    assert row is not None
    return Waiting(*row)


def forget_retries(session: Session, handler_id: int, event_ids: Sequence[str]) -> None:
    """These are delivered, or dead letters: nothing is remembered of them."""
    session.execute(_SQL["forget_retries"], {"id": handler_id, "events": list(event_ids)})


def log(session: Session, lines: Iterable[tuple[int, ForwardAttempt]]) -> None:
    """Writes (handler, attempt) of handlers that are still forwarded."""
    found = list(lines)
    session.execute(
        _SQL["log"],
        {
            "handlers": [handler_id for handler_id, _ in found],
            "events": [one.event_id for _, one in found],
            "times": [one.at for _, one in found],
            "seconds": [one.seconds for _, one in found],
            "outcomes": [one.outcome for _, one in found],
            "statuses": [one.status for _, one in found],
            "details": [one.detail for _, one in found],
            "answers": [one.answer for _, one in found],
        },
    )


def trim(session: Session, handler_id: int) -> None:
    """Keeps the newest attempts of a handler."""
    session.execute(_SQL["trim"], {"id": handler_id, "kept": KEPT_ATTEMPTS})


def attempts(
    session: Session,
    handler_id: int,
    *,
    before: int | None = None,
    outcome: str = "",
    limit: int = 50,
) -> list[ForwardAttempt]:
    """The log, newest first."""
    values = {"id": handler_id, "before": before, "outcome": outcome, "limit": limit}
    with session.cursor(row_factory=class_row(ForwardAttempt)) as cursor:
        return cursor.execute(_SQL["attempts"], values).fetchall()


def _forward(row: Mapping[str, Any]) -> Forward:
    return Forward(
        **{
            **row,
            "kind": ForwardProtocol(row["kind"]),
            "options": stored_options(row["options"]),
            "header_names": tuple(row["header_names"]),
            "credential_names": tuple(row["credential_names"]),
        }
    )


def _values(handler_id: int, forward: Forward) -> dict[str, Any]:
    return {
        "id": handler_id,
        "kind": forward.kind,
        "place": forward.place,
        "options": Jsonb(forward.options.to_json()),
        "header_names": list(forward.header_names),
        "credential_names": list(forward.credential_names),
    }
