"""Push: IDLE (RFC 2177) on thousands of IMAP sessions, held by one thread.

    with IdleLoop(on_push=wake, on_lost=gone) as idle:
        idle.watch(connection.id, mailbox, folder, cursor)
        ...
        mailbox = idle.release(connection.id)   # to fetch over the same session; watch it again

Servers may log idle clients out after 30 minutes, so IDLE is sent anew before that. A session that
breaks is given up and told; that nothing is missed is the interval's business.
"""

from __future__ import annotations

import logging
import re
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType

from shared.errors import PosthouseError
from shared.mailbox.base import Cursor, Mailbox, Refused, SessionLost
from shared.mailbox.imap.mailbox import ImapMailbox
from shared.mailbox.imap.status import unchanged

_log = logging.getLogger(__name__)
#: RFC 2177 section 3: at least every 29 minutes.
RENEW_S = 25 * 60.0
_ANSWER_S = 30.0
_TICK_S = 5.0
_PUSHED = re.compile(rb"\* +\d+ +(EXISTS|FETCH)\b(.*)", re.I | re.S)


class _State(Enum):
    STARTING = "IDLE was sent"
    IDLING = "the server waits with us"
    ENDING = "DONE was sent"


@dataclass(eq=False, slots=True)
class _Watched:
    """A session in the loop's hands."""

    key: Hashable
    mailbox: ImapMailbox
    state: _State = _State.STARTING
    since: float = field(default_factory=time.monotonic)
    released: threading.Event | None = None
    tag: bytes = b""


class IdleLoop:
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
        self._thread = threading.Thread(target=self._run, name="idle", daemon=True)

    def __enter__(self) -> IdleLoop:
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

        What changed since `cursor` is news at once: nothing falls between a fetch and this.
        Raises Refused where the mailbox cannot push, or what opening the folder raises; the
        session is then still the caller's. A key is watched once at a time.
        """
        assert key not in self._watched, "watched already"
        if not isinstance(mailbox, ImapMailbox) or not mailbox.capabilities.push:
            raise Refused(
                "This mail server cannot tell of new mails by itself.",
                step="folder",
                code="no-push",
                hint="Switch push off for this connection; it is polled by its interval anyway.",
            )
        status = mailbox.open(folder)
        watched = self._watched[key] = _Watched(key, mailbox)
        self._ask(lambda: self._guarded(watched, self._begin))
        if cursor is None or not unchanged(cursor, status.cursor):
            self._ask(lambda: self._tell(self._on_push, key))

    def release(self, key: Hashable, *, timeout_s: float = 10) -> Mailbox | None:
        """Gives the session back to the caller, out of IDLE; None where it is lost."""
        with_answer = threading.Event()
        found: list[_Watched] = []

        def end() -> None:
            watched = self._watched.get(key)
            if watched is None:
                with_answer.set()
                return
            found.append(watched)
            watched.released = with_answer
            if watched.state is _State.IDLING:
                self._done(watched)

        self._ask(end)
        if not with_answer.wait(timeout_s) and found:
            self._ask(lambda: self._lose(found[0], _too_slow()))
            return None
        if not found or found[0].mailbox.session.stream.broken:
            return None
        return found[0].mailbox

    def close(self) -> None:
        """Ends the thread and every session it watches."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(10)
        for watched in list(self._watched.values()):
            watched.mailbox.session.stream.close()
        self._watched.clear()
        self._selector.close()
        self._here.close()
        self._there.close()

    # ---- everything below runs in the loop's thread

    def _ask(self, request: Callable[[], None]) -> None:
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
                self._look_around()

    def _take_requests(self) -> None:
        try:
            while self._here.recv(4096):
                pass
        except BlockingIOError:
            pass
        while self._requests:
            self._requests.popleft()()

    def _begin(self, watched: _Watched) -> None:
        stream = watched.mailbox.session.stream
        stream.socket.setblocking(False)
        self._selector.register(stream.socket, selectors.EVENT_READ, watched)
        self._idle(watched)
        # What came behind the last answer is in the buffer already: no event tells of it.
        self._read(watched)

    def _guarded(self, watched: _Watched, action: Callable[[_Watched], None]) -> None:
        if self._watched.get(watched.key) is not watched:
            return
        try:
            action(watched)
        except PosthouseError as error:
            self._lose(watched, error)
        except Exception as error:  # whatever one session does, the thread serves all others
            _log.exception("A session of the idle loop failed.")
            self._lose(watched, SessionLost(f"An unexpected {type(error).__name__}."))

    def _idle(self, watched: _Watched) -> None:
        watched.tag = watched.mailbox.session.send(b"IDLE")
        watched.state, watched.since = _State.STARTING, time.monotonic()

    def _done(self, watched: _Watched) -> None:
        watched.state, watched.since = _State.ENDING, time.monotonic()
        stream = watched.mailbox.session.stream
        stream.transcript.sent(b"DONE")
        try:
            stream.send(b"DONE\r\n")
        except PosthouseError as error:
            self._lose(watched, error)

    def _read(self, watched: _Watched) -> None:
        stream = watched.mailbox.session.stream
        stream.start_clock()
        news = False
        while True:
            while (line := stream.line_now()) is not None:
                news = self._understand(watched, line) or news
                if self._watched.get(watched.key) is not watched:
                    break  # released
            else:
                if stream.fill_now():
                    continue
            break
        if self._watched.get(watched.key) is watched:
            stream.rest()
        if news:
            self._tell(self._on_push, watched.key)

    def _understand(self, watched: _Watched, line: bytes) -> bool:
        """Follows the conversation; True where the line tells of something new."""
        session = watched.mailbox.session
        session.stream.transcript.received(line)
        if line.startswith(b"+"):
            watched.state, watched.since = _State.IDLING, time.monotonic()
            if watched.released is not None:
                self._done(watched)
            return False
        if not line.startswith(b"*"):
            reply = session.tagged(line, watched.tag)
            if not reply.ok:
                raise Refused(
                    f"The mail server refuses to tell of new mails: {reply.text}",
                    step="folder",
                    code="no-push",
                )
            if watched.released is not None:
                self._hand_back(watched)
            else:
                self._idle(watched)
            return False
        if line[:6].upper() == b"* BYE ":
            session.farewell = session.stream.transcript.clean(line[6:])
        match = _PUSHED.match(line)
        # A mail that was read is no news; one that is unread again may be.
        return match is not None and not (
            match[1].upper() == b"FETCH" and b"\\SEEN" in match[2].upper()
        )

    def _look_around(self) -> None:
        """Renews what idled long enough, and gives up what does not answer."""
        now = time.monotonic()
        for watched in list(self._watched.values()):
            waited = now - watched.since
            if watched.state is _State.IDLING and waited > self._renew_s:
                self._done(watched)
            elif watched.state is not _State.IDLING and waited > _ANSWER_S:
                self._lose(watched, _too_slow())

    def _hand_back(self, watched: _Watched) -> None:
        self._forget(watched)
        stream = watched.mailbox.session.stream
        stream.socket.settimeout(stream.read_timeout_s)
        if watched.released is not None:
            watched.released.set()

    def _lose(self, watched: _Watched, error: PosthouseError) -> None:
        if self._watched.get(watched.key) is not watched:
            return
        self._forget(watched)
        if isinstance(error, SessionLost):
            error = watched.mailbox.session.lost(error)
            error.transcript = watched.mailbox.transcript
        watched.mailbox.session.stream.close()
        if watched.released is not None:
            watched.released.set()
        else:
            self._tell(self._on_lost, watched.key, error)

    @staticmethod
    def _tell(callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # one broken callback must not end push for all others
            _log.exception("A callback of the idle loop failed.")

    def _forget(self, watched: _Watched) -> None:
        self._watched.pop(watched.key, None)
        try:
            self._selector.unregister(watched.mailbox.session.stream.socket)
        except (KeyError, ValueError):
            pass  # closed already


def _too_slow() -> SessionLost:
    return SessionLost("The mail server does not answer to IDLE.", code="read-timeout")
