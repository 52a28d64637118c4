"""How HTTP reaches a server: resolved once, connected by RFC 8305, answers bounded.

httpx speaks HTTP; beneath it are our own connections (`connect`), above it our own unfolding of
what is compressed, so that a few octets never become gigabytes.
"""

from __future__ import annotations

import select
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, Final

import httpcore
import httpx

from shared.errors import TryAgain
from shared.mailbox import traffic_observer, wait_budget
from shared.mailbox.net.connect import AllowHost, Deadline, connect_tcp, resolve
from shared.mailbox.net.tls import start_tls
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.wait_budget import ServerTooSlow, WaitBudget

#: Octets of an answer, decompressed. Larger ones are read by those who stream them only.
ANSWER_LIMIT: Final = 16 << 20
_CHUNK: Final = 65_536
#: zlib's word for a gzip member (RFC 1952), the only encoding that is asked for.
_GZIP: Final = 16 + zlib.MAX_WBITS


class BoundedTransport(httpx.HTTPTransport):
    """httpx' own transport over our connections; `reach` gives the rule for a host name."""

    def __init__(
        self,
        context: ssl.SSLContext,
        limits: httpx.Limits,
        reach: Callable[[str], AllowHost] | None,
        answer_s: float,
    ) -> None:
        """`answer_s`: seconds that may be waited for an answer, from its request to its end."""
        super().__init__(verify=context, limits=limits, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=Network(reach, answer_s),
        )
        self._observer = traffic_observer.current()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        noted = None
        if self._observer is not None:
            noted = self._observer.request(request.method, str(request.url), request.read())
        answer = super().handle_request(request)
        assert isinstance(answer.stream, httpx.SyncByteStream)
        encoding = answer.headers.get("content-encoding", "identity").strip().lower()
        limit = request.extensions.get("answer_limit", ANSWER_LIMIT)
        if limit is None and not 200 <= answer.status_code < 300:
            limit = ANSWER_LIMIT  # read into memory, to be told what is wrong
        connection = answer.extensions.get("network_stream")
        if limit is None and isinstance(connection, _ResponseStream):
            connection.may_be_long()
        stream = _Unfolded(answer.stream, encoding, limit, request.url.host)
        if noted is not None:
            noted.status, noted.headers = answer.status_code, dict(answer.headers)
            stream.noted = noted
        headers = [
            (name, value)
            for name, value in answer.headers.raw
            if name.lower() != b"content-encoding"
            and (encoding == "identity" or name.lower() != b"content-length")
        ]
        return httpx.Response(
            answer.status_code, headers=headers, stream=stream, extensions=answer.extensions
        )


class _Unfolded(httpx.SyncByteStream):
    """The octets of an answer in pieces, decompressed and counted."""

    def __init__(
        self, stream: httpx.SyncByteStream, encoding: str, limit: int | None, host: str
    ) -> None:
        self._stream = stream
        self._encoding = encoding
        self._limit = limit
        self._host = host
        self.noted: traffic_observer.HttpRequest | None = None

    def __iter__(self) -> Iterator[bytes]:
        pieces = unfolded(self._stream, self._encoding, self._limit, self._host)
        if self.noted is None:
            yield from pieces
            return
        for piece in pieces:
            self.noted.received(piece)
            yield piece

    def close(self) -> None:
        self._stream.close()


def unfolded(
    chunks: Iterable[bytes], encoding: str, limit: int | None, host: str
) -> Iterator[bytes]:
    """The pieces of an answer of `host`, decompressed, `limit` octets of them at most.

    Raises TryAgain beyond; httpx.DecodingError for what was not asked for.
    """
    if encoding == "identity":
        pieces: Iterable[bytes] = chunks
    elif encoding in ("gzip", "x-gzip"):
        pieces = _gunzipped(chunks)
    else:
        raise httpx.DecodingError(f"the answer is encoded as {encoding[:40]!r}")
    size = 0
    for piece in pieces:
        size += len(piece)
        if limit is not None and size > limit:
            raise TryAgain(
                f"{host} answers with more than {limit >> 20} MiB.", code="answer-too-large"
            )
        yield piece


def _gunzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of at most 64 KiB, however small what they come from is."""
    unfolding, begun = zlib.decompressobj(_GZIP), False
    for chunk in chunks:
        rest, begun = chunk, begun or bool(chunk)
        while rest:
            try:
                piece = unfolding.decompress(rest, _CHUNK)
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from error
            if piece:
                yield piece
            if not unfolding.eof:
                rest = unfolding.unconsumed_tail
                continue
            rest, begun = unfolding.unused_data, bool(unfolding.unused_data)
            unfolding = zlib.decompressobj(_GZIP)
    if begun:
        raise httpx.DecodingError("the compressed answer ends too early")


class Network(httpcore.NetworkBackend):
    """Connections of `connect`: allowed addresses only, each name resolved once."""

    def __init__(self, reach: Callable[[str], AllowHost] | None, answer_s: float) -> None:
        self._reach = reach
        self._answer_s = answer_s

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        deadline = Deadline(timeout or 10.0)
        allow = self._reach(host) if self._reach is not None else None
        work = wait_budget.current()
        with work.waiting() if work is not None else nullcontext():
            addresses = resolve(host, port, deadline, allow)
            sock, _ = connect_tcp(host, addresses, port, deadline, Transcript())
        return _ResponseStream(sock, self._answer_s)


class _ResponseStream(httpcore.NetworkStream):
    """A connected socket, as httpcore wants it.

    A timeout bounds the wait for the next octet; that for a whole answer, head and body, is bounded
    by `answer_s` seconds, or a server could hold whoever asks with an octet now and then. Both are
    paid from the budget of the work as well (`wait_budget`).
    """

    def __init__(self, sock: socket.socket, answer_s: float) -> None:
        self._socket = sock
        self._answer_s = answer_s
        self._answer = WaitBudget(answer_s, octets_a_second=0)

    def may_be_long(self) -> None:
        """This answer may take longer, as long as it keeps coming."""
        spent = self._answer.seconds - self._answer.left
        self._answer = WaitBudget(self._answer_s - spent)

    def _expect_answer(self) -> None:
        """The next answer is another one."""
        self._answer = WaitBudget(self._answer_s, octets_a_second=0)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        work = wait_budget.current()
        self._limit(timeout, work)
        octets = b""
        self._answer.begin()
        if work is not None:
            work.begin()
        try:
            octets = self._socket.recv(max_bytes)
        except TimeoutError as error:
            if work is not None and work.left <= 0:
                raise self._spent(work) from error
            raise httpcore.ReadTimeout("nothing came in time") from error
        except OSError as error:
            raise httpcore.ReadError(error.strerror or str(error)) from error
        finally:
            self._answer.end(len(octets))
            if work is not None:
                work.end(len(octets))
        return octets

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._expect_answer()
        work = wait_budget.current()
        if work is not None:
            work.requested()
        self._limit(timeout, work)
        try:
            with work.waiting() if work is not None else nullcontext():
                self._socket.sendall(buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout("nothing was taken in time") from error
        except OSError as error:
            raise httpcore.WriteError(error.strerror or str(error)) from error

    def _limit(self, timeout: float | None, work: WaitBudget | None) -> None:
        """Lets the socket wait no longer than is left."""
        left = self._answer.left
        if work is not None:
            left = min(left, work.left, work.longest_wait_s)
            if work.left <= 0:
                raise self._spent(work)
        if left <= 0:
            raise httpcore.ReadTimeout("the answer came too slowly")
        self._socket.settimeout(left if timeout is None else min(timeout, left))

    def _spent(self, work: WaitBudget) -> ServerTooSlow:
        most_of_it = self._answer.seconds - self._answer.left > work.seconds / 2
        return ServerTooSlow(work.seconds, about_server=not most_of_it)

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            wrapped = start_tls(
                self._socket,
                server_hostname or "",
                ssl_context,
                Deadline(timeout or 10.0),
                Transcript(),
            )
        except BaseException:
            self._socket.close()
            raise
        return _ResponseStream(wrapped, self._answer_s)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return self._socket
        if info == "server_addr":
            return self._socket.getpeername()
        if info == "socket":
            return self._socket
        if info == "is_readable":
            # httpcore asks before it uses a connection again: readable and idle means closed.
            if self._socket.fileno() < 0:
                return True
            waiting = select.poll()
            waiting.register(self._socket, select.POLLIN)
            return bool(waiting.poll(0))
        return None
