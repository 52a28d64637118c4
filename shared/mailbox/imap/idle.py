"""IDLE (RFC 2177): one wait for what the server tells, on a session that does not block."""

from __future__ import annotations

import re
import time
from enum import Enum

from shared.mailbox.failures import Refused, SessionLost
from shared.mailbox.imap.session import ImapSession

_PUSHED = re.compile(rb"\* +\d+ +(EXISTS|FETCH)\b(.*)", re.I | re.S)


class _State(Enum):
    STARTING = "IDLE was sent"
    IDLING = "the server waits with us"
    ENDING = "DONE was sent"
    ENDED = "the server confirmed DONE"


class IdleWait:
    """A `PushWait` of an IMAP session whose folder is open; `changed` is what opening it told."""

    def __init__(self, session: ImapSession, *, changed: bool) -> None:
        self.changed = changed
        self.since = time.monotonic()
        self._session = session
        self._state = _State.STARTING
        self._ends = False
        self._tag = b""

    def fileno(self) -> int:
        return self._session.stream.socket.fileno()

    @property
    def awaits_answer(self) -> bool:
        return self._state is not _State.IDLING

    @property
    def ended(self) -> bool:
        return self._state is _State.ENDED

    @property
    def broken(self) -> bool:
        return self._session.stream.broken

    def begin(self) -> None:
        self._session.stream.socket.setblocking(False)
        self._tag = self._session.send(b"IDLE")
        self._change_to(_State.STARTING)

    def end(self) -> None:
        self._ends = True
        if self._state is _State.IDLING:
            self._done()

    def read(self) -> bool:
        stream = self._session.stream
        stream.start_clock()
        arrived = False
        while not self.ended:
            line = stream.buffered_line()
            if line is not None:
                arrived = self._understand(line) or arrived
            elif not stream.fill_now():
                stream.shrink()
                break
        return arrived

    def release(self) -> None:
        stream = self._session.stream
        stream.socket.settimeout(stream.read_timeout_s)

    def abort(self) -> None:
        self._session.stream.close()

    def lost(self, error: SessionLost) -> SessionLost:
        lost = self._session.lost(error)
        lost.transcript = self._session.stream.transcript.lines
        return lost

    def _understand(self, line: bytes) -> bool:
        """Follows the conversation; True where the line tells of something new."""
        session = self._session
        session.stream.transcript.received(line)
        if line.startswith(b"+"):
            self._change_to(_State.IDLING)
            if self._ends:
                self._done()
            return False
        if not line.startswith(b"*"):
            reply = session.tagged(line, self._tag)
            if not reply.ok:
                raise Refused(
                    f"The mail server refuses to tell of new mails: {reply.text}",
                    step="folder",
                    code="no-push",
                )
            self._ends = False
            self._change_to(_State.ENDED)
            return False
        if line[:6].upper() == b"* BYE ":
            session.farewell = session.stream.transcript.clean(line[6:])
        match = _PUSHED.match(line)
        # A mail that was read is nothing new; one that is unread again may be.
        return match is not None and not (
            match[1].upper() == b"FETCH" and b"\\SEEN" in match[2].upper()
        )

    def _done(self) -> None:
        self._change_to(_State.ENDING)
        self._session.stream.transcript.sent(b"DONE")
        self._session.stream.send(b"DONE\r\n")

    def _change_to(self, state: _State) -> None:
        self._state, self.since = state, time.monotonic()
