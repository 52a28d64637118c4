"""HTTPS for the fake Graph: requests as values in, answers as values out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

from tests.servers.certificates import ServerIdentity
from tests.servers.loopback_http import LoopbackServer, TlsRequest, tls_of

_CHUNK = 16_384


@dataclass
class Request:
    """`path` is decoded; `headers` have lower-case names. `permits` are free at the mailbox."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any = None
    permits: int = 4


@dataclass
class Answer:
    """`cut` ≥ 0 breaks the connection after so many octets of the content."""

    status: int = 200
    payload: Any = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = -1
    done: Callable[[], None] | None = None

    @classmethod
    def error(cls, status: int, code: str, message: str) -> Answer:
        """As "Microsoft Graph error responses and resource types" describes it."""
        inner = {
            "date": "2026-01-01T08:00:00",
            "request-id": str(uuid4()),
            "client-request-id": str(uuid4()),
        }
        return cls(status, {"error": {"code": code, "message": message, "innerError": inner}})

    @property
    def octets(self) -> bytes:
        if self.content is not None:
            return self.content
        return b"" if self.payload is None else json.dumps(self.payload).encode()


def parse_target(target: str) -> tuple[str, list[tuple[str, str]]]:
    """Path and query of a request target or a relative URL."""
    parts = urlsplit(target)
    return unquote(parts.path), parse_qsl(parts.query, keep_blank_values=True)


class HttpsServer(LoopbackServer):
    """Threads, one a connection; connections stay open between requests."""

    def __init__(self, identity: ServerIdentity, answer: Callable[[Request], Answer]) -> None:
        class Handler(TlsRequest):
            context = tls_of(identity)
            disable_nagle_algorithm = True
            wbufsize = -1

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                text = self.rfile.read(length)
                path, query = parse_target(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = json.loads(text) if text else None
                self._send(answer(Request(self.command, path, query, headers, body)))

            do_GET = do_POST = do_PATCH = do_DELETE = _serve

            def _send(self, answered: Answer) -> None:
                octets = answered.octets
                try:
                    self.send_response(answered.status)
                    for name, value in answered.headers.items():
                        self.send_header(name, value)
                    kind = "application/json" if answered.content is None else "text/plain"
                    self.send_header("Content-Type", kind)
                    self.send_header("request-id", str(uuid4()))
                    self.send_header("Content-Length", str(len(octets)))
                    self.end_headers()
                    until = answered.cut if answered.cut >= 0 else len(octets)
                    last = max(0, until - 1)
                    for start in range(0, last, _CHUNK):
                        self.wfile.write(octets[start : min(start + _CHUNK, last)])
                finally:
                    if answered.done is not None:
                        answered.done()
                self.wfile.write(octets[last:until])  # who has it all, finds the permit free
                self.wfile.flush()
                if answered.cut >= 0:
                    self.close_connection = True
                    self.request.close()

        super().__init__(Handler)


class Refused(Exception):
    """Answered with this error, in place of what was asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.answer = Answer.error(status, code, message)
