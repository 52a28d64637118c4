"""A real HTTP receiver of webhooks on a loopback port, which answers as it is told."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.servers.loopback_http import LoopbackServer, QuietRequest


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came; header names are lower-case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver(LoopbackServer):
    """Keeps what it receives. `answers` are the next status codes (then 204), with headers."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: deque[tuple[int, dict[str, str]]] = deque()
        #: Where set, decides instead: status, header fields and body of the answer.
        self.decide: Callable[[Received], tuple[int, dict[str, str], bytes]] | None = None
        self._lock = threading.Lock()
        receiver = self

        class Handler(QuietRequest):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Received(self.path, headers, body)
                with receiver._lock:
                    receiver.received.append(request)
                    status, more = receiver.answers.popleft() if receiver.answers else (204, {})
                said = b""
                if receiver.decide is not None:
                    status, more, said = receiver.decide(request)
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

        super().__init__(Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/secret-path"

    def secure(self, context: ssl.SSLContext) -> None:
        """Speaks TLS from now on; call it before the receiver is entered."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def second_receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running
