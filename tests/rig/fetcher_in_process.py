"""A whole fetcher in the test's own process, for tests that let its parts fail at a step.

No job, no scheduler: a test says when a connection runs, as often as it likes. Postgres, the store
and the mail server are real.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from hashlib import sha256

from services.fetcher.main import Fetcher, build
from services.fetcher.settings import FetcherSettings
from shared.clock import new_id
from shared.messages import RawRef
from shared.storage import leases
from shared.store import FileStore
from tests.rig.stack import Stack


class FetcherHere:
    """The fetcher of a stack; `reached` is called with every step that a run comes to."""

    def __init__(self, stack: Stack, **settings: str) -> None:
        values = {
            name.removeprefix("POSTHOUSE_").lower(): value
            for name, value in stack.environment_of("fetcher").items()
            if name.startswith("POSTHOUSE_")
        }
        known = {
            k: v for k, v in {**values, **settings}.items() if k in FetcherSettings.model_fields
        }
        self.stack = stack
        self.fetcher: Fetcher = build(FetcherSettings(**known))  # type: ignore[arg-type]
        self.reached: Callable[[str], None] = lambda step: None
        self.fetcher.dispatcher.tools = dataclasses.replace(
            self.fetcher.dispatcher.tools, reached=lambda step: self.reached(step)
        )

    @contextlib.contextmanager
    def working(self) -> Iterator[FetcherHere]:
        with self.fetcher.database, self.fetcher.dispatcher.sessions:
            yield self

    def run(self, connection_id: int) -> None:
        """One run, whatever its end is; the interval before it has passed."""
        self.stack.hasten()
        self.fetcher.dispatcher.run_job([connection_id], str(new_id()))

    def run_until_idle(self, connection_id: int, most: int = 20) -> int:
        """Runs until two in a row change nothing in the ledger; returns how many it took."""
        before, same = None, 0
        for number in range(1, most + 1):
            self.run(connection_id)
            now = (self.stack.count("message"), self.stack.count("settlement"))
            same = same + 1 if now == before else 0
            if same == 1:
                return number
            before = now
        return most

    def fail_at(self, step: str, error: Callable[[], BaseException], time: int = 1) -> list[str]:
        """Raises `error` when `step` is reached for the n-th time; the list fills when it did."""
        happened: list[str] = []
        left = [time]

        def reached(name: str) -> None:
            if name == step:
                left[0] -= 1
                if left[0] == 0:
                    happened.append(name)
                    raise error()

        self.reached = reached
        return happened

    def stop_failing(self) -> None:
        self.reached = lambda step: None

    def take_leases_away(self) -> None:
        """As an edit does to the run of its connection."""
        with self.stack.database.transaction() as session:
            for (mailbox,) in session.execute("SELECT mailbox FROM lease").fetchall():
                leases.take_away(session, mailbox)

    def had(self) -> list[str]:
        """SHA-256 of every mail of the ledger, read back from the store; sorted."""
        store = FileStore(self.stack.store)
        rows = self.stack.query("SELECT raw_key, raw_offset, size, sha256 FROM message")
        found = []
        for key, offset, size, digest in rows:
            there = sha256(store.read(RawRef(key, offset, size)))
            assert there.digest() == digest
            found.append(there.hexdigest())
        return sorted(found)
