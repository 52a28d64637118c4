"""`/healthz` (does it make progress?), `/readyz` (can it reach what it needs?) and `/metrics`.

A small threaded HTTP server beside the work, so that a stuck worker is seen and a busy one is not
restarted for being busy.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from shared.errors import InvalidInput, PosthouseError
from shared.telemetry import logs, metrics
from shared.telemetry.listening_sockets import listening_socket

#: Raises where what it checks cannot be used; returns quickly.
Check = Callable[[], None]

_CHECK_SECONDS: Final = 5.0


class Heartbeat:
    """The heartbeat of a service's main loop. `beat()` whenever work was done or looked for.

    `stale_after`, in seconds, is the longest that one honest step may take.
    """

    def __init__(self, stale_after: float = 120.0) -> None:
        self.stale_after = stale_after
        self._last = time.monotonic()
        metrics.HEARTBEAT_AGE.set_function(self.age)

    def beat(self) -> None:
        self._last = time.monotonic()

    def age(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._last

    def is_alive(self) -> bool:
        return self.age() < self.stale_after


class Readiness:
    """Named checks, run side by side, none longer than five seconds."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max(1, len(self._checks)), thread_name_prefix="readiness")
        self._running: dict[str, Future[None]] = {}

    def failures(self) -> dict[str, str]:
        """Check → why it fails and what to do, without secrets; empty where all is well."""
        with self._lock:
            for name, check in self._checks.items():
                # A check that hangs keeps its one thread; it is asked again when it comes back.
                if name not in self._running:
                    self._running[name] = self._pool.submit(check)
            running = dict(self._running)
        wait(running.values(), timeout=_CHECK_SECONDS)
        failed = {}
        for name, future in running.items():
            if not future.done():
                failed[name] = f"no answer within {_CHECK_SECONDS:.0f} s"
                continue
            with self._lock:
                self._running.pop(name, None)
            error = future.exception()
            if error is not None:
                shown = repr(error)
                if isinstance(error, PosthouseError):
                    shown = f"{error} {error.hint}".strip()
                failed[name] = logs.without_secrets(shown)
        return failed

    def names(self) -> list[str]:
        return list(self._checks)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class HealthServer:
    """Serves the three addresses on a thread of its own. A context manager.

    `port` 0 takes any free one (`server.port` tells which). Raises InvalidInput where the port is
    taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        heartbeat: Heartbeat | None = None,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        self.heartbeat = heartbeat or Heartbeat(float("inf"))
        self._readiness = Readiness(checks or {})
        try:
            self._server = _Server(
                listening_socket(host, port, backlog=32), _handler(self.heartbeat, self._readiness)
            )
        except OSError as error:
            raise InvalidInput(
                f"/healthz cannot listen on {host}:{port}: {error.strerror}.",
                field="health_port",
                hint="Choose another POSTHOUSE_HEALTH_PORT.",
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="health"
        )
        self._thread.daemon = True

    def __enter__(self) -> HealthServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._readiness.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_address = listening.getsockname()
        self.server_name, self.server_port = "", int(listening.getsockname()[1])


def _live_answer(heartbeat: Heartbeat) -> tuple[int, dict[str, Any]]:
    """Status and body of `/healthz`."""
    alive = heartbeat.is_alive()
    return (
        200 if alive else 503,
        {"status": "ok" if alive else "stuck", "heartbeat_age_seconds": round(heartbeat.age(), 1)},
    )


def _ready_answer(readiness: Readiness) -> tuple[int, dict[str, Any]]:
    """Status and body of `/readyz`: states alone. Why is in the log and on the overview."""
    failed = readiness.failures()
    checks = {name: "failing" if name in failed else "ok" for name in readiness.names()}
    return (503 if failed else 200, {"status": "failing" if failed else "ok", "checks": checks})


def _handler(heartbeat: Heartbeat, readiness: Readiness) -> type[BaseHTTPRequestHandler]:
    class ProbeRequest(BaseHTTPRequestHandler):
        timeout = 10
        protocol_version = "HTTP/1.1"
        server_version = "posthouse"
        sys_version = ""

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/healthz":
                    self._json(*_live_answer(heartbeat))
                case "/readyz":
                    self._json(*_ready_answer(readiness))
                case "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.REGISTRY))
                case _:
                    self._json(404, {"status": "not found"})

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Probes come every few seconds; they are no news."""

        def _json(self, status: int, body: dict[str, Any]) -> None:
            self._answer(status, "application/json", json.dumps(body).encode() + b"\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return ProbeRequest
