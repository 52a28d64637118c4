"""How many requests a mailbox gets at once, over all replicas (`shared.mailbox.net.limiting`).

Places are rows with an end, not advisory locks: a place is held for as long as a download takes,
and a lock would pin one of the few database connections for that time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID, uuid4

from shared.errors import TryAgain
from shared.storage.pool import Database
from shared.storage.queries import Queries

_SQL = Queries("limiter")
#: Seconds after which a place is free again whose holder never gave it back. Longer than any
#: request takes: reads are bounded, and a large mail at a slow link ends within it.
_HOLD: Final = 600.0
_FIRST_LOOK: Final = 0.02
_LAST_LOOK: Final = 0.5


class NoPlace(TryAgain):
    """No place became free in time, or the server asked for a longer pause."""

    code = "mailbox-busy"


class PostgresLimiter:
    """`at_once` places a mailbox; thread-safe."""

    def __init__(
        self,
        database: Database,
        at_once: int = 3,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._at_once = at_once
        self._wait = wait

    @contextmanager
    def slot(self, mailbox: str, *, within: float, places: int = 1) -> Iterator[None]:
        """Holds `places` of the mailbox' places. Raises NoPlace after `within` seconds.

        Several are taken one after the other, the lowest first: nobody waits in a circle, and
        those who want one place each cannot keep somebody who wants all from ever getting them.
        """
        key, holder = mailbox.lower(), uuid4()
        deadline = time.monotonic() + within
        many = min(places, self._at_once)
        taken: list[int] = []
        try:
            for wanted in range(1, many + 1) if many > 1 else (None,):
                taken.append(self._acquire(key, holder, deadline, wanted))
            yield
        finally:
            if taken:
                with self._database.transaction() as session:
                    values = {"mailbox": key, "slots": taken, "holder": holder}
                    session.execute(_SQL["release"], values)

    def pause(self, mailbox: str, seconds: float) -> None:
        """Nobody gets a place before `seconds` have passed."""
        values = {"mailbox": mailbox.lower(), "seconds": seconds}
        with self._database.transaction() as session:
            session.execute(_SQL["pause"], values)

    def _acquire(self, key: str, holder: UUID, deadline: float, wanted: int | None) -> int:
        values = {
            "mailbox": key,
            "holder": holder,
            "at_once": self._at_once,
            "hold": _HOLD,
            "wanted": wanted,
        }
        look = _FIRST_LOOK
        while True:
            with self._database.transaction() as session:
                row = session.execute(_SQL["acquire"], values).fetchone()
            assert row is not None
            slot, paused = row
            if slot is not None:
                return int(slot)
            left = deadline - time.monotonic()
            if paused > left or left <= 0:
                raise NoPlace(
                    f"The mailbox {key} has no free place for another request.",
                    retry_after=max(paused, 1.0),
                )
            self._wait(max(paused, min(left, look * random.uniform(0.5, 1.5))))  # noqa: S311 (jitter)
            look = min(look * 2, _LAST_LOOK)
