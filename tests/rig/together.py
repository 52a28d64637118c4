"""Several mailboxes with a mail each, whose commits a fetcher makes together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

from services.fetcher.run import Committed, Ready
from shared.clock import new_id
from shared.coalescing import Combiner
from tests.rig.fetcher_in_process import FetcherHere
from tests.rig.mails import digests, mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.pop3_rules import RuledPop3

MAILS = [mail(number, 1500 + 300 * number, seed=71) for number in range(5)]


class Mailboxes:
    """One mail in each of five mailboxes, and a fetcher that gets to them at the same time."""

    def __init__(
        self, stack: Stack, server: Dovecot | RuledPop3, user: str, mode: str = "imap"
    ) -> None:
        self.stack = stack
        self.here = FetcherHere(stack)
        self.users = [f"{user}{number}" for number in range(len(MAILS))]
        stack.add_handler()
        for one, content in zip(self.users, MAILS, strict=True):
            server.deliver(one, [content])
        self.ids = [
            stack.watch(server, one, mode=mode, after_download="mark-read", interval_minutes=60)
            for one in self.users
        ]
        self._server = server
        #: What is done at a step of those that go together.
        self.at: dict[str, Callable[[], None]] = {}

    def fetch(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """The first one is held up once it is stored; the others wait then to go together."""
        stored, go_on = threading.Event(), threading.Event()

        def reached(step: str) -> None:
            if step == "stored" and not stored.is_set():
                stored.set()
                assert go_on.wait(60)
            elif threading.current_thread() is not runs[0]:
                self.at.get(step, lambda: None)()

        self.here.reached = reached
        self.stack.hasten()
        runs = [threading.Thread(target=self._run, args=(one,)) for one in self.ids]
        runs[0].start()
        assert stored.wait(60)
        for run in runs[1:]:
            run.start()
        commits = cast(
            Combiner[Ready, Committed | None], self.here.fetcher.dispatcher.tools.commits
        )
        deadline = time.monotonic() + 60
        while commits.waiting + sum(not run.is_alive() for run in runs[1:]) < len(runs) - 1:
            assert time.monotonic() < deadline, "the others are ready, or committed alone"
            time.sleep(0.01)
        meanwhile()
        go_on.set()
        for run in runs:
            run.join()
        self.here.stop_failing()

    def _run(self, connection: int) -> None:
        self.here.fetcher.dispatcher.run_job([connection], str(new_id()))

    def renew_keys(self) -> None:
        """The server forms its unique ids in another way from now on."""
        assert isinstance(self._server, RuledPop3)
        for user in self.users:
            self._server.rename(user, lambda mail: f"other-{mail.uidl}")

    def check(self, had: Sequence[int] = range(len(MAILS))) -> None:
        """These have their mail, once, and its server was told; the others have nothing."""
        assert self.here.had() == digests([MAILS[number] for number in had])
        rows = self.stack.query(
            "SELECT connection_id, sequence, settled_at IS NOT NULL FROM message"
        )
        assert sorted(rows) == [(self.ids[number], 1, True) for number in had]
        assert self.stack.count("outbox") == len(had)
        assert self.stack.count("settlement") == 0
        assert isinstance(self._server, Dovecot)
        for number, user in enumerate(self.users):
            (flags,) = self._server.flags(user).values()
            assert (r"\Seen" in flags) == (number in had)

    def finish(self) -> None:
        """Whoever has not had its mail gets it with the next run."""
        self.stack.hasten()
        for connection in self.ids:
            self.here.run(connection)
        self.check()

    def objects(self) -> int:
        ((count,),) = self.stack.query("SELECT count(DISTINCT raw_key) FROM message")
        return int(count)
