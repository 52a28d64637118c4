"""Which mails a connection starts from, and what is said when it is enabled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.admin.operations.estimates import Estimate
from shared.connections import Connection
from shared.input_fields import instant

#: `start_from` where it is no date.
EVERYTHING = "everything"
NOW = "now"


@dataclass(frozen=True, slots=True)
class Start:
    """Which mails to take: all new ones, those that arrive `since`, or with `skip_existing` none
    that is there now, which is `since`: the first look may come later."""

    since: datetime | None = None
    skip_existing: bool = False

    @property
    def by_date(self) -> datetime | None:
        return None if self.skip_existing else self.since

    @classmethod
    def parse(cls, value: Any) -> Start:
        """`"everything"` (or None), `"now"`, or a date. Raises InvalidInput."""
        if value is None or value == EVERYTHING:
            return cls()
        if value == NOW:
            return cls(datetime.now(UTC), skip_existing=True)
        return cls(since=instant("start_from", value))


def start_notice(connection: Connection, start: Start, counted: Estimate | None) -> str:
    """What enabling has set going, in words."""
    every = (
        "every minute"
        if connection.interval_minutes == 1
        else f"every {connection.interval_minutes} minutes"
    )
    if start.skip_existing:
        which = "Mails that are there now are left alone; later ones are fetched"
    elif start.since:
        which = f"Mails that arrived since {start.since:%Y-%m-%d %H:%M} UTC are fetched"
    elif counted is not None:
        which = "Nothing is new at the moment; later mails are fetched"
    else:
        which = "All new mails are being fetched now, later ones"
    return f"{connection.name} is enabled. {which} {every}."
