"""The permits for requests that this process holds at mailboxes, and who of its threads is next.

Each permit is used for one request after the other, without a statement, as long as no other
process waits for one there. Where one waits, permits are given back after each request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

import structlog

from shared.errors import TryAgain
from shared.storage import request_permits
from shared.storage.pool import Database, DatabaseUnavailable
from shared.storage.request_permits_at_mailbox import PermitsAtMailbox, Waiter
from shared.storage.request_permits_heartbeat import PermitsHeartbeat

_log = structlog.get_logger(__name__)

#: Seconds between two searches for permits that nobody uses any more.
_SWEEP: Final = 10.0
#: Seconds for which permits are given back after each request once others waited.
_CONTESTED: Final = 5.0


class NoPermit(TryAgain):
    """No permit became free in time, or the server asked for a longer pause."""

    code = "mailbox-busy"


class HeldPermits:
    """At most `at_once` at a mailbox, over all processes. Thread-safe.

    Everything in memory is read and changed under `_changed`; statements are executed without it.
    """

    def __init__(self, database: Database, at_once: int) -> None:
        self._database = database
        self._at_once = at_once
        self._holder = uuid4()
        self._heartbeat = PermitsHeartbeat(database, self._holder, self._lose_all)
        self._changed = threading.Condition()
        self._mailboxes: dict[str, PermitsAtMailbox] = {}
        self._swept = 0.0

    @contextmanager
    def use(self, mailbox: str, requests: int, deadline: float) -> Iterator[None]:
        """A permit for each of `requests`, or all permits. Raises NoPermit after `deadline`."""
        permits = min(requests, self._at_once)
        self._take(Waiter(mailbox, permits, deadline))
        try:
            yield
        finally:
            self._leave(mailbox, permits)

    def pause(self, mailbox: str, seconds: float) -> None:
        """Nobody gets a permit before `seconds` have passed; other processes hear of it when they
        look after their permits."""
        with self._database.transaction() as session:
            request_permits.pause(session, mailbox, seconds)
        with self._changed:
            self._pause(self._at(mailbox), seconds)

    def look_after(self) -> None:
        """To be called every second: says that this process lives, hears who waits where, and gives
        back what they or nobody wants. Raises DatabaseUnavailable."""
        with self._changed:
            if not self._mailboxes:
                return
        self._heartbeat.send_when_due()
        with self._database.autocommit() as session:
            contested, paused = request_permits.waiting_and_paused(session, self._holder)
        now = time.monotonic()
        with self._changed:
            wanted = [mailbox for mailbox in contested if mailbox in self._mailboxes]
            for mailbox in wanted:
                self._mailboxes[mailbox].contested_until = now + _CONTESTED
            for mailbox, here in self._mailboxes.items():
                here.paused_until = now + paused[mailbox] if mailbox in paused else 0.0
            self._changed.notify_all()
            if now > self._swept + _SWEEP:
                self._swept = now
                self._forget_unused(now)
                wanted = list(self._mailboxes)
            keeping = self._surplus(wanted, now)
        self._give_back(keeping)

    def release_all(self) -> None:
        """The process ends: its permits are free at once. Raises DatabaseUnavailable."""
        with self._changed:
            known, self._mailboxes = bool(self._mailboxes), {}
        if known:
            with self._database.transaction() as session:
                request_permits.release_all(session, self._holder)

    # ---- taking

    def _take(self, waiter: Waiter) -> None:
        with self._changed:
            here = self._at(waiter.mailbox)
            here.queue.append(waiter)
            try:
                while not self._use_held(here, waiter):
                    self._wait(here, waiter)
            finally:
                here.queue.remove(waiter)
                self._changed.notify_all()

    def _use_held(self, here: PermitsAtMailbox, waiter: Waiter) -> bool:
        """Whether this waiter is next, and so many are held and unused."""
        now = time.monotonic()
        if not self._is_next(here, waiter) or here.paused_until > now:
            return False
        if here.held - here.in_use < waiter.permits or not self._heartbeat.is_alive(now):
            return False
        here.in_use += waiter.permits
        here.used = now
        return True

    def _wait(self, here: PermitsAtMailbox, waiter: Waiter) -> None:
        """Until something may have changed. Raises NoPermit where it is too late."""
        now = time.monotonic()
        pause = here.paused_until - now
        if pause > 0:
            self._wait_for_end_of_pause(here, waiter, pause)
        elif now >= waiter.deadline:
            raise _no_permit(waiter.mailbox, pause)
        elif not self._is_next(here, waiter) or here.in_use + waiter.permits > self._at_once:
            self._changed.wait(waiter.deadline - now)  # for other threads of this process
        elif not self._ask(here, waiter):
            self._changed.wait(min(waiter.deadline - now, waiter.next_wait()))

    def _wait_for_end_of_pause(self, here: PermitsAtMailbox, waiter: Waiter, pause: float) -> None:
        if here.paused_until <= waiter.deadline:
            self._changed.wait(pause)
        elif waiter.asked_about_pause:
            raise _no_permit(waiter.mailbox, pause)
        else:  # perhaps somebody ended it
            waiter.asked_about_pause = True
            with self._without_lock(), self._database.autocommit() as session:
                seconds = request_permits.paused(session, waiter.mailbox)
            here.paused_until = time.monotonic() + seconds

    def _is_next(self, here: PermitsAtMailbox, waiter: Waiter) -> bool:
        return here.queue[0] is waiter and not here.writing

    def _ask(self, here: PermitsAtMailbox, waiter: Waiter) -> bool:
        """Asks Postgres for what is missing. Whether anything was granted."""
        here.writing = True
        try:
            with self._without_lock():
                self._heartbeat.send_when_due()
                held = here.held
                more = here.in_use + waiter.permits - held
                if more <= 0:
                    return True
                with self._database.transaction() as session:
                    answer = request_permits.request(
                        session,
                        self._holder,
                        waiter.mailbox,
                        held=held,
                        more=more,
                        at_once=self._at_once,
                    )
        finally:
            here.writing = False
            self._changed.notify_all()
        if answer.granted:
            here.held = held + more
        if answer.contested:
            here.contested_until = time.monotonic() + _CONTESTED
        if answer.paused:
            self._pause(here, answer.paused)
        return answer.granted

    # ---- giving back

    def _leave(self, mailbox: str, permits: int) -> None:
        with self._changed:
            here = self._at(mailbox)
            here.in_use -= permits
            here.used = time.monotonic()
            keeping = self._surplus([mailbox], here.used)
            self._changed.notify_all()
        try:
            self._give_back(keeping)
        except DatabaseUnavailable as error:
            _log.warning("permit at a mailbox not given back", error=str(error))

    def _surplus(self, mailboxes: list[str], now: float) -> dict[str, int]:
        """What is to be kept where that is less than is held; nobody else writes there until it is
        given back."""
        keeping = {}
        for mailbox in mailboxes:
            here = self._mailboxes[mailbox]
            keep = here.worth_keeping(now)
            if not here.writing and keep < here.held:
                here.writing = True
                keeping[mailbox] = keep
        return keeping

    def _give_back(self, keeping: Mapping[str, int]) -> None:
        if not keeping:
            return
        done = False
        try:
            with self._database.transaction() as session:
                request_permits.keep(session, self._holder, keeping)
            done = True
        finally:
            with self._changed:
                for mailbox, keep in keeping.items():
                    here = self._mailboxes.get(mailbox, PermitsAtMailbox())
                    here.writing = False
                    if done:
                        here.held = keep
                self._changed.notify_all()

    def _forget_unused(self, now: float) -> None:
        for mailbox in [m for m, here in self._mailboxes.items() if here.is_forgettable(now)]:
            del self._mailboxes[mailbox]

    def _lose_all(self) -> None:
        with self._changed:
            for here in self._mailboxes.values():
                here.held = 0

    # ---- under the lock

    def _at(self, mailbox: str) -> PermitsAtMailbox:
        return self._mailboxes.setdefault(mailbox, PermitsAtMailbox())

    @staticmethod
    def _pause(here: PermitsAtMailbox, seconds: float) -> None:
        here.paused_until = max(here.paused_until, time.monotonic() + seconds)

    @contextmanager
    def _without_lock(self) -> Iterator[None]:
        self._changed.release()
        try:
            yield
        finally:
            self._changed.acquire()


def _no_permit(mailbox: str, pause: float) -> NoPermit:
    return NoPermit(
        f"As many requests as the mailbox {mailbox} takes at a time are being made.",
        retry_after=max(pause, 1.0),
    )
