"""Push: thousands of sessions whose servers tell of new mails, held by one thread.

    with PushLoop(on_push=wake, on_lost=gone) as push:
        push.watch(connection.id, mailbox, folder, cursor)
        ...
        mailbox = push.release(connection.id)   # to fetch over the same session; watch it again

How a server is asked to tell is the mailbox's affair (`Pushing`); the loop waits for what comes,
asks anew before servers log idle clients out, and gives up what does not answer. A session that
breaks is given up and told; that nothing is missed is the interval's business.

Whoever watches or releases a session talks to its server in his own thread: to hand each line to
the loop's thread and back would cost a mail more than the lines do.
"""

from __future__ import annotations

import contextlib
import logging
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from types import TracebackType

from shared.errors import PosthouseError
from shared.mailbox.base import Cursor, Mailbox
from shared.mailbox.failures import Refused, SessionLost
from shared.mailbox.push import Pushing, PushWait

_log = logging.getLogger(__name__)
#: RFC 2177 section 3: at least every 29 minutes.
RENEW_S = 25 * 60.0
_ANSWER_S = 30.0
_TICK_S = 5.0


@dataclass(eq=False, slots=True)
class _Watched:
    """A session in the loop's hands for as long as the loop knows it by its key: whoever does
    something with it then holds `lock`."""

    key: Hashable
    mailbox: Mailbox
    wait: PushWait
    lock: threading.RLock = field(default_factory=threading.RLock)


class PushLoop:
    """Watches sessions; calls back from its own thread, so callbacks must be quick.

    `on_push(key)`: something arrived, or was set unread. `on_lost(key, error)`: the session broke
    and is closed. After either nothing else is told of a lost session. What shows while `watch`
    begins is told from there.
    """

    def __init__(
        self,
        on_push: Callable[[Hashable], None],
        on_lost: Callable[[Hashable, PosthouseError], None],
        *,
        renew_s: float = RENEW_S,
    ) -> None:
        self._on_push = on_push
        self._on_lost = on_lost
        self._renew_s = renew_s
        self._selector = selectors.DefaultSelector()
        self._watched: dict[Hashable, _Watched] = {}
        self._stopping = False
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)
        self._selector.register(self._here, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)

    def __enter__(self) -> PushLoop:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs: without it nothing is heard any more."""
        return self._thread.is_alive()

    def __len__(self) -> int:
        return len(self._watched)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._watched

    def watch(
        self, key: Hashable, mailbox: Mailbox, folder: str, cursor: Cursor | None = None
    ) -> None:
        """Takes over an open session. Blocks while the folder is opened (one round trip).

        What changed since `cursor` is a push event at once: nothing falls between a fetch and this.
        Raises Refused where the mailbox cannot push, or what opening the folder raises; the
        session is then still the caller's. A key is watched once at a time.
        """
        assert key not in self._watched, "watched already"
        if not isinstance(mailbox, Pushing) or not mailbox.capabilities.push:
            raise Refused(
                "This mail server cannot tell of new mails by itself.",
                step="folder",
                code="no-push",
                hint="Switch push off for this connection; it is polled by its interval anyway.",
            )
        wait = mailbox.wait_for_push(folder, cursor)
        watched = _Watched(key, mailbox, wait)
        with watched.lock:
            self._watched[key] = watched
            if wait.changed:
                self._notify(self._on_push, key)
            self._guarded(watched, self._begin)

    def release(self, key: Hashable, *, timeout_s: float = 10) -> Mailbox | None:
        """Gives the session back to the caller, in step; None where it is lost. Blocks until its
        server has confirmed that the wait is over."""
        watched = self._watched.get(key)
        if watched is None:
            return None
        with watched.lock:
            if self._watched.get(key) is not watched:
                return None
            self._forget(watched)  # the loop's thread touches it no more
        try:
            _end(watched.wait, time.monotonic() + timeout_s)
        except PosthouseError:
            watched.wait.abort()
        except Exception:  # whatever one session does, its caller has others
            _log.exception("session of the push loop failed")
            watched.wait.abort()
        return None if watched.wait.broken else watched.mailbox

    def close(self) -> None:
        """Ends the thread and every session it watches."""
        self._stopping = True
        with contextlib.suppress(OSError):  # closed before
            self._there.send(b"!")
        if self._thread.is_alive():
            self._thread.join(10)
        for watched in list(self._watched.values()):
            watched.wait.abort()
        self._watched.clear()
        self._selector.close()
        self._here.close()
        self._there.close()

    # ---- inside

    def _run(self) -> None:
        tick = min(_TICK_S, self._renew_s / 4)
        next_look = time.monotonic() + tick
        while not self._stopping:
            for event, _ in self._selector.select(max(next_look - time.monotonic(), 0)):
                if event.data is not None:
                    self._guarded(event.data, self._read)
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + tick
                self._renew_waiting()

    def _begin(self, watched: _Watched) -> None:
        watched.wait.begin()
        # What came behind the last answer is in the buffer already: no event tells of it.
        self._read(watched)
        self._selector.register(watched.wait, selectors.EVENT_READ, watched)

    def _guarded(self, watched: _Watched, action: Callable[[_Watched], None]) -> None:
        """Does something with a session that the loop has; one that breaks over it is lost."""
        with watched.lock:
            if self._watched.get(watched.key) is not watched:
                return
            try:
                action(watched)
            except PosthouseError as error:
                self._lose(watched, error)
            except Exception as error:  # whatever one session does, the thread serves all others
                _log.exception("session of the push loop failed")
                self._lose(watched, SessionLost(f"An unexpected {type(error).__name__}."))

    def _read(self, watched: _Watched) -> None:
        arrived = watched.wait.read()
        while watched.wait.ended:
            watched.wait.begin()
            arrived = watched.wait.read() or arrived
        if arrived:
            self._notify(self._on_push, watched.key)

    def _renew_waiting(self) -> None:
        """Renews what waited long enough, and gives up what does not answer."""
        for watched in list(self._watched.values()):
            self._guarded(watched, self._renew)

    def _renew(self, watched: _Watched) -> None:
        waited = time.monotonic() - watched.wait.since
        if not watched.wait.awaits_answer and waited > self._renew_s:
            watched.wait.end()
        elif watched.wait.awaits_answer and waited > _ANSWER_S:
            raise _too_slow()

    def _lose(self, watched: _Watched, error: PosthouseError) -> None:
        self._forget(watched)
        if isinstance(error, SessionLost):
            error = watched.wait.lost(error)
        watched.wait.abort()
        self._notify(self._on_lost, watched.key, error)

    @staticmethod
    def _notify(callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # one broken callback must not end push for all others
            _log.exception("callback of the push loop failed")

    def _forget(self, watched: _Watched) -> None:
        self._watched.pop(watched.key, None)
        try:
            self._selector.unregister(watched.wait)
        except (KeyError, ValueError):
            pass  # closed already


def _end(wait: PushWait, deadline: float) -> None:
    """Ends a wait that is in nobody else's hands; raises where that is not confirmed in time."""
    wait.end()
    while not wait.ended:
        answers = select.poll()
        answers.register(wait.fileno(), select.POLLIN)
        if not answers.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            raise _too_slow()
        wait.read()
    wait.release()


def _too_slow() -> SessionLost:
    return SessionLost("The mail server does not answer to IDLE.", code="read-timeout")
