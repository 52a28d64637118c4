"""When a connection is due, and what a run leaves behind in its hot state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from shared.connections import Failure, Health
from shared.storage.affinity import AFFINITY_GRACE
from shared.storage.pool import Session
from shared.storage.queries import Queries

_SQL = Queries("scheduling")


@dataclass(frozen=True, slots=True)
class Due:
    """A connection whose turn has come, `lag` seconds ago. `used`: an enabled handler takes it.
    `fetcher` keeps its session, and takes jobs from its own queue; None where nobody does. `fresh`:
    a run that its server asked for looked at everything just now, so there is nothing to send."""

    connection_id: int
    lane: str
    at: datetime
    used: bool
    lag: float
    fetcher: str | None
    fresh: bool


@dataclass(frozen=True, slots=True)
class RunState:
    """What a run begins with."""

    connection_id: int
    cursor: Mapping[str, Any] | None
    uid_validity: int | None
    failures: int
    health: str
    start_since: datetime | None
    skip_existing: bool
    skipped_before: datetime | None
    #: The folder was re-created, and what was skipped is known by its new UIDs.
    skipped_known: bool
    validity_changed_at: datetime | None
    prune_due: bool
    has_unsettled: bool
    #: Mails at which a download broke off are to be asked for alone (`download_failures`).
    has_failed_downloads: bool
    #: The connection's last edit.
    version: datetime
    #: When it was enabled, edited or authorised last: from then on runs are awaited.
    awaited_since: datetime

    @property
    def has_work(self) -> bool:
        """Whether there is something to do even where nothing changed on the server."""
        return (
            self.has_unsettled or self.skip_existing or self.has_failed_downloads or self.lists_all
        )

    @property
    def lists_all(self) -> bool:
        """Whether the whole folder is listed, as once a day: for what left it, and for mails that
        came where nobody looks for new ones, nor the server tells. A first run lists all anyway.
        """
        return self.prune_due and (self.uid_validity is not None or self.cursor is not None)


def claim_due(session: Session, limit: int) -> list[Due]:
    """Takes up to `limit` due connections and moves each to its next turn.

    A fetcher that is named in the answer is not taken for dead before the transaction ends.
    """
    return [Due(*row) for row in session.execute(_SQL["claim_due"], {"limit": limit})]


def is_due(session: Session) -> bool:
    """Whether `claim_due` would find something that nobody else holds."""
    row = session.execute(_SQL["is_due"]).fetchone()
    return bool(row and row[0])


def enable(session: Session, connection_id: int) -> None:
    """Makes a connection due at once and forgets its back-off; also for an edited one."""
    session.execute(_SQL["enable"], {"id": connection_id})


def disable(session: Session, connection_id: int) -> None:
    session.execute(_SQL["disable"], {"id": connection_id})


def make_due(session: Session, connection_ids: Sequence[int], delay: float = 0) -> None:
    """Moves enabled connections forward: due in `delay` seconds at the latest."""
    session.execute(_SQL["make_due"], {"ids": list(connection_ids), "delay": delay})


def make_due_in(session: Session, connection_id: int, seconds: float) -> None:
    """Moves an enabled connection: due in `seconds`, not earlier."""
    session.execute(_SQL["make_due_in"], {"id": connection_id, "seconds": seconds})


def make_due_after_clock_change(session: Session) -> int:
    """Makes due what ran last in time to come, as the clock of Postgres was set back or another
    server with another clock took over: until then nothing would be fetched, and no mailbox be
    overdue. How many there were. Reads every state.

    Likewise what was held in that time, as far as that goes on for longer than any setting allows.
    """
    late = session.execute(_SQL["make_due_after_clock_change"]).rowcount
    if late:
        session.execute(_SQL["free_mails"])
        session.execute(_SQL["doubt_fetchers"], {"grace": AFFINITY_GRACE})
    return late


def make_due_for_handler(session: Session, handler_id: int) -> None:
    """Makes connections due that this handler alone takes: nothing was fetched from them before."""
    session.execute(_SQL["make_due_for_handler"], {"handler_id": handler_id})


def end_back_off(session: Session, credential_id: int) -> None:
    """Ends the back-off of those that log in with it: perhaps it was the cure."""
    session.execute(_SQL["end_back_off"], {"credential_id": credential_id})


def move_to_slow_lane(session: Session, connection_ids: Sequence[int]) -> None:
    """Due at once, in the lane whose jobs may wait for a server."""
    session.execute(_SQL["move_to_slow_lane"], {"ids": list(connection_ids)})


def fail_run(
    session: Session,
    connection_id: int,
    *,
    duration_ms: int,
    health: Health,
    error: Failure,
    delay: float,
    awaited_since: datetime,
) -> tuple[str, int] | None:
    """Records a failure; due again in `delay` seconds. Returns (health before, failures now).

    `awaited_since`: as of `RunState`. None, and nothing is recorded, where it is another one by
    now: the connection was edited, or authorised, which may be the cure, and is due at once.
    """
    row = session.execute(
        _SQL["fail_run"],
        {
            "id": connection_id,
            "duration_ms": duration_ms,
            "health": health.value,
            "error": Jsonb(error.to_json()),
            "delay": delay,
            "awaited_since": awaited_since,
        },
    ).fetchone()
    return (row[0], row[1]) if row else None


def record_pruning(session: Session, connection_id: int) -> None:
    """Records that vanished mails were forgotten just now."""
    session.execute(_SQL["record_pruning"], {"id": connection_id})


def record_push_silence(session: Session, connection_id: int, silent: bool) -> bool:
    """Records whether the server took IDLE and never announced mails that polls found. True where
    that changed."""
    values = {"id": connection_id, "silent": silent}
    return session.execute(_SQL["record_push_silence"], values).rowcount > 0


def is_push_silent(session: Session, connection_id: int) -> bool:
    """What `record_push_silence` recorded last."""
    row = session.execute(_SQL["is_push_silent"], {"id": connection_id}).fetchone()
    return bool(row and row[0])
