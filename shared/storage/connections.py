"""Connections in Postgres: rows in, values out. Every function works in the caller's transaction.

A password is opaque here: the caller seals and opens it (`shared.vault`), bound to the row's id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time
from typing import Any, Final

from psycopg.rows import dict_row

from shared.clock import first_id, utc_now
from shared.connections import Connection, Failure, Health
from shared.errors import Conflict, NotFound
from shared.field_descriptions import fields_of, words_of
from shared.quantities import counted
from shared.storage import folder_identity, known_sets
from shared.storage.constraint_violations import refused
from shared.storage.list_search import folded
from shared.storage.pool import Session
from shared.storage.queries import Queries

#: What an administrator gives, each in a column of its name; certificates have a table.
_COLUMNS: Final = tuple(name for name in fields_of(Connection) if name != "certificate_ids")
_WORDS: Final = {n: one.kind for n, one in fields_of(Connection).items() if words_of(one.kind)}
_SQL = Queries(
    "connections",
    selected=", ".join(f"c.{name}" for name in _COLUMNS),
    columns=", ".join(_COLUMNS),
    values=", ".join(f"%({name})s" for name in _COLUMNS),
    assigned=", ".join(f"{name} = %({name})s" for name in _COLUMNS),
)
_REFERENCES: Final = {
    "credential": ("credential_id", "credential"),
    "certificate_id": ("certificate_ids", "certificate"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStatus:
    """How a connection is doing, from Postgres alone.

    `error` is the last failure, None where it works.
    `new_today` counts the mails downloaded since midnight UTC; `last_run_ms` is in milliseconds.
    """

    health: Health
    error: Failure | None = None
    failures: int = 0
    next_run_at: datetime | None = None
    last_success_at: datetime | None = None
    last_run_at: datetime | None = None
    last_run_ms: int | None = None
    start_since: datetime | None = None
    skip_existing: bool = False
    new_today: int = 0


def get(session: Session, connection_id: int) -> Connection:
    """Raises NotFound."""
    found = get_many(session, [connection_id])
    if not found:
        raise NotFound(f"There is no connection {connection_id}.")
    return found[0]


def get_locked(session: Session, connection_id: int) -> Connection:
    """Keeps others from changing it until the transaction ends. Raises NotFound."""
    session.execute(_SQL["lock_state"], {"id": connection_id})
    session.execute(_SQL["lock"], {"id": connection_id})
    return get(session, connection_id)


def get_many(session: Session, ids: Sequence[int]) -> list[Connection]:
    """Those of `ids` that exist, by rising id."""
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["columns"] + "\n" + _SQL["of_ids"], {"ids": list(ids)})
        return [_connection(row) for row in cursor]


def by_name(session: Session, name: str) -> Connection | None:
    """The connection of that name, whatever its case."""
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            _SQL["columns"] + "\n" + _SQL["of_name"], {"name": name, "name_key": folded(name)}
        )
        row = cursor.fetchone()
        return _connection(row) if row else None


def names(session: Session) -> dict[int, str]:
    """The name of each connection, by id."""
    return {row[0]: row[1] for row in session.execute(_SQL["names"])}


def insert(session: Session, connection: Connection) -> int:
    """Adds it with its state; returns its id. Raises NameTaken, or InvalidInput naming the field
    that points at nothing."""
    values = _values(connection)
    with refused("connection", connection.name, _REFERENCES):
        row = session.execute(_SQL["insert"], values).fetchone()
        assert row is not None
        values["id"] = row[0]
        session.execute(_SQL["insert_state"], values)
        session.execute(_SQL["add_certificates"], values)
    return int(row[0])


def update(session: Session, connection: Connection) -> None:
    """Writes every field but the secrets. Raises NotFound, NameTaken, InvalidInput."""
    values = _values(connection)
    with refused("connection", connection.name, _REFERENCES):
        if session.execute(_SQL["update"], values).rowcount == 0:
            raise NotFound(f"There is no connection {connection.id}.")
        session.execute(_SQL["drop_certificates"], values)
        session.execute(_SQL["add_certificates"], values)


def delete(session: Session, connection_id: int) -> None:
    """Takes it away with its state and what it knows. Its mails stay in the ledger.

    Raises Conflict while mails of it have still to be handed over: they would be lost to the
    handlers.
    """
    waiting = session.execute(_SQL["unpublished"], {"id": connection_id}).fetchone()
    if waiting and waiting[0]:
        raise Conflict(
            f"{counted(waiting[0], 'mail')} of this connection must be handed over first.",
            hint="Disable it, wait until they are published (or drop them), then delete it.",
            code="mails-waiting",
        )
    if session.execute(_SQL["delete"], {"id": connection_id}).rowcount == 0:
        raise NotFound(f"There is no connection {connection_id}.")
    # These have no reference to it. What was being committed is waited for (it locks the state).
    for name in ("forget_contents", "forget_settlements"):
        session.execute(_SQL[name], {"id": connection_id})


def sealed_password(session: Session, connection_id: int) -> bytes | None:
    """The sealed password; None where there is none. Raises NotFound."""
    row = session.execute(_SQL["sealed_password"], {"id": connection_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no connection {connection_id}.")
    return None if row[0] is None else bytes(row[0])


def write_password(session: Session, connection_id: int, sealed: bytes | None) -> None:
    """Keeps a sealed password, or takes it away."""
    session.execute(_SQL["write_password"], {"id": connection_id, "sealed": sealed})


def sealed_client_certificate(session: Session, connection_id: int) -> bytes | None:
    """The sealed client certificate with its key; None where there is none. Raises NotFound."""
    row = session.execute(_SQL["sealed_client_certificate"], {"id": connection_id}).fetchone()
    if row is None:
        raise NotFound(f"There is no connection {connection_id}.")
    return None if row[0] is None else bytes(row[0])


def write_client_certificate(session: Session, connection_id: int, sealed: bytes | None) -> None:
    """Keeps a sealed client certificate, or takes it away."""
    values = {"id": connection_id, "sealed": sealed}
    session.execute(_SQL["write_client_certificate"], values)


def forget_cursor(session: Session, connection_id: int) -> None:
    """Forgets the folder's cursor: the next run lists it in full."""
    session.execute(_SQL["forget_cursor"], {"id": connection_id})


def start_from(
    session: Session, connection_id: int, *, since: datetime | None, skip_existing: bool
) -> None:
    """Which mails the next runs take: all, those that arrive `since`, or none that is there."""
    session.execute(
        _SQL["start_from"],
        {"id": connection_id, "since": since, "skip_existing": skip_existing},
    )


def forget_mailbox(session: Session, connection_id: int) -> None:
    """Forgets which mails are known: for a connection that now reads another mailbox."""
    for name in (
        "forget_uids",
        "forget_keys",
        "forget_contents",
        "forget_settlements",
        "forget_folder",
    ):
        session.execute(_SQL[name], {"id": connection_id})


def forget_folder(session: Session, connection_id: int) -> None:
    """Forgets in which state the folder was, and what was skipped there: for a connection that now
    reads another one of the same mailbox. What is known of each folder stays."""
    session.execute(_SQL["forget_folder"], {"id": connection_id})


def end_marking(session: Session, connection_id: int) -> None:
    """What was still to be marked read stays on the server as it is: for a connection that deletes
    from now on, which would delete these mails too."""
    session.execute(_SQL["end_marking"], {"id": connection_id})


def begin_rebinding(session: Session, connection_id: int, *, deleted: bool) -> None:
    """Forgets by which keys mails are known, and not the mails: for a connection that now reads its
    mailbox on another server. They are recognised by their content, and what was still to be
    settled is settled there; of mails known by a key only where it `deleted` them until now."""
    rows = session.execute(_SQL["unsettled_keys"], {"id": connection_id})
    values = {
        "id": connection_id,
        "below": folder_identity.next_retired(session, connection_id),
        "to_be_deleted": [known_sets.key_digest(key) for (key,) in rows if deleted],
    }
    for name in (
        "forget_uids",
        "retire_all_contents",
        "retire_all_keys",
        "retire_all_settlements",
        "keys_changed",
    ):
        session.execute(_SQL[name], values)


def statuses(session: Session, ids: Sequence[int]) -> dict[int, ConnectionStatus]:
    """How each of `ids` is doing."""
    midnight = datetime.combine(utc_now().date(), time(), UTC)
    values = {"ids": list(ids), "today": first_id(midnight)}
    with session.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SQL["judged"] + "\n" + _SQL["statuses"], values)
        return {row["id"]: _status(row) for row in cursor}


def of_mailbox(session: Session, connection: Connection) -> list[Connection]:
    """Other connections that read the same mailbox, whatever the folder."""
    values = {"id": connection.id, "mailbox": connection.mailbox}
    ids = [row[0] for row in session.execute(_SQL["of_mailbox"], values)]
    key = connection.mailbox_key()
    return [other for other in get_many(session, ids) if other.mailbox_key() == key]


def of_folder(session: Session, connection: Connection) -> list[Connection]:
    """Other connections that read the same folder of the same mailbox."""
    key = connection.lease_key()
    return [other for other in of_mailbox(session, connection) if other.lease_key() == key]


def _values(connection: Connection) -> dict[str, Any]:
    values = asdict(connection)
    values["certificate_ids"] = list(connection.certificate_ids)
    values["tags"] = list(connection.tags)
    values["name_key"] = folded(connection.name)
    values["search_text"] = folded(
        connection.name,
        connection.description,
        connection.endpoint[0],
        connection.username,
        connection.shared_mailbox or "",
        *connection.tags,
    )
    return values


def _connection(row: Mapping[str, Any]) -> Connection:
    values = dict(row)
    for name, kind in _WORDS.items():
        values[name] = kind(row[name])
    for name in ("certificate_ids", "tags"):
        values[name] = tuple(row[name])
    return Connection(**values)


def _status(row: Mapping[str, Any]) -> ConnectionStatus:
    health = Health(row["health"])
    return ConnectionStatus(
        health=health,
        error=Failure.from_json(row["error"]),
        failures=row["failures"],
        next_run_at=row["due_at"] if health is not Health.UNUSED else None,
        last_success_at=row["last_success_at"],
        last_run_at=row["last_run_at"],
        last_run_ms=row["last_run_ms"],
        start_since=row["start_since"],
        skip_existing=row["skip_existing"],
        new_today=row["new_today"],
    )
