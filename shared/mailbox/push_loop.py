"""Push: thousands of sessions whose servers tell of new mails, held by one thread.

    with PushLoop(on_push=wake, on_lost=gone) as push:
        push.watch(connection.id, mailbox, folder, cursor)
        ...
        mailbox = push.release(connection.id)   # to fetch over the same session; watch it again

How a server is asked to tell is the mailbox's affair (`Pushing`); the loop waits for what comes,
asks anew before servers log idle clients out, and gives up what does not answer. A session that
breaks is given up and told; that nothing is missed is the interval's business.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
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
    """A session in the loop's hands."""

    key: Hashable
    mailbox: Mailbox
    wait: PushWait
    released: threading.Event | None = None


class PushLoop:
    """Watches sessions; calls back from its own thread, so callbacks must be quick.

    `on_push(key)`: something arrived, or was set unread. `on_lost(key, error)`: the session broke
    and is closed. After either nothing else is told of a lost session.
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
        self._requests: deque[Callable[[], None]] = deque()
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
        watched = self._watched[key] = _Watched(key, mailbox, wait)
        self._request(lambda: self._guarded(watched, self._begin))
        if wait.changed:
            self._request(lambda: self._notify(self._on_push, key))

    def release(self, key: Hashable, *, timeout_s: float = 10) -> Mailbox | None:
        """Gives the session back to the caller, in step; None where it is lost."""
        with_answer = threading.Event()
        found: list[_Watched] = []

        def end() -> None:
            watched = self._watched.get(key)
            if watched is None:
                with_answer.set()
                return
            found.append(watched)
            watched.released = with_answer
            self._guarded(watched, self._end)

        self._request(end)
        if not with_answer.wait(timeout_s) and found:
            self._request(lambda: self._lose(found[0], _too_slow()))
            return None
        if not found or found[0].wait.broken:
            return None
        return found[0].mailbox

    def close(self) -> None:
        """Ends the thread and every session it watches."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(10)
        for watched in list(self._watched.values()):
            watched.wait.abort()
        self._watched.clear()
        self._selector.close()
        self._here.close()
        self._there.close()

    # ---- everything below runs in the loop's thread

    def _request(self, request: Callable[[], None]) -> None:
        self._requests.append(request)
        self._wake()

    def _wake(self) -> None:
        try:
            self._there.send(b"!")
        except OSError:
            pass  # full: it is awake anyway; closed: nobody is there

    def _run(self) -> None:
        tick = min(_TICK_S, self._renew_s / 4)
        next_look = time.monotonic() + tick
        while not self._stopping:
            for event, _ in self._selector.select(max(next_look - time.monotonic(), 0)):
                if event.data is None:
                    self._take_requests()
                else:
                    self._guarded(event.data, self._read)
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + tick
                self._renew_waiting()

    def _take_requests(self) -> None:
        try:
            while self._here.recv(4096):
                pass
        except BlockingIOError:
            pass
        while self._requests:
            self._requests.popleft()()

    def _begin(self, watched: _Watched) -> None:
        watched.wait.begin()
        self._selector.register(watched.wait, selectors.EVENT_READ, watched)
        # What came behind the last answer is in the buffer already: no event tells of it.
        self._read(watched)

    @staticmethod
    def _end(watched: _Watched) -> None:
        watched.wait.end()

    def _guarded(self, watched: _Watched, action: Callable[[_Watched], None]) -> None:
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
            if watched.released is not None:
                self._hand_back(watched)
                break
            watched.wait.begin()
            arrived = watched.wait.read() or arrived
        if arrived:
            self._notify(self._on_push, watched.key)

    def _renew_waiting(self) -> None:
        """Renews what waited long enough, and gives up what does not answer."""
        now = time.monotonic()
        for watched in list(self._watched.values()):
            waited = now - watched.wait.since
            if not watched.wait.awaits_answer and waited > self._renew_s:
                self._guarded(watched, self._end)
            elif watched.wait.awaits_answer and waited > _ANSWER_S:
                self._lose(watched, _too_slow())

    def _hand_back(self, watched: _Watched) -> None:
        self._forget(watched)
        watched.wait.release()
        assert watched.released is not None
        watched.released.set()

    def _lose(self, watched: _Watched, error: PosthouseError) -> None:
        if self._watched.get(watched.key) is not watched:
            return
        self._forget(watched)
        if isinstance(error, SessionLost):
            error = watched.wait.lost(error)
        watched.wait.abort()
        if watched.released is not None:
            watched.released.set()
        else:
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


def _too_slow() -> SessionLost:
    return SessionLost("The mail server does not answer to IDLE.", code="read-timeout")
