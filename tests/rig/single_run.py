"""A fetcher in the process of the test: one run of one connection, at once, to its end."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.fetcher.fetch_job import Dispatcher
from services.fetcher.lane_wait_budgets import Lane
from services.fetcher.main import build
from services.fetcher.session_limits import PoolLimits
from services.fetcher.session_pool import SessionPool
from services.fetcher.settings import FetcherSettings
from shared.clock import utc_now
from shared.connections import Connection
from shared.mailbox.base import Mailbox
from shared.settings import load


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an administrator sees after a run. `delay` is in seconds, None while all is well."""

    health: str
    code: str
    hint: str
    delay: float
    quarantined: int
    mails: int
    lost: bool


class FetcherHere:
    """Keeps no sessions, so that every run logs in. Use as a context manager."""

    def __init__(
        self,
        database_url: str,
        broker_url: str,
        folder: Path,
        key: str,
        opened: Callable[[Connection], Mailbox] | None = None,
    ) -> None:
        self._fetcher = build(
            load(
                FetcherSettings,
                database_url=database_url,
                broker_url=broker_url,
                store_url=f"file://{folder}/store",
                secret_keys=key,
                kept_sessions=0,
                push_sessions=0,
            )
        )
        if opened is not None:
            self._dispatcher.ends.sessions = SessionPool(
                opened,
                PoolLimits(kept=0, listening=0, per_host=100, per_mailbox=100),
                on_push=self._dispatcher.ends.push_events.announced,
                on_lost=self._dispatcher.ends.push_events.lost,
            )

    @property
    def _dispatcher(self) -> Dispatcher:
        return self._fetcher.dispatcher

    def __enter__(self) -> FetcherHere:
        self._fetcher.database.open()
        self._dispatcher.sessions.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._dispatcher.sessions.__exit__(*error)
        self._fetcher.database.close()

    def run(self, connection_id: int) -> Outcome:
        """One run, whatever the back-off says."""
        correlation_id = str(uuid.uuid4())
        _, begun = self._dispatcher.begin_runs([connection_id], utc_now(), correlation_id)
        assert begun, "the connection may run"
        self._dispatcher.run_all(begun, correlation_id, Lane.SLOW)
        return self.outcome(connection_id)

    def outcome(self, connection_id: int) -> Outcome:
        with self._fetcher.database.transaction() as session:
            row = session.execute(
                "SELECT s.health, coalesce(s.error ->> 'code', '')"
                ", coalesce(s.error ->> 'hint', '')"
                ", extract(epoch FROM s.due_at - s.last_run_at)::float8"
                ", (SELECT count(*) FROM quarantine), (SELECT count(*) FROM message)"
                ", EXISTS (SELECT 1 FROM authorisation a WHERE a.connection_id = s.connection_id"
                " AND (a.lost_at IS NOT NULL OR a.revoked OR a.cache IS NULL))"
                " FROM connection_state s WHERE s.connection_id = %s",
                (connection_id,),
            ).fetchone()
        assert row is not None
        return Outcome(*row)
