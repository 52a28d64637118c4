"""How many requests a mailbox gets, at once and by the minute, over all processes
(`shared.mailbox.net.request_limits`).

A process keeps the places that it has at a mailbox and the requests that it took for it, so a
request costs no statement as long as nobody else wants a place there. Once a second it looks who
does: from then on it gives each place back after its request, and whoever waits longest is served.

Source: "Microsoft Graph service-specific throttling limits" (learn.microsoft.com/graph), Outlook
service limits, for each application and mailbox, and global limits, for each application.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import structlog

from shared.errors import PosthouseError, TryAgain
from shared.storage import request_places
from shared.storage.pool import Database, DatabaseUnavailable
from shared.storage.request_budgets import RequestBudgets, RequestLimit

_log = structlog.get_logger(__name__)

OF_MAILBOX: Final = RequestLimit(10_000, 600.0, in_advance=4000, at_a_time=50, processes=10)
OF_APPLICATION: Final = RequestLimit(130_000, 10.0, in_advance=10_000, at_a_time=200, processes=100)
_FIRST_LOOK: Final = 0.02
_LAST_LOOK: Final = 0.25
#: Seconds between two looks who waits, and between two signs of life.
_TICK: Final = 1.0
_BEAT: Final = 3.0
_SWEEP: Final = 10.0
_PURGE: Final = 60.0
#: Seconds after a sign of life in which nobody takes this process for dead.
_BELIEVED: Final = request_places.LIVES - 3.0
#: Seconds for which places are given back after each request once others waited.
_CONTESTED: Final = 5.0
#: Seconds without a request until one place is kept, and until none is.
_QUIET, _UNUSED = 10.0, 1800.0


class NoPlace(TryAgain):
    """No place became free in time, or the server asked for a longer pause."""

    code = "mailbox-busy"


@dataclass(slots=True)
class _Places:
    """Of this process at a mailbox; times are those of time.monotonic."""

    held: int = 0
    in_use: int = 0
    #: Threads that want some, in their order.
    queue: deque[object] = field(default_factory=deque)
    #: Its row is being changed.
    writing: bool = False
    paused_until: float = 0.0
    contested_until: float = 0.0
    used: float = 0.0

    def worth_keeping(self, now: float) -> int:
        if now < self.contested_until or now > self.used + _UNUSED:
            return self.in_use
        return max(self.in_use, min(self.held, 1)) if now > self.used + _QUIET else self.held


class PostgresLimiter:
    """`at_once` places a mailbox; thread-safe. `run` has a thread of its own."""

    def __init__(
        self,
        database: Database,
        at_once: int = 3,
        *,
        of_mailbox: RequestLimit = OF_MAILBOX,
        of_application: RequestLimit = OF_APPLICATION,
    ) -> None:
        self._database = database
        self._at_once = at_once
        self._of_mailbox = RequestBudgets(database, of_mailbox)
        self._of_application = RequestBudgets(database, of_application)
        self._holder = uuid4()
        self._changed = threading.Condition()
        self._mailboxes: dict[str, _Places] = {}
        self._beating = threading.Lock()
        self._beaten = float("-inf")
        self._swept = self._purged = 0.0

    @contextmanager
    def slot(
        self, mailbox: str, *, within: float, application: str = "", requests: int = 1
    ) -> Iterator[None]:
        """Counts `requests` at the mailbox and for the application, and holds a place for each of
        them, or all places. Raises NoPlace or NoRequestsLeft after `within` seconds."""
        key = mailbox.lower()
        deadline = time.monotonic() + within
        self._of_mailbox.spend(f"mailbox {key}", requests, within)
        if application:
            left = deadline - time.monotonic()
            self._of_application.spend(f"application {application}", requests, left)
        places = min(requests, self._at_once)
        self._take(key, places, deadline)
        try:
            yield
        finally:
            self._leave(key, places)

    def pause(self, mailbox: str, seconds: float) -> None:
        """Nobody gets a place before `seconds` have passed; other processes hear of it at their
        next look."""
        key = mailbox.lower()
        with self._database.transaction() as session:
            request_places.pause(session, key, seconds)
        with self._changed:
            self._pause(key, seconds)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`: says that this process lives, and gives back what others wait for."""
        while not stop.wait(_TICK):
            try:
                self._tick()
            except PosthouseError as error:
                _log.warning("places at mailboxes were not looked after", error=str(error))
        with self._changed:
            known, self._mailboxes = bool(self._mailboxes), {}
        if known:
            try:
                with self._database.transaction() as session:
                    request_places.depart(session, self._holder)
            except PosthouseError as error:
                _log.warning("others wait for places of a process that ended", error=str(error))

    # ---- places

    def _take(self, key: str, places: int, deadline: float) -> None:
        ticket = object()
        look = _FIRST_LOOK
        looked = False
        with self._changed:
            here = self._mailboxes.setdefault(key, _Places())
            here.queue.append(ticket)
            try:
                while True:
                    now = time.monotonic()
                    pause = here.paused_until - now
                    its_turn = here.queue[0] is ticket and not here.writing
                    if its_turn and pause <= 0 and self._has(here, places, now):
                        here.in_use += places
                        here.used = now
                        return
                    if now + pause > deadline and pause > 0 and not looked:
                        looked = True  # perhaps somebody ended the pause
                        self._look_at_pause(key, here)
                        continue
                    if now >= deadline or now + pause > deadline:
                        raise _no_place(key, pause)
                    if pause > 0:
                        self._changed.wait(pause)
                    elif not its_turn or here.in_use + places > self._at_once:
                        self._changed.wait(deadline - now)
                    elif not self._ask(key, here, places):
                        # By chance, as those who wait at other mailboxes look, too.
                        self._changed.wait(min(deadline - now, look * random.uniform(0.5, 1.5)))  # noqa: S311 (jitter)
                        look = min(look * 2, _LAST_LOOK)
            finally:
                here.queue.remove(ticket)
                self._changed.notify_all()

    def _has(self, here: _Places, places: int, now: float) -> bool:
        """Whether so many are held and unused; not where this process may be taken for dead."""
        return here.held - here.in_use >= places and now < self._beaten + _BELIEVED

    def _ask(self, key: str, here: _Places, places: int) -> bool:
        """Asks for what is missing; others go on meanwhile. Whether anything was granted."""
        here.writing = True
        self._changed.release()
        try:
            if time.monotonic() > self._beaten + _BEAT:
                self._beat()
            held = here.held
            more = here.in_use + places - held
            if more <= 0:
                return True
            with self._database.transaction() as session:
                answer = request_places.ask(
                    session, self._holder, key, held=held, more=more, at_once=self._at_once
                )
        finally:
            self._changed.acquire()
            here.writing = False
            self._changed.notify_all()
        if answer.granted:
            here.held = held + more
        if answer.contested:
            here.contested_until = time.monotonic() + _CONTESTED
        if answer.paused:
            self._pause(key, answer.paused)
        return answer.granted

    def _look_at_pause(self, key: str, here: _Places) -> None:
        self._changed.release()
        try:
            with self._database.autocommit() as session:
                seconds = request_places.paused(session, key)
        finally:
            self._changed.acquire()
        here.paused_until = time.monotonic() + seconds

    def _leave(self, key: str, places: int) -> None:
        with self._changed:
            here = self._mailboxes.setdefault(key, _Places())
            here.in_use -= places
            here.used = time.monotonic()
            given = self._surplus([key], here.used)
            self._changed.notify_all()
        try:
            self._give_back(given)
        except DatabaseUnavailable as error:
            _log.warning("place at a mailbox not given back", error=str(error))

    def _surplus(self, keys: list[str], now: float) -> dict[str, int]:
        """What is to be kept where that is less than is held; nobody else writes there until it is
        given back."""
        keeping = {}
        for key in keys:
            here = self._mailboxes[key]
            keep = here.worth_keeping(now)
            if not here.writing and keep < here.held:
                here.writing = True
                keeping[key] = keep
        return keeping

    def _give_back(self, keeping: Mapping[str, int]) -> None:
        if not keeping:
            return
        done = False
        try:
            with self._database.transaction() as session:
                request_places.keep(session, self._holder, keeping)
            done = True
        finally:
            with self._changed:
                for key, keep in keeping.items():
                    here = self._mailboxes.get(key, _Places())
                    here.writing = False
                    if done:
                        here.held = keep
                self._changed.notify_all()

    def _pause(self, key: str, seconds: float) -> None:
        here = self._mailboxes.setdefault(key, _Places())
        here.paused_until = max(here.paused_until, time.monotonic() + seconds)

    # ---- once a second

    def _tick(self) -> None:
        with self._changed:
            if not self._mailboxes:
                return
        if time.monotonic() > self._beaten + _BEAT:
            self._beat()
        with self._database.autocommit() as session:
            contested, paused = request_places.waiting_and_paused(session, self._holder)
        now = time.monotonic()
        with self._changed:
            wanted = [key for key in contested if key in self._mailboxes]
            for key in wanted:
                self._mailboxes[key].contested_until = now + _CONTESTED
            for key, here in self._mailboxes.items():
                here.paused_until = now + paused[key] if key in paused else 0.0
            self._changed.notify_all()
            if now > self._swept + _SWEEP:
                self._swept = now
                self._forget_unused(now)
                wanted = list(self._mailboxes)
            keeping = self._surplus(wanted, now)
        self._give_back(keeping)

    def _forget_unused(self, now: float) -> None:
        for key, here in list(self._mailboxes.items()):
            if not (here.held or here.in_use or here.queue or here.writing) and (
                max(here.used + _UNUSED, here.paused_until) < now
            ):
                del self._mailboxes[key]

    def _beat(self) -> None:
        """Says that this process lives; where others had taken it for dead, it has no places."""
        with self._beating:
            began = time.monotonic()
            with self._database.transaction() as session:
                alive = request_places.beat(session, self._holder)
                if began > self._purged + _PURGE:
                    self._purged = began
                    request_places.purge(session)
            with self._changed:
                self._beaten = began
                if not alive:
                    for here in self._mailboxes.values():
                        here.held = 0


def _no_place(key: str, pause: float) -> NoPlace:
    return NoPlace(
        f"The mailbox {key} has no free place for another request.",
        retry_after=max(pause, 1.0),
    )
