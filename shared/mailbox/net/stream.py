"""Lines and streams of octets over one socket, bounded in memory and in time.

What IMAP and POP3 share. The buffer is allocated while it is needed: a session kept open costs no
memory here. The hot loops of `imap.bodies` and `pop3.retrieve` work on `buffer`, `pos` and `end`
themselves; everything else calls `line` and `copy`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator

from shared.mailbox import observing
from shared.mailbox.failures import SessionLost
from shared.mailbox.net.transcript import Transcript

SMALL_BUFFER = 16_384
LARGE_BUFFER = 262_144
LINE_LIMIT = 1 << 20
#: A server may take its time (`grace`, seconds), but then must send this many octets a second.
_SLOWEST = 4096


class Stream:
    """A connected socket (plain or TLS) to a mail server.

    `read_timeout_s` bounds the wait for the next octet; five times that, plus a second for each
    4 KiB received, bounds everything from `start_clock` on. Raises SessionLost for whatever goes
    wrong; the session is unusable then.
    """

    def __init__(self, sock: socket.socket, transcript: Transcript, read_timeout_s: float) -> None:
        self.socket = sock
        self.transcript = transcript
        self.read_timeout_s = read_timeout_s
        self.buffer = bytearray()
        self.view = memoryview(self.buffer)
        self.pos = 0
        self.end = 0
        self.received = 0
        self.broken = False
        self._patience = 0.0
        self._fixed: float | None = None
        observer = observing.current()
        self._observed = observer.stream() if observer is not None else None
        sock.settimeout(read_timeout_s)
        self.start_clock()

    def start_clock(self) -> None:
        """A new conversation begins: its bound counts from here."""
        self.received = 0
        self._patience = (
            time.monotonic() + 5 * self.read_timeout_s if self._fixed is None else self._fixed
        )

    def bound(self, seconds: float | None) -> None:
        """Everything from here on must come within so many seconds; None: the usual bounds."""
        self._fixed = None if seconds is None else time.monotonic() + seconds
        self.socket.settimeout(self.read_timeout_s if seconds is None else seconds)
        self.start_clock()

    @contextlib.contextmanager
    def bounded(self, seconds: float | None) -> Iterator[None]:
        """Everything inside must come within so many seconds (None: the usual bounds)."""
        if seconds is None:
            yield
            return
        self.bound(seconds)
        yield
        self.bound(None)

    def send(self, octets: bytes) -> None:
        if self._observed is not None:
            self._observed.sent(octets)
        try:
            self.socket.sendall(octets)
        except (OSError, ValueError) as error:
            raise self._lost(error) from error

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
        try:
            count = self.socket.recv_into(self.view[self.end :])
        except (OSError, ValueError) as error:
            raise self._lost(error) from error
        if count == 0:
            raise self._lost(None)
        if self._observed is not None:
            self._observed.received(self.view[self.end : self.end + count])
        self.end += count
        self.received += count
        earned = self.received / _SLOWEST if self._fixed is None else 0
        if time.monotonic() > self._patience + earned:
            self.broken = True
            raise SessionLost(
                "The mail server answers too slowly: hardly anything came for minutes.",
                code="read-timeout",
            )

    def resize(self, size: int) -> None:
        """Gives the buffer another size, keeping what was not yet taken (never too small)."""
        held = bytes(self.view[self.pos : self.end])
        self.view.release()
        self.buffer = bytearray(max(size, len(held)))
        self.view = memoryview(self.buffer)
        self.view[: len(held)] = held
        self.pos, self.end = 0, len(held)

    def rest(self) -> None:
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

    def line_now(self) -> bytes | None:
        """The next line if all of it is in the buffer."""
        at = self.buffer.find(b"\n", self.pos, self.end)
        if at < 0:
            return None
        return self.line()

    def nonsense(self, what: str) -> SessionLost:
        """The error for a server that does not keep to the protocol."""
        self.broken = True
        return SessionLost(
            f"The mail server does not keep to the protocol: it sent {what}.",
            code="protocol-error",
            hint="If this stays, look at the protocol log and ask those who run the server.",
            by_server=True,
        )

    def close(self) -> None:
        """Closes the socket, whatever state it is in."""
        self.broken = True
        try:
            self.socket.close()
        except OSError:
            pass
        self.pos = self.end
        self.rest()

    def _lost(self, error: Exception | None) -> SessionLost:
        self.broken = True
        if isinstance(error, TimeoutError):
            return SessionLost(
                f"The mail server sent nothing for {self.read_timeout_s:g} seconds.",
                code="read-timeout",
            )
        detail = f": {error.strerror or error}" if isinstance(error, OSError) else ""
        return SessionLost(f"The mail server closed the connection{detail}.")
