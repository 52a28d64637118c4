"""A mail server that accepts connections and never says a word."""

from __future__ import annotations

import contextlib
import socket
import threading


class Silence:
    """Use as a context manager; `port` 0 takes any free one. `held`: how many wait for it."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def held(self) -> int:
        """Connections that were ever accepted."""
        return len(self._held)

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._held:
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._held.append(self._listener.accept()[0])
