"""What follows from a failed run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.fetcher.backoff import LONGEST_DELAY, described, health_after, retry_delay
from shared.connections import Health
from shared.errors import NeedsAuthorisation, NeedsPerson, PosthouseError, TryAgain


@given(st.integers(0, 500), st.integers(1, 60))
def test_nothing_waits_longer_than_half_an_hour(failures: int, interval: int) -> None:
    assert 0 < retry_delay(TryAgain("x"), failures, interval) <= LONGEST_DELAY
    assert 0 < retry_delay(NeedsPerson("x"), failures, interval) <= LONGEST_DELAY


def test_back_off_grows_and_is_spread() -> None:
    first = [retry_delay(TryAgain("x"), 0, 1) for _ in range(50)]
    later = [retry_delay(TryAgain("x"), 4, 1) for _ in range(50)]
    assert len({round(delay, 3) for delay in first}) > 10, "what failed together comes apart"
    assert max(first) <= 60
    assert min(later) > 3 * max(first)


def test_a_wrong_password_is_tried_so_rarely_that_no_account_is_locked() -> None:
    """Microsoft and Active Directory lock after ten failures within ten minutes to half an hour."""
    elapsed, tries = 0.0, 0
    while elapsed < 3600:
        elapsed += retry_delay(NeedsPerson("x", code="login-refused"), tries, 1)
        tries += 1
    assert tries <= 5


def test_retry_after_is_honoured_also_beyond_the_cap() -> None:
    assert retry_delay(TryAgain("x", retry_after=3600), 0, 1) == 3600
    assert retry_delay(TryAgain("x", retry_after=2), 0, 1) == 2


@pytest.mark.promise("A4")
def test_a_lost_grant_asks_for_authorisation() -> None:
    assert health_after(NeedsAuthorisation("gone")) is Health.NEEDS_AUTHORISATION
    assert health_after(NeedsPerson("wrong")) is Health.FAILING


def test_a_description_is_bounded() -> None:
    error = PosthouseError("m" * 10_000, hint="h" * 10_000)
    error.transcript = ["C: " + "x" * 5000] * 1000
    told = described(error)
    assert len(told.message) <= 2000
    assert len(told.log) <= 60
    assert max(map(len, told.log)) <= 400
