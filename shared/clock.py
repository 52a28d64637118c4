"""Time and time-ordered identifiers.

Times are timezone-aware and in UTC everywhere. Decisions that several machines share (leases,
what is due) are taken by the clock of Postgres, never by this one.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def new_id(at: datetime | None = None) -> uuid.UUID:
    """A UUID version 7 (RFC 9562 section 5.7): sorts by its creation time in milliseconds.

    The ledger is partitioned by it, so the time of a message can be read from its id.
    """
    milliseconds = time.time_ns() // 1_000_000 if at is None else int(at.timestamp() * 1000)
    value = milliseconds << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=value)


def first_id(at: datetime) -> uuid.UUID:
    """The smallest id that `new_id` can give at `at` or later: a bound for time ranges."""
    return uuid.UUID(int=int(at.timestamp() * 1000) << 80)


def time_of(identifier: uuid.UUID) -> datetime:
    """When an id of `new_id` was made, to the millisecond."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)
