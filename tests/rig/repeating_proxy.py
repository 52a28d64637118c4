"""A TCP proxy before a server that answers everything twice: HTTP, NATS or Kafka."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable

#: The octets of a whole message at the beginning of what came, 0 where it is not whole yet; and
#: whether it is an answer.
Frame = Callable[[bytes], tuple[int, bool]]

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_MESSAGE = re.compile(rb"MSG [^\r]* (\d+)\r\n|HMSG [^\r]* (\d+)\r\n")


def http_answer(data: bytes) -> tuple[int, bool]:
    head = data.find(b"\r\n\r\n") + 4
    if head < 4:
        return 0, False
    found = _LENGTH.search(data[:head])
    whole = head + (int(found[1]) if found else 0)
    return (whole if len(data) >= whole else 0), True


def kafka_answer(data: bytes) -> tuple[int, bool]:
    whole = 4 + int.from_bytes(data[:4]) if len(data) >= 4 else 0
    return (whole if len(data) >= whole else 0), True


def nats_answer(data: bytes) -> tuple[int, bool]:
    line = data.find(b"\r\n") + 2
    if line < 2:
        return 0, False
    found = _MESSAGE.match(data)
    whole = line + (int(found[1] or found[2]) + 2 if found else 0)
    return (whole if len(data) >= whole else 0), found is not None


class DoublingProxy:
    """Before 127.0.0.1:`target`, which may be set later. `doubled` counts the answers."""

    def __init__(self, frame: Frame) -> None:
        self.target = 0
        self.doubled = 0
        self._frame = frame
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                if self._listener.fileno() < 0:
                    return
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._plain, args=(client, server), daemon=True).start()
            threading.Thread(target=self._twice, args=(server, client), daemon=True).start()

    @staticmethod
    def _plain(here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError), here, there:
            while data := here.recv(65_536):
                there.sendall(data)

    def _twice(self, here: socket.socket, there: socket.socket) -> None:
        left = b""
        with contextlib.suppress(OSError), here, there:
            while data := here.recv(65_536):
                left += data
                while (whole := self._frame(left))[0]:
                    message, left = left[: whole[0]], left[whole[0] :]
                    self.doubled += whole[1]
                    there.sendall(message * (2 if whole[1] else 1))
