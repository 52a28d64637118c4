"""What the HTTP servers of tests share: a loopback port, threads, and TLS where it is wanted."""

from __future__ import annotations

import contextlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

from tests.servers.certificates import ServerIdentity


class QuietRequest(BaseHTTPRequestHandler):
    """A connection whose requests are not logged."""

    protocol_version = "HTTP/1.1"
    # The body waits for no acknowledgement of the headers: 40 ms each.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class TlsRequest(QuietRequest):
    """The same inside TLS; clients that hang up are part of the tests."""

    context: ClassVar[ssl.SSLContext]

    def setup(self) -> None:
        self.request.settimeout(30)
        self.request = self.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
            self.request.close()


def tls_of(identity: ServerIdentity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not issubclass(self.RequestHandlerClass, TlsRequest):  # type: ignore[arg-type]
            super().handle_error(request, client_address)


class LoopbackServer:
    """Listens on a free port from the start, and answers between `start` and `stop`."""

    def __init__(self, request: type[BaseHTTPRequestHandler]) -> None:
        self._server = _Server(("127.0.0.1", 0), request)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
