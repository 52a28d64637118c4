"""A TCP link to a server on loopback: as far away as wanted, and it counts what goes over it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable


class Link:
    """Forwards to `target` with `delay` seconds each way and no bound on its throughput.

    `octets` counts both directions. `round_trips` counts how often the client had to wait: it
    sends something after it was given something, and nothing of the server's is under way.
    """

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self._target = target
        self._delay = delay
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self.octets = 0
        self.round_trips = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def reset(self) -> None:
        with self._lock:
            self.octets = self.round_trips = 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Connecting takes a round trip of its own, which the client has behind it by now.
            self._count(0, waited=True)
            down = _Pipe(server, client, self._delay, lambda octets: self._count(octets))
            up = _Pipe(
                client,
                server,
                self._delay,
                lambda octets, down=down: self._count(octets, waited=down.given()),  # type: ignore[misc]
            )
            for pipe in (down, up):
                pipe.start()

    def _count(self, octets: int, *, waited: bool = False) -> None:
        with self._lock:
            self.octets += octets
            self.round_trips += waited


class _Pipe:
    """One direction of a connection."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        delay: float,
        seen: Callable[[int], None],
    ) -> None:
        self._source, self._sink, self._delay, self._seen = source, sink, delay, seen
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._more = threading.Condition()
        self._given = False

    def start(self) -> None:
        threading.Thread(target=self._take, daemon=True).start()
        threading.Thread(target=self._give, daemon=True).start()

    def given(self) -> bool:
        """Whether something came out since this was last asked, and nothing is under way."""
        with self._more:
            answer = self._given and not self._under_way
            if answer:
                self._given = False
            return answer

    def _take(self) -> None:
        while True:
            try:
                chunk = self._source.recv(1 << 18)
            except OSError:
                chunk = b""
            self._seen(len(chunk))
            with self._more:
                self._under_way.append((time.monotonic() + self._delay, chunk))
                self._more.notify()
            if not chunk:
                return

    def _give(self) -> None:
        while True:
            with self._more:
                while not self._under_way:
                    self._more.wait()
                due, chunk = self._under_way[0]
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            with contextlib.suppress(OSError):
                if chunk:
                    self._sink.sendall(chunk)
                else:
                    self._sink.shutdown(socket.SHUT_WR)
            with self._more:
                self._under_way.popleft()
                self._given = True
            if not chunk:
                return
