"""Handlers in Postgres: rows in, values out, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.clock import utc_now
from shared.errors import NotFound
from shared.handlers import SILENT_S, Handler
from shared.rules.ruleset import Rules, stored_rules
from shared.storage.constraint_violations import refused
from shared.storage.list_search import contains
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("handlers")
_REFERENCES = {"connection_id": ("connections", "connection")}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A handler's queue when it was last looked at (`checked_at`; None: not yet).

    `backlog` counts events that nobody acknowledged, `dead_letters` those that the handler
    rejected, `oldest_at` is when the oldest of the backlog was published, `last_acknowledged_at`
    when an acknowledgement was last seen (None: none was, or the broker does not count them).
    """

    backlog: int = 0
    dead_letters: int = 0
    oldest_at: datetime | None = None
    watermark: datetime | None = None
    checked_at: datetime | None = None
    output: str = ""
    #: {name, in_hand, idle_s} each; None where the broker does not tell.
    consumers: Sequence[Mapping[str, Any]] | None = None
    last_acknowledged_at: datetime | None = None

    @property
    def is_current(self) -> bool:
        """Whether it was looked at within the last minute: the broker may be away."""
        return self.checked_at is not None and utc_now() - self.checked_at < timedelta(minutes=1)

    @property
    def nobody_reads(self) -> bool:
        """Whether events wait and no consumer is there that would take them, as far as the broker
        tells: one that holds some is at work, however long it is silent."""
        if self.consumers is None or not self.backlog:
            return False
        return not any(one["in_hand"] or (one["idle_s"] or 0) <= SILENT_S for one in self.consumers)


def get(session: Session, handler_id: int, *, lock: bool = False) -> Handler:
    """Raises NotFound. `lock` keeps others from changing it until the transaction ends."""
    which = _SQL["of_id_locked"] if lock else _SQL["of_id"]
    found = _select(session, _SQL["handlers"] + "\n" + which, {"id": handler_id})
    if not found:
        raise NotFound(f"There is no handler {handler_id}.")
    return found[0]


def search(session: Session, q: str = "") -> list[Handler]:
    """All whose name or description holds `q`, by name."""
    return _select(session, _SQL["handlers"] + "\n" + _SQL["matching"], {"pattern": contains(q)})


def taking(session: Session, connection_id: int) -> list[Handler]:
    """The enabled handlers that take this connection."""
    return _select(
        session, _SQL["handlers"] + "\n" + _SQL["taking"], {"connection_id": connection_id}
    )


def insert(session: Session, handler: Handler) -> int:
    """Returns its id. Raises NameTaken, InvalidInput where a connection is gone."""
    values = _values(handler)
    with refused("handler", handler.name, _REFERENCES):
        row = session.execute(_SQL["insert"], values).fetchone()
        assert row is not None
        values["id"] = row[0]
        session.execute(_SQL["add_connections"], values)
    return int(row[0])


def update(session: Session, handler: Handler) -> None:
    """Writes everything but the name and the token. Raises NotFound, InvalidInput."""
    values = _values(handler)
    with refused("handler", handler.name, _REFERENCES):
        if session.execute(_SQL["update"], values).rowcount == 0:
            raise NotFound(f"There is no handler {handler.id}.")
        session.execute(_SQL["drop_connections"], values)
        session.execute(_SQL["add_connections"], values)


def rename_connection(session: Session, before: str, after: str) -> dict[str, list[str]]:
    """Where rules name a connection: they go on to mean it under its new name. Returns, by names of
    handlers, what of their expressions asks for the name in a way that is not followed."""
    left: dict[str, list[str]] = {}
    for found in _select(session, _SQL["handlers"] + "\n" + _SQL["with_rules"], {}):
        renamed = found.rules.renamed(before, after)
        if renamed != found.rules:
            values = {"id": found.id, "rules": Jsonb(renamed.to_json())}
            session.execute(_SQL["write_rules"], values)
        if asking := found.rules.not_followed(before, after):
            left[found.name] = asking
    return left


def lock_order(session: Session) -> None:
    """Keeps others from changing handlers until the transaction ends, as several get their places
    by those of the others."""
    session.execute(_SQL["lock_order"])


def move(session: Session, handler_id: int, position: int) -> None:
    """Gives a handler its place in its group."""
    session.execute(_SQL["move"], {"id": handler_id, "position": position})


def delete(session: Session, handler_id: int) -> None:
    session.execute(_SQL["hold_queue"], {"id": handler_id})
    if session.execute(_SQL["delete"], {"id": handler_id}).rowcount == 0:
        raise NotFound(f"There is no handler {handler_id}.")


def write_token(session: Session, handler_id: int, digest: bytes | None) -> None:
    """Keeps the SHA-256 of the handler's token; the one before stops working."""
    session.execute(_SQL["write_token"], {"id": handler_id, "digest": digest})


def signing_key(session: Session, handler_id: int) -> bytes | None:
    """The sealed key that its events are signed with."""
    row = session.execute(_SQL["signing_key"], {"id": handler_id}).fetchone()
    return row[0] if row else None


def write_signing_keys(
    session: Session, handler_id: int, key: bytes | None, former: bytes | None
) -> None:
    """Keeps the sealed keys that its events are signed with from now on."""
    values = {"id": handler_id, "key": key, "former": former}
    session.execute(_SQL["write_signing_keys"], values)


def queues(session: Session, ids: Sequence[int]) -> dict[int, QueueState]:
    """The queue of each of `ids`."""
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["queues"], {"ids": list(ids)})
        found = {row.pop("handler_id"): QueueState(**row) for row in cursor}
    return {i: found.get(i, QueueState()) for i in ids}


def waiting(session: Session) -> dict[int, int]:
    """How many mails have still to be published to each handler, by id."""
    return {row[0]: int(row[1]) for row in session.execute(_SQL["waiting"])}


def _select(session: Session, query: Any, values: Mapping[str, Any]) -> list[Handler]:
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query, values)
        return [_handler(row) for row in cursor]


def _handler(row: Mapping[str, Any]) -> Handler:
    ids, rules = row["connection_ids"], row["rules"]
    return Handler(
        **{
            **row,
            "connection_ids": None if ids is None else tuple(ids),
            "rules": stored_rules(rules) if rules else Rules(),
        }
    )


def _values(handler: Handler) -> dict[str, Any]:
    return {
        "id": handler.id,
        "name": handler.name,
        "description": handler.description,
        "enabled": handler.enabled,
        "all_connections": handler.connection_ids is None,
        "connection_ids": list(handler.connection_ids or ()),
        "rules": Jsonb(handler.rules.to_json()) if handler.rules else None,
        "group": handler.group,
        "position": handler.position,
    }
