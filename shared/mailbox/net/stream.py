"""Lines and streams of octets over one socket, bounded in memory and in time.

What IMAP and POP3 share. The buffer is allocated while it is needed: a session kept open costs no
memory here. The hot loops of `imap.fetch_responses` and `pop3.retrieve` work on `buffer`, `pos` and
`end` themselves; everything else calls `line` and `copy`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from math import inf

from shared.mailbox import traffic_observer, wait_budget
from shared.mailbox.failures import SessionLost
from shared.mailbox.net.pipelining import Pipelining
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.wait_budget import ServerTooSlow, WaitBudget

SMALL_BUFFER = 16_384
LARGE_BUFFER = 262_144
LINE_LIMIT = 1 << 20
#: The wait for one answer, as often as the wait for its next octet.
_ANSWER = 5
#: Seconds for a server to close the connection of a session that it ended.
_END_S = 0.5
#: Seconds by which a time-out may come before the clock says so.
_EARLY = 0.01


class Stream:
    """A connected socket (plain or TLS) to a mail server.

    `read_timeout_s` bounds the wait for the next octet; five times that is the budget of what is
    waited from `start_clock` on, and the budget of the work (`wait_budget`) pays for all of it.
    Raises SessionLost for whatever goes wrong; the session is unusable then.
    """

    def __init__(
        self,
        sock: socket.socket,
        transcript: Transcript,
        read_timeout_s: float,
        pipelining: Pipelining | None = None,
    ) -> None:
        self.socket = sock
        self.pipelining = pipelining or Pipelining()
        self.transcript = transcript
        self.read_timeout_s = read_timeout_s
        self.buffer = bytearray()
        self.view = memoryview(self.buffer)
        self.pos = 0
        self.end = 0
        self.broken = False
        self._fixed = False
        self._held = b""
        observer = traffic_observer.current()
        self._observed = observer.stream() if observer is not None else None
        sock.settimeout(read_timeout_s)
        self.start_clock()

    def start_clock(self) -> None:
        """A new conversation begins: its bound counts from here."""
        if not self._fixed:
            self._answer = WaitBudget(_ANSWER * self.read_timeout_s)

    def bound(self, seconds: float | None) -> None:
        """Everything from here on must come within so many seconds; None: the usual bounds."""
        self._fixed = seconds is not None
        if seconds is None:
            self.start_clock()
        else:
            self._answer = WaitBudget(seconds, octets_a_second=0)

    @contextlib.contextmanager
    def bounded(self, seconds: float | None) -> Iterator[None]:
        """Everything inside must come within so many seconds (None: the usual bounds)."""
        if seconds is None:
            yield
            return
        self.bound(seconds)
        yield
        self.bound(None)

    def send(self, octets: bytes, *, more: bool = False) -> None:
        """`more` comes at once, and goes with it: one call of the system, and one record of TLS."""
        if self.broken:
            # What comes next may be octets of a mail that nobody reads to its end: no answer.
            raise SessionLost("The session with the mail server broke before.")
        if self._observed is not None:
            self._observed.sent(octets)
        work = wait_budget.current()
        if work is not None:
            work.requested()
        octets, self._held = self._held + octets, b""
        if more:
            self._held = octets
            return
        self._limit(work)
        if work is not None:
            work.begin()
        try:
            self.socket.sendall(octets)
        except (OSError, ValueError) as error:
            raise self._lost(error, work) from error
        finally:
            if work is not None:
                work.end(0)

    def fill(self) -> None:
        """Waits for more octets and puts them behind those not yet taken; makes room first."""
        held = self.end - self.pos
        if not self.buffer:
            self.resize(SMALL_BUFFER)
        elif held == 0:
            self.pos = self.end = 0
        elif self.end == len(self.buffer):
            if self.pos == 0:
                raise self.nonsense("more than a buffer without an end")
            self.buffer[:held] = self.buffer[self.pos : self.end]
            self.pos, self.end = 0, held
        count = self._receive()
        if count == 0:
            raise self._lost(None)
        if self._observed is not None:
            self._observed.received(self.view[self.end : self.end + count])
        self.end += count

    def _receive(self) -> int:
        """Waits for octets, puts them into the buffer, and pays for the wait."""
        answer, work = self._answer, wait_budget.current()
        self._limit(work)
        count = 0
        answer.begin()
        if work is not None:
            work.begin()
        try:
            count = self.socket.recv_into(self.view[self.end :])
        except (OSError, ValueError) as error:
            raise self._lost(error, work) from error
        finally:
            answer.end(count)
            if work is not None:
                work.end(count)
        if work is not None and work.left <= 0:
            raise self._spent(work)
        if answer.left <= 0:
            raise self._answers_slowly()
        return count

    def _limit(self, work: WaitBudget | None) -> None:
        """Lets the socket wait no longer than is left. One that does not block (push) stays so."""
        left = min(self.read_timeout_s, self._answer.left)
        if work is not None:
            left = min(left, work.left, work.longest_wait_s)
            if left <= 0 and work.left <= 0:
                raise self._spent(work)
        if left <= 0:
            raise self._answers_slowly()
        now = self.socket.gettimeout()
        if now != 0 and (now is None or not left <= now <= 1.05 * left):
            self.socket.settimeout(left)

    def resize(self, size: int) -> None:
        """Gives the buffer another size, keeping what was not yet taken (never too small)."""
        held = bytes(self.view[self.pos : self.end])
        self.view.release()
        self.buffer = bytearray(max(size, len(held)))
        self.view = memoryview(self.buffer)
        self.view[: len(held)] = held
        self.pos, self.end = 0, len(held)

    def shrink(self) -> None:
        """Gives the buffer's memory back while nothing is expected."""
        if self.buffer and self.pos == self.end:
            self.view.release()
            self.buffer = bytearray()
            self.view = memoryview(self.buffer)
            self.pos = self.end = 0

    def line(self, limit: int = LINE_LIMIT) -> bytes:
        """The next line without its end (CRLF, or a bare LF), at most `limit` octets long."""
        pieces: list[bytes] = []
        length = 0
        while True:
            at = self.buffer.find(b"\n", self.pos, self.end)
            piece = bytes(self.view[self.pos : at if at >= 0 else self.end])
            length += len(piece)
            if length > limit:
                raise self.nonsense(f"a line longer than {limit} octets")
            if at >= 0:
                self.pos = at + 1
                line = b"".join([*pieces, piece]) if pieces else piece
                return line[:-1] if line.endswith(b"\r") else line
            pieces.append(piece)
            self.pos = self.end
            self.fill()

    def copy(self, count: int, write: Callable[[memoryview], object] | None) -> None:
        """Hands the next `count` octets to `write` piece by piece (None: they are dropped)."""
        while count:
            if self.pos == self.end:
                self.fill()
            piece = min(count, self.end - self.pos)
            if write is not None:
                write(self.view[self.pos : self.pos + piece])
            self.pos += piece
            count -= piece

    def take(self, count: int) -> bytes:
        """The next `count` octets at once; for small ones whose size was checked."""
        pieces: list[bytes] = []
        self.copy(count, lambda piece: pieces.append(bytes(piece)))
        return b"".join(pieces)

    def fill_now(self) -> bool:
        """Takes what has arrived, on a socket that does not block; False where nothing has."""
        try:
            self.fill()
        except SessionLost as error:
            waiting = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
            if not isinstance(error.__cause__, waiting):
                raise
            self.broken = False
            return False
        return True

    def buffered_line(self) -> bytes | None:
        """The next line if all of it is in the buffer."""
        at = self.buffer.find(b"\n", self.pos, self.end)
        if at < 0:
            return None
        return self.line()

    def nonsense(self, what: str) -> SessionLost:
        """The error for a server that does not keep to the protocol."""
        self._break()
        return SessionLost(
            f"The mail server does not keep to the protocol: it sent {what}.",
            code="protocol-error",
            hint="If this stays, look at the protocol log and ask those who run the server.",
            by_server=True,
        )

    def expect_tls(self) -> None:
        """Raises SessionLost where text stands behind the server's agreement to begin TLS: it may
        be an attacker's (CVE-2011-0411 and its kin)."""
        if self.pos < self.end:
            error = self.nonsense("plain text behind its agreement to STARTTLS")
            error.step = "tls"
            raise error

    def wait_for_end(self) -> None:
        """Waits until the server has closed the connection as well, which it does after a LOGOUT or
        a QUIT: it counts the session until then. Whatever it still sends is dropped."""
        self.bound(_END_S)
        self.pos = self.end = 0
        if not self.buffer:
            self.resize(SMALL_BUFFER)
        while self._receive():
            pass

    def close(self) -> None:
        """Closes the socket, whatever state it is in."""
        self.broken = True
        try:
            self.socket.close()
        except OSError:
            pass
        self.pos = self.end
        self.shrink()

    def _break(self) -> None:
        self.broken = True
        if self.pipelining.broke():
            self.transcript.note("it broke with several commands under way: one by one from now on")

    def _lost(self, error: Exception | None, work: WaitBudget | None = None) -> SessionLost:
        self._break()
        if isinstance(error, TimeoutError):
            if work is not None and work.left <= _EARLY:
                return self._spent(work)
            if self._answer.left <= _EARLY:
                return self._answers_slowly()
            waited = min(self.read_timeout_s, inf if work is None else work.longest_wait_s)
            return SessionLost(
                f"The mail server sent nothing for {waited:g} seconds.",
                code="read-timeout",
            )
        detail = f": {error.strerror or error}" if isinstance(error, OSError) else ""
        return SessionLost(f"The mail server closed the connection{detail}.")

    def _answers_slowly(self) -> SessionLost:
        self._break()
        return SessionLost(
            "The mail server answers too slowly: hardly anything came for minutes.",
            code="read-timeout",
        )

    def _spent(self, work: WaitBudget) -> ServerTooSlow:
        self._break()
        most_of_it = self._answer.seconds - self._answer.left > work.seconds / 2
        return ServerTooSlow(work.seconds, about_server=not most_of_it)
