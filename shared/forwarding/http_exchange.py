"""One kept connection to an endpoint: a request written at once, and its answer (RFC 9112).

The grammar of answers is llhttp's, which Node uses. Requests are written here: each is a head of
fields that were checked when they were entered, and a body of known length. Both together cost a
quarter of what `http.client` takes, which counts where one process posts thousands a second.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

#: Octets of an answer that are kept, and those that are read so that the connection can be used
#: again; who says more is hung up on.
_KEPT: Final = 1024
_READ: Final = 65_536
#: Octets of a whole answer with its head, trailers and what goes before it (1xx).
_LONGEST: Final = 4 * _READ


class NoAnswer(Exception):
    """What came is no answer; the text says why. `was_silent`: nothing came at all, as where the
    endpoint had closed the connection."""

    def __init__(self, text: str, *, was_silent: bool = False) -> None:
        super().__init__(text)
        self.was_silent = was_silent


@dataclass(slots=True)
class HttpAnswer:
    """`body`: its first 1,024 octets; `fields`: names in lower case."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Exchange:
    """A socket that is connected, and over which nothing was said. Not thread-safe. Close it."""

    def __init__(self, sock: socket.socket, host: str, target: str, timeout_s: float) -> None:
        """`host`: what the field of that name says; `timeout_s`: for the request, and for all of
        its answer."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._head = f"POST {target} HTTP/1.1\r\nhost: {host}\r\naccept-encoding: identity\r\n"
        self._timeout_s = timeout_s
        self._unasked = select.poll()
        self._unasked.register(sock, select.POLLIN)
        self.is_reusable = True

    def post(self, fields: Mapping[str, str], body: bytes) -> HttpAnswer:
        """Raises NoAnswer, TimeoutError, OSError, ValueError (a field that cannot be sent)."""
        self.is_reusable = False
        lines = "".join([f"{name}: {text}\r\n" for name, text in fields.items()])
        if lines.count("\n") != len(fields) or lines.count("\r") != len(fields):
            raise ValueError("a header field has a line break in it")
        head = f"{self._head}{lines}content-length: {len(body)}\r\n\r\n".encode("latin-1")
        self._sock.settimeout(self._timeout_s)
        failure: OSError | None = None
        try:
            self._sock.sendall(head + body)
        except TimeoutError:
            raise
        except OSError as error:
            failure = error  # who refuses what is too large answers, and reads no further
        try:
            answer = self._answer()
        except (NoAnswer, OSError) as error:
            if failure is not None and not isinstance(error, TimeoutError):
                raise NoAnswer("the connection was closed", was_silent=True) from failure
            raise
        self.is_reusable = self.is_reusable and failure is None
        return answer

    def has_ended(self) -> bool:
        """Readable and nothing asked: the endpoint closed it, or says what nobody asked for."""
        return bool(self._unasked.poll(0))

    def close(self) -> None:
        self._sock.close()

    def _answer(self) -> HttpAnswer:
        reading = _Reading()
        deadline = time.monotonic() + self._timeout_s
        while not reading.is_over:
            try:
                data = self._sock.recv(_READ)
            except ConnectionError as error:
                raise NoAnswer("the connection broke", was_silent=not reading.began) from error
            if not data:
                reading.end()
                break
            reading.feed(data)
            if not reading.is_over:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._sock.settimeout(left)
        pending = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0
        self.is_reusable = reading.keeps_alive and not pending
        return reading.answer


class _Reading:
    """One answer as it is parsed. Methods that begin with `on_` are the parser's."""

    def __init__(self) -> None:
        self.answer = HttpAnswer()
        self.began = False
        self.is_over = False
        self.keeps_alive = False
        self._size = 0
        self._received = 0
        self._has_head = False
        self._body: list[bytes] = []
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Raises NoAnswer."""
        self.began = True
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.is_over:  # else it is something behind the answer
                raise NoAnswer("what came is not HTTP") from error
            self.keeps_alive = False
        if self.is_over or (self._size <= _READ and self._received <= _LONGEST):
            return
        if not self._has_head:
            raise NoAnswer("the head of the answer has no end")
        self._finish()
        self.keeps_alive = False

    def end(self) -> None:
        """Nothing more comes. Raises NoAnswer where something is missing."""
        fields = self.answer.fields
        sized = "content-length" in fields or "transfer-encoding" in fields
        if not self._has_head or sized:
            raise NoAnswer("the connection was closed", was_silent=not self.began)
        self._finish()

    def _finish(self) -> None:
        self.answer.body = b"".join(self._body)[:_KEPT]
        self.is_over = True

    def on_message_begin(self) -> None:
        if self.is_over:  # a second answer to one request: whose, nobody can tell
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_over:
            self.answer.fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.is_over:
            return
        self.answer.status = self._parser.get_status_code()
        self._has_head = self.answer.status >= 200
        self.keeps_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self.is_over:
            if self._size < _KEPT:
                self._body.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        if self._has_head and not self.is_over:
            self._finish()
        elif not self.is_over:
            self.answer.fields.clear()  # 1xx: the answer is still to come
