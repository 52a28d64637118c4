"""Endpoints of forwarded handlers, for the storm: they fail at random, and keep what they took."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import nats.errors

from tests.servers.nats import NatsServer

#: Of a hundred requests: those that fail before anything is taken, and those that were taken and
#: look as if not.
_REFUSED: Final = 6
_TAKEN_UNSAID: Final = 2
_STREAM: Final = "MAIL"


class Endpoint:
    """As `Recorder`: what came, by event id. A broker's repeats are not told apart here."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: Counter[str] = Counter()
        self.redelivered: Counter[str] = Counter()
        self.digests: dict[str, str] = {}
        self._lock = threading.Lock()

    def _take(self, event: dict[str, Any]) -> None:
        digest = (event["data"].get("original") or event["data"])["sha256"]
        with self._lock:
            self.seen[event["id"]] += 1
            assert self.digests.setdefault(event["id"], digest) == digest, "one id, two mails"


class HttpEndpoint(Endpoint):
    """Answers 500 or 503, cuts the connection, or takes a mail and says nothing, until `calm`."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name)
        self.is_calm = False
        endpoint, rng = self, random.Random(seed)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                fate = 100 if endpoint.is_calm else rng.randrange(100)
                if fate >= _REFUSED:
                    endpoint._take(json.loads(body))
                if fate < _REFUSED // 2 or _REFUSED <= fate < _REFUSED + _TAKEN_UNSAID:
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(200 if fate >= _REFUSED else rng.choice((500, 503)))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self.options: dict[str, Any] = {"timeout_seconds": 3}

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def calm(self) -> None:
        self.is_calm = True

    def disturb(self, rng: random.Random) -> None:
        """It fails by itself."""

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A forwarder that is killed leaves its connections reset; all else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class NatsEndpoint(Endpoint):
    """A stream on disk, whose server is killed and started again."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._server = NatsServer()
        self._server.start()
        self._server.add_stream(_STREAM, "mail.>")
        self.url = self._server.url
        self.options: dict[str, Any] = {"timeout_seconds": 3, "subject": "mail.storm"}
        self._read = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def calm(self) -> None:
        pass

    def disturb(self, rng: random.Random) -> None:
        self._server.kill()
        time.sleep(rng.uniform(0, 1.5))
        self._server.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        self._server.close()

    def _run(self) -> None:
        while not self._stop.wait(1):
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                for one in self._server.messages(_STREAM, self._read + 1):
                    self._take(json.loads(one.data))
                    self._read += 1
