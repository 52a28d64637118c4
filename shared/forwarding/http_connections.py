"""Kept connections to one endpoint, made to the very addresses that were checked."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from shared.allowed_hosts import HostRules
from shared.forwarding.http_exchange import Exchange, HttpAnswer, NoAnswer
from shared.mailbox.net.connect import Deadline, connect_tcp, resolve
from shared.mailbox.net.tls import start_tls
from shared.mailbox.net.transcript import Transcript

#: Seconds for which a connection that nothing is sent over is kept.
_IDLE_S: Final = 30.0


class Connections:
    """Thread-safe. `timeout_s` is for each request and its answer, `connect_s` for connecting with
    TLS."""

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
        usual = 443 if self._context else 80
        self._port = parts.port or usual
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self._shown = shown if self._port == usual else f"{shown}:{self._port}"
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._hosts = hosts
        self._connect_s = connect_s
        self._timeout_s = timeout_s
        self._most = kept
        self._lock = threading.Lock()
        self._idle: list[tuple[Exchange, float]] = []

    def post(self, fields: Mapping[str, str], body: bytes) -> HttpAnswer:
        """Raises NoAnswer, OSError, ValueError, and PosthouseError where it may not connect.

        A kept connection that the endpoint closed meanwhile is replaced by a new one, once.
        """
        kept = self._take()
        if kept is not None:
            try:
                return self._post(kept, fields, body)
            except NoAnswer as none:
                if not none.was_silent:
                    raise
        return self._post(self._connect(), fields, body)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for exchange, _ in idle:
            exchange.close()

    def _post(self, exchange: Exchange, fields: Mapping[str, str], body: bytes) -> HttpAnswer:
        try:
            return exchange.post(fields, body)
        finally:
            self._give_back(exchange)

    def _take(self) -> Exchange | None:
        """The connection that was used last, unless the endpoint closed it."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                exchange, since = self._idle.pop()
            if time.monotonic() - since < _IDLE_S and not exchange.has_ended():
                return exchange
            exchange.close()

    def _give_back(self, exchange: Exchange) -> None:
        if exchange.is_reusable:
            with self._lock:
                if len(self._idle) < self._most:
                    self._idle.append((exchange, time.monotonic()))
                    return
        exchange.close()

    def _connect(self) -> Exchange:
        deadline = Deadline(self._connect_s)
        allow = self._hosts.at(self._host) if self._hosts is not None else None
        addresses = resolve(self._host, self._port, deadline, allow)
        sock, _ = connect_tcp(self._host, addresses, self._port, deadline, Transcript())
        if self._context is not None:
            try:
                sock = start_tls(sock, self._host, self._context, deadline, Transcript())
            except BaseException:
                sock.close()
                raise
        return Exchange(sock, self._shown, self._target, self._timeout_s)
