"""Kept connections to one endpoint: HTTP/1.1 by the standard library, over connections of ours.

A request costs half of what it costs through httpcore, which counts where one process posts
thousands a second. The address that was checked is the one that is connected to.
"""

from __future__ import annotations

import http.client
import select
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from shared.hosts import HostRules
from shared.mailbox.net.connect import Deadline, connect_tcp, resolve
from shared.mailbox.net.tls import start_tls
from shared.mailbox.net.transcript import Transcript

#: Seconds for which a connection that nothing is sent over is kept.
_IDLE_S: Final = 30.0
#: Octets of an answer that are kept, and those that are read so that the connection can be used
#: again; who says more is hung up on.
_KEPT: Final = 1024
_READ: Final = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """`body`: its first 1,024 octets; `fields`: names in lower case."""

    status: int
    fields: Mapping[str, str]
    body: bytes


class Connections:
    """Thread-safe. `timeout_s` is for each read and write, `connect_s` for connecting with TLS."""

    def __init__(
        self,
        address: str,
        context: ssl.SSLContext,
        hosts: HostRules | None,
        *,
        connect_s: float,
        timeout_s: float,
        kept: int,
    ) -> None:
        parts = urlsplit(address)
        self._host = parts.hostname or ""
        self._context = context if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._context else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._hosts = hosts
        self._connect_s = connect_s
        self._timeout_s = timeout_s
        self._most = kept
        self._lock = threading.Lock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []

    def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises OSError, http.client.HTTPException, and PosthouseError where it may not connect.

        A kept connection that the endpoint closed meanwhile is replaced by a new one, once.
        """
        kept = self._take()
        if kept is not None:
            try:
                return self._post(kept, headers, body)
            except (http.client.RemoteDisconnected, ConnectionError):
                pass  # before any word of an answer: it was closed while nothing was said
        return self._post(self._connect(), headers, body)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _post(
        self, connection: http.client.HTTPConnection, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        try:
            connection.request("POST", self._target, body, dict(headers))
            response = connection.getresponse()
            said = response.read(_READ)
            is_whole = response.isclosed()
        except BaseException:
            connection.close()
            raise
        if is_whole and not response.will_close:
            self._give_back(connection)
        else:
            connection.close()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, said[:_KEPT])

    def _take(self) -> http.client.HTTPConnection | None:
        """The connection that was used last, unless the endpoint closed it."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if time.monotonic() - since < _IDLE_S and not _is_readable(connection):
                return connection
            connection.close()

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < self._most:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        deadline = Deadline(self._connect_s)
        allow = self._hosts.at(self._host) if self._hosts is not None else None
        addresses = resolve(self._host, self._port, deadline, allow)
        sock = connect_tcp(self._host, addresses, self._port, deadline, Transcript())
        if self._context is not None:
            try:
                sock = start_tls(sock, self._host, self._context, deadline, Transcript())
            except BaseException:
                sock.close()
                raise
        sock.settimeout(self._timeout_s)
        connection = http.client.HTTPConnection(self._host, self._port)
        if self._context is not None and self._port == 443:
            connection.default_port = 443  # so that Host does not name it
        connection.sock = sock
        return connection


def _is_readable(connection: http.client.HTTPConnection) -> bool:
    """Readable and nothing asked: the endpoint closed it, or says what nobody asked for."""
    if connection.sock is None:
        return True
    waiting = select.poll()
    waiting.register(connection.sock, select.POLLIN)
    return bool(waiting.poll(0))
