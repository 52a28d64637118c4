"""The path of a mail says nothing that is not known, and tells it in the order in which it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.storage.message_paths import Delivered, published

PUBLISHED = datetime(2026, 11, 30, 8, 26, 35, tzinfo=UTC)


def _delivered(state: str, *, position: str = "1-0", since: datetime | None = None) -> Delivered:
    return Delivered(
        handler_id=7,
        handler="tickets",
        published_at=PUBLISHED,
        position=position,
        repeats=0,
        state=state,
        in_hand={"consumer": "c", "since": since.isoformat(), "deliveries": 1} if since else None,
    )


@pytest.mark.parametrize(
    ("position", "said"),
    [
        ("1-0", "Waits in the queue of tickets"),
        # RabbitMQ, where a program that is done with it may have acknowledged it long since.
        ("", "Not known to be acknowledged by tickets"),
    ],
)
def test_what_the_broker_does_not_tell_is_not_claimed(position: str, said: str) -> None:
    assert [one.text for one in published(_delivered("waiting", position=position))][1] == said


@pytest.mark.parametrize("seconds", [-1, 0, 5])
def test_a_mail_is_in_nobodys_hand_before_it_is_published(seconds: int) -> None:
    since = PUBLISHED + timedelta(seconds=seconds)
    stops = list(published(_delivered("in-hand", since=since)))
    assert stops[1].at == max(PUBLISHED, since)
