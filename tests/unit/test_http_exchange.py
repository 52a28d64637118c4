"""Answers of an endpoint as they come over a socket: whole, in pieces, cut, twice, and none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from shared.forwarding.http_exchange import Exchange, HttpAnswer, NoAnswer

OK = b"HTTP/1.1 200 OK\r\nX-Name: value\r\nContent-Length: 4\r\n\r\ngood"


def talk(
    serve: Callable[[socket.socket], None], body: bytes = b"{}", timeout_s: float = 20
) -> tuple[HttpAnswer, Exchange]:
    """One request to a server that does as `serve` says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            peer, _ = listener.accept()
            with peer:
                serve(peer)

        thread = threading.Thread(target=accept)
        thread.start()
        exchange = Exchange(
            socket.create_connection(listener.getsockname()), "a.example", "/hook", timeout_s
        )
        try:
            return exchange.post({"x-own": "text"}, body), exchange
        finally:
            exchange.close()
            thread.join()


def saying(*parts: bytes) -> Callable[[socket.socket], None]:
    """Reads a request, says each part by itself, and closes."""

    def serve(peer: socket.socket) -> None:
        heard = b""
        while not heard.endswith(b"\r\n\r\n{}"):
            heard += peer.recv(65_536)
        assert heard.startswith(b"POST /hook HTTP/1.1\r\nhost: a.example\r\n")
        assert b"\r\nx-own: text\r\n" in heard and b"\r\ncontent-length: 2\r\n" in heard
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            peer.sendall(part)

    return serve


def without_end(before: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    """Says `piece` again and again, 64 MiB of it at the most."""

    def serve(peer: socket.socket) -> None:
        peer.recv(65_536)
        peer.sendall(before)
        many = piece * (65_536 // len(piece))
        with contextlib.suppress(OSError):
            for _ in range((64 << 20) // len(many)):
                peer.sendall(many)

    return serve


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["value", "fields", "informational"],
)
def test_a_head_without_an_end_is_hung_up_on(before: bytes, piece: bytes) -> None:
    with pytest.raises(NoAnswer, match="no end"):
        talk(without_end(before, piece))


@pytest.mark.parametrize("piece", [b"x: y\r\n", b"a"], ids=["fields", "value"])
def test_trailers_without_an_end_are_left(piece: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nz: "
    answer, exchange = talk(without_end(head, piece))
    assert answer.status == 200
    assert not exchange.is_reusable
    assert sum(map(len, answer.fields.values())) < 300_000


@pytest.mark.parametrize(
    ("parts", "body", "reusable"),
    [
        ([OK], b"good", True),
        ([OK[n : n + 1] for n in range(len(OK))], b"good", True),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], b"good", True),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo", b"\r\n0\r\n\r\n"],
         b"go", True),
        ([b"HTTP/1.1 200 OK\r\n\r\nto the end"], b"to the end", False),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nno"], b"no", False),
        ([b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"], b"no", False),
        ([OK + b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n"], b"good", False),
        ([OK + b"what nobody asked for"], b"good", False),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", b"x" * 200_000], b"x" * 1024,
         False),
    ],
    ids=["whole", "in-pieces", "continue", "chunked", "to-the-end", "http-1.0", "close", "twice",
         "and-more", "endless"],
)  # fmt: skip
def test_an_answer_is_read(parts: list[bytes], body: bytes, reusable: bool) -> None:
    answer, exchange = talk(saying(*parts))
    assert (answer.status, answer.body) == (200, body)
    assert exchange.is_reusable is reusable


@pytest.mark.parametrize(
    ("parts", "silent"),
    [
        ([], True),
        ([OK[:-1]], False),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ncut"], False),
        ([b"HTTP/1.1 200 OK\r\nConte"], False),
        ([b"220 mail.example.org ESMTP\r\n"], False),
        ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], False),
    ],
    ids=["nothing", "cut", "cut-chunk", "cut-head", "another-protocol", "upgrade"],
)
def test_what_is_no_answer_is_not_taken_for_one(parts: list[bytes], silent: bool) -> None:
    with pytest.raises(NoAnswer) as none:
        talk(saying(*parts))
    assert none.value.was_silent is silent


def test_who_refuses_a_large_body_before_its_end_is_understood() -> None:
    def serve(peer: socket.socket) -> None:
        peer.recv(1024)
        peer.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)

    answer, exchange = talk(serve, bytes(16 << 20))
    assert answer.status == 413
    assert not exchange.is_reusable


def test_an_answer_that_drips_does_not_come_in_time() -> None:
    def serve(peer: socket.socket) -> None:
        peer.recv(65_536)
        peer.sendall(b"HTTP/1.1 200 OK\r\n")
        with contextlib.suppress(OSError):
            while True:
                peer.sendall(b"X: y\r\n")
                threading.Event().wait(0.05)

    with pytest.raises(TimeoutError):
        talk(serve, timeout_s=1)


def test_a_field_with_a_line_break_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        exchange = Exchange(socket.create_connection(listener.getsockname()), "a", "/", 5)
        peer, _ = listener.accept()
        with peer:
            for text in ("a\r\nb: c", "a\nb: c", "a\rb"):
                with pytest.raises(ValueError, match="line break"):
                    exchange.post({"x-own": text}, b"")
            exchange.close()
            assert peer.recv(10) == b""
