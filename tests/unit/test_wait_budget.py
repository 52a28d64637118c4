"""A budget of waits: what is spent, by how many at once, and what earns."""

from __future__ import annotations

import contextvars

import pytest

from shared.mailbox import wait_budget
from shared.mailbox.wait_budget import WaitBudget, bounded


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("shared.mailbox.wait_budget.time.monotonic", lambda: now[0])
    return now


def test_only_waits_are_paid_for(clock: list[float]) -> None:
    budget = WaitBudget(10)
    clock[0] += 100  # our own work
    assert budget.left == 10
    budget.begin()
    clock[0] += 4
    assert budget.left == 6, "a wait that goes on counts already"
    budget.end(0)
    clock[0] += 100
    assert budget.left == 6


def test_waits_side_by_side_count_once(clock: list[float]) -> None:
    budget = WaitBudget(10)
    budget.begin()
    clock[0] += 2
    budget.begin()
    clock[0] += 2
    budget.end(0)
    clock[0] += 2
    budget.end(0)
    assert budget.left == 4


def test_octets_and_requests_earn(clock: list[float]) -> None:
    slow = WaitBudget(10, request_s=1)
    slow.requested()
    slow.begin()
    clock[0] += 10
    slow.end(8192)
    assert slow.left == 3
    fixed = WaitBudget(10, octets_a_second=0)
    fixed.requested()
    fixed.begin()
    fixed.end(1 << 30)
    assert fixed.left == 10


def test_work_in_another_context_has_a_budget_of_its_own() -> None:
    elsewhere = contextvars.copy_context()
    with bounded(WaitBudget(1)) as budget:
        assert wait_budget.current() is budget
        assert elsewhere.run(wait_budget.current) is None
        with bounded(WaitBudget(2)) as inner:
            assert wait_budget.current() is inner
        assert wait_budget.current() is budget
    assert wait_budget.current() is None
