"""How runs begin, in one statement: what they need to know, and the lease of their mailbox.

A mail that comes alone pays for each round trip, and here for two that it would need else: one for
the lease, and one to ask whether its mail is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Final

from shared.connections import Connection
from shared.storage.arrays import array, text_array
from shared.storage.leases import Lease
from shared.storage.pool import Session
from shared.storage.queries import Queries
from shared.storage.scheduling import RunState

_PARTS: Final = Queries("begun_runs")
_SQL: Final = Queries(
    "begun_runs",
    asked=_PARTS["asked"],
    found=_PARTS["found"],
    by_id=_PARTS["by_id"],
    take=_PARTS["take"],
)


@dataclass(frozen=True, slots=True)
class Begun:
    """A connection that may run, `at` this moment of Postgres' clock; `used` as of one that is
    `Due`. `in_time`: it is to be run now.

    `known`: it is among those that were given, as it was edited last. `lease` is None where that
    was not to be had, or not asked for; else nobody had it since `state` was as it is here, nor was
    the connection edited. `was_ended`: it had run out, and is to be had now. `unknown_from`: from
    this UID on no mail of the folder was ever had under `state.uid_validity`; None where nobody
    asked.
    """

    at: datetime
    in_time: bool
    used: bool
    state: RunState
    known: bool
    lease: Lease | None
    was_ended: bool
    unknown_from: int | None


def announced(
    session: Session,
    connection_ids: Sequence[int],
    here: Mapping[int, Connection],
    owner: str,
    ttl: float,
    *,
    has_room: bool,
) -> list[Begun]:
    """Those of `connection_ids` that are enabled and have an affinity to `owner`; in time where it
    `has_room` for them and they are no slow ones.

    Those that are in time and used are leased for `ttl` seconds, where their connections are among
    those `here` as they were edited last.
    """
    values = {**_asked(connection_ids, here), "owner": owner, "ttl": ttl, "has_room": has_room}
    return _begun(session, "announced", len(connection_ids), values)


def due(
    session: Session,
    connection_ids: Sequence[int],
    here: Mapping[int, Connection],
    owner: str,
    ttl: float,
    *,
    emitted: datetime,
    within: float = inf,
) -> list[Begun]:
    """Those of `connection_ids` that are enabled and have not run since the job was `emitted`; in
    time where that is no longer ago than `within` seconds. Leased as by `announced`."""
    values = {**_asked(connection_ids, here), "owner": owner, "ttl": ttl, "emitted_at": emitted}
    values["within"] = min(within, _LONG_S)
    return _begun(session, "due", len(connection_ids), values)


#: No job is as old: what Postgres takes for an interval.
_LONG_S: Final = 1e9


def _asked(connection_ids: Sequence[int], here: Mapping[int, Connection]) -> dict[str, Any]:
    """Of connections with one lease key the first one is leased."""
    ids = list(dict.fromkeys(connection_ids))
    first: dict[str, int] = {}
    mailboxes: list[str | None] = []
    versions: list[str | None] = []
    for connection_id in ids:
        connection = here.get(connection_id)
        key = None if connection is None else connection.lease_key()
        is_first = key is not None and first.setdefault(key, connection_id) == connection_id
        mailboxes.append(key if is_first else None)
        versions.append(None if connection is None else str(connection.updated_at))
    return {
        "ids": array(map(str, ids)),
        "mailboxes": text_array(mailboxes),
        "versions": text_array(versions),
    }


def _begun(session: Session, name: str, count: int, values: Mapping[str, Any]) -> list[Begun]:
    owner, found = values["owner"], []
    for row in session.execute(_SQL.of(name, count), values):
        at, in_time, used, unknown_from, mailbox, known, *rest = row
        _, _, _, *state, fence, held = rest  # of the lease as it was
        found.append(
            Begun(
                at,
                in_time,
                used,
                RunState(*state),
                known,
                Lease(mailbox, owner, fence) if held else None,
                held is False,
                unknown_from,
            )
        )
    return found
