"""A TCP proxy that misbehaves on demand: cuts, hangs, slows, drops in mid-literal, says NO."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import threading
import time
from typing import Literal

_OK = re.compile(rb"^([A-Za-z]+\d+) OK(?! .*(?:[Ll]ogged in|LOGIN))", re.MULTILINE)

Ending = Literal["close", "reset", "command"]


class Proxy:
    """Forwards one loopback port to another. Thread-safe.

    `mood` is what happens to traffic from now on:
    `pass`; `hang` (nothing is forwarded, connections stay); `refuse` (new connections end at
    once); `slow` (ten milliseconds more each way); `cut` (a connection ends after some kilobytes
    from the server, in mid-literal as like as not); `no` / `bad` (now and then the server's tagged
    OK becomes NO or BAD).
    `most`: connections beyond so many end without a word, as Courier's do: `ending` says whether
    they are closed at once, reset at once, or closed at the client's first command behind a
    `greeting` of the proxy's own.
    """

    def __init__(
        self,
        target: int,
        seed: int,
        most: int | None = None,
        ending: Ending = "close",
        greeting: bytes = b"* OK ready\r\n",
    ) -> None:
        self.target = target
        self.most = most
        self.ending = ending
        self.greeting = greeting
        self.mood = "pass"
        self._rng = random.Random(seed)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        #: Connections that were forwarded.
        self.taken = 0
        #: Connections that were one too many.
        self.turned_away = 0
        #: The most connections that were forwarded at one moment.
        self.highest = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Cuts every connection that is open now."""
        with self._lock:
            victims = list(self._open)
        for victim in victims:
            with contextlib.suppress(OSError):
                victim.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                full = self.most is not None and len(self._open) // 2 >= self.most
            if self.mood == "refuse" or full:
                self.turned_away += full
                self._turn_away(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.taken += 1
            with self._lock:
                self._open |= {client, server}
                self.highest = max(self.highest, len(self._open) // 2)
            for source, sink, from_server in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, sink, from_server), daemon=True
                ).start()

    def _turn_away(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.ending == "reset":  # SO_LINGER with no time: RST instead of FIN
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif self.ending == "command":
                client.settimeout(10)
                client.sendall(self.greeting)
                client.recv(4096)

    def _pump(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        left = self._rng.randrange(1, 40_000)
        try:
            while chunk := source.recv(65_536):
                while self.mood == "hang":
                    time.sleep(0.05)
                if self.mood == "slow":
                    time.sleep(0.01)
                if from_server and self.mood == "cut":
                    if len(chunk) >= left:
                        sink.sendall(chunk[:left])
                        break
                    left -= len(chunk)
                if from_server and self.mood in ("no", "bad") and self._rng.random() < 0.2:
                    word = self.mood.upper().encode()
                    chunk = _OK.sub(rb"\1 " + word, chunk, count=1)
                sink.sendall(chunk)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open -= {source, sink}
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            source.close()
