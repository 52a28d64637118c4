"""Retry-After as servers write it (RFC 9110 sections 10.2.3 and 5.6.7), and as none should."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.mailbox.net import https

NOW = datetime(2026, 11, 29, 18, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "utc_now", lambda: NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("Sun, 29 Nov 2026 18:10:00 GMT", 600.0),
        ("Sunday, 29-Nov-26 18:10:00 GMT", 600.0),
        ("Sun Nov 29 18:10:00 2026", 600.0),
        ("Sun, 29 Nov 2026 17:00:00 GMT", 0.0),  # it is over
        ("9" * 400, 315_360_000.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 315_360_000.0),
    ],
)
def test_it_is_understood(text: str, seconds: float) -> None:
    assert https.retry_after({"retry-after": text}) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "-5", "1e5", ".", "\u00b2", "\u0663", "\0",
        "Sun, 29 Nov 2026 18:00:00 +99999999999999", "Sun, 29 Nov 2026 25:00:00 GMT",
        "Sun, 29 Nov 99999 18:00:00 GMT",
    ],
)  # fmt: skip
def test_what_says_nothing_is_as_if_it_were_not_there(text: str) -> None:
    assert https.retry_after({"retry-after": text}) is None
