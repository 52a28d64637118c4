"""The audit log: who did what to which thing, before and after, secrets masked.

`record` is called inside the transaction of the change itself, so that neither exists without the
other. Subjects are `connection/7`, `certificate/3`, `handler/2`, `person/1`, `message/<uuid>`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from psycopg.types.json import Jsonb

from shared.clock import first_id, new_id, time_of, utc_now
from shared.storage.pool import Session
from shared.storage.queries import Queries

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_QUERIES = Queries("audit")

#: A thing as an entry of the log has it, before or after a change: its fields by name.
Audited: TypeAlias = "Mapping[str, Any] | DataclassInstance | None"

#: A field whose name holds one of these is never written, whatever its value.
_SECRET: Final = ("password", "secret", "token", "private_key", "cache", "pkcs12")
#: Names that hold such a word and are no secret.
_OPEN: Final = frozenset({"has_password", "has_secret", "has_client_secret", "secret_expires_at"})
MASK: Final = "••••••"


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `before` and `after` hold only the fields that differ."""

    id: uuid.UUID
    actor: str
    action: str
    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def at(self) -> datetime:
        return time_of(self.id)


def record_once(session: Session, actor: str, action: str, subject: str, within: timedelta) -> None:
    """Writes one entry unless there is one like it within that time: for what repeats itself."""
    session.execute(
        _QUERIES["record_once"],
        {
            "id": new_id(),
            "since": first_id(utc_now() - within),
            "actor": actor,
            "action": action,
            "subject": subject,
        },
    )


def record(
    session: Session,
    actor: str,
    action: str,
    subject: str,
    before: Audited = None,
    after: Audited = None,
) -> None:
    """Writes one entry in the caller's transaction.

    `before` and `after` are mappings or dataclasses (None: did not exist, or no longer does);
    where both are given only the differing fields are kept. `action` is a verb: `create`,
    `change`, `delete`, `enable`, `deliver-again`.
    """
    old, new = _plain(before), _plain(after)
    if old is not None and new is not None:
        differing = {n for n in old.keys() | new.keys() if old.get(n) != new.get(n)}
        old = {n: v for n, v in old.items() if n in differing}
        new = {n: v for n, v in new.items() if n in differing}
    session.execute(
        _QUERIES["record"],
        {
            "id": new_id(),
            "actor": actor,
            "action": action,
            "subject": subject,
            "before": None if old is None else Jsonb(_masked(old)),
            "after": None if new is None else Jsonb(_masked(new)),
        },
    )


def entries(
    session: Session,
    *,
    subject: str = "",
    query: str = "",
    before: uuid.UUID | None = None,
    limit: int = 50,
) -> list[Entry]:
    """Newest first. `query` is a part of the actor, action or subject; `before` pages."""
    escaped = query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    rows = session.execute(
        _QUERIES["entries"],
        {
            "subject": subject,
            "query": query,
            "pattern": f"%{escaped}%",
            "before": before,
            "limit": limit,
        },
    )
    return [Entry(*row) for row in rows]


def _plain(value: Audited) -> dict[str, Any] | None:
    """A JSON object; times as ISO 8601, octets left out."""
    if value is None:
        return None
    if is_dataclass(value) and not isinstance(value, type):
        value = _fields(value)
    assert isinstance(value, Mapping)
    return {str(n): _json(v) for n, v in value.items() if not isinstance(v, bytes | memoryview)}


def _json(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return value.value
        case str():
            # Long texts (a CA bundle) would make the log unreadable.
            return value if len(value) <= 500 else value[:500] + "…"
        case datetime():
            return value.isoformat()
        case Mapping():
            return _masked({str(n): _json(v) for n, v in value.items()})
        case list() | tuple() | set() | frozenset():
            return [_json(v) for v in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _json(_fields(value))
        case _:
            return str(value)


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _masked(values: dict[str, Any]) -> dict[str, Any]:
    return {
        n: MASK if v and n not in _OPEN and any(word in n.lower() for word in _SECRET) else v
        for n, v in values.items()
    }
