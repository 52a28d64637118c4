"""Threads that others rely on go on after an error that nobody foresaw."""

from __future__ import annotations

import threading
import uuid
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from cli import completing
from cli.client import Api
from services.decryptor.decrypt_job import Claims
from services.fetcher.kept_session_runs import KeptSessionRuns
from services.fetcher.lease_renewer import LeaseRenewer
from services.fetcher.session_affinity import SessionAffinity
from services.scheduler.main import _every
from shared.errors import TryAgain
from shared.heartbeats import HeartbeatWriter
from shared.storage.leases import Lease
from shared.storage.pool import Database


class Turns(threading.Event):
    """Is set once it was waited for so often; no time passes."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.left = turns

    def wait(self, timeout: float | None = None) -> bool:
        self.left -= 1
        if self.left < 0:
            self.set()
        return self.is_set()


class BrokenDatabase:
    """Whatever is asked of it fails as no database does."""

    def __init__(self) -> None:
        self.asked = 0
        self.refusal = None

    def transaction(self) -> Any:
        self.asked += 1
        raise RuntimeError("nobody foresaw this")


def test_leases_are_renewed_after_an_unforeseen_error() -> None:
    broken = BrokenDatabase()
    renewer = LeaseRenewer(cast(Database, broken), "a", 60)
    renewer.hold([Lease("box", "a", 1)])
    renewer.run(Turns(3))
    assert broken.asked == 3


def test_claims_are_renewed_after_an_unforeseen_error() -> None:
    broken = BrokenDatabase()
    claims = Claims(cast(Database, broken), 60)
    with claims.holding(uuid.uuid4(), [uuid.uuid4()]):
        claims.run(Turns(3))
    assert broken.asked == 3


def test_heartbeats_go_on_after_an_unforeseen_error() -> None:
    broken = BrokenDatabase()
    HeartbeatWriter("fetcher", cast(Database, broken), None, {}).run(Turns(2))
    assert broken.asked == 3


def test_chores_of_the_scheduler_are_done_again_after_an_unforeseen_error() -> None:
    broken = BrokenDatabase()
    _every(Turns(2), "alerts", 1, lambda: broken.transaction())
    assert broken.asked == 3


def test_a_chore_that_goes_on_failing_is_logged_once_for_a_reason() -> None:
    reasons = ["away"] * 50 + ["full"] * 50 + ["away"] * 50
    given = iter(reasons)

    def emit() -> None:
        raise TryAgain(next(given))

    with capture_logs() as logged:
        _every(Turns(len(reasons) - 1), "emit", 0, emit)
    assert [one["error"] for one in logged] == ["away", "full", "away"]


def test_push_events_are_waited_for_after_an_unforeseen_error() -> None:
    broken, stop = BrokenDatabase(), Turns(3)

    class Pushed:
        def wait(self, timeout: float) -> tuple[list[int], dict[int, float]]:
            stop.wait()
            return [], {1: 5.0}

    class WithoutDatabase:
        database = broken

    runs = KeptSessionRuns(
        cast(Any, WithoutDatabase()), cast(Any, Pushed()), cast(Any, None), cast(Any, None), 1
    )
    runs.listen(stop)
    assert broken.asked == 4


def test_a_fetcher_starts_although_its_sign_of_life_fails_unforeseen() -> None:
    broken = BrokenDatabase()

    class Pulse:
        not_taking_s = 0.0

    SessionAffinity(
        cast(Database, broken), cast(Any, None), cast(Any, None), cast(Any, Pulse()), "a", 60
    ).arrive()
    assert broken.asked == 1


def test_a_shell_completes_nothing_where_the_answer_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(**_: object) -> Api:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(Api, "from_environment", broken)
    assert completing.tags("su") == []
