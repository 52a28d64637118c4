"""The connection to a NATS server: at allowed addresses, and inside TLS where that was asked for.

nats-py resolves names itself, connects to whatever servers a cluster names, stays in plain text
where a server says that it wants no TLS, and keeps whatever a server says until it is whole; all
four end here.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final
from urllib.parse import ParseResult

from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv
from nats.aio.transport import TcpTransport
from nats.errors import SecureConnRequiredError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from shared.allowed_hosts import HostRules
from shared.mailbox.net.connect import Deadline, connect_tcp, resolve
from shared.mailbox.net.transcript import Transcript

_DEFAULT_PORT: Final = 4222
#: Octets that are kept of a message, and of a line before its end. Those of a server have 4 KiB and
#: a message is at most what it takes (max_payload, 1 MiB as it comes, 64 MiB at the most).
_MESSAGE: Final = 64 << 20
_LINE: Final = 1 << 20


class GuardedTransport(TcpTransport):
    """nats-py's transport over a socket of ours."""

    def __init__(self, hosts: HostRules | None, parser: Parser) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._hosts = hosts
        self._parser = parser
        self._needs_tls = False
        self._is_secure = False

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        """Raises PosthouseError where it may not connect, or cannot."""
        host, port = uri.hostname or "", uri.port or _DEFAULT_PORT
        allow = self._hosts.at(host) if self._hosts is not None else None
        deadline = Deadline(connect_timeout)
        self._needs_tls, self._is_secure = uri.scheme == "tls", False
        addresses = await asyncio.to_thread(resolve, host, port, deadline, allow)
        sock, _ = await asyncio.to_thread(
            connect_tcp, host, addresses, port, deadline, Transcript()
        )
        reader, writer = await asyncio.open_connection(sock=sock, limit=buffer_size)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        self._is_secure = True

    async def read(self, buffer_size: int) -> bytes:
        """Raises OSError where a line or a message has no end."""
        longest = _LINE if self._parser.state == AWAITING_CONTROL_LINE else _MESSAGE
        if len(self._parser.buf) > longest:
            raise OSError("what the NATS server says has no end")
        octets: bytes = await super().read(buffer_size)
        return octets

    def write(self, payload: bytes) -> None:
        """Raises SecureConnRequiredError before anything is said in plain text."""
        self._check()
        super().write(payload)  # type: ignore[no-untyped-call]

    def writelines(self, payload: list[bytes]) -> None:
        """As `write`."""
        self._check()
        super().writelines(payload)  # type: ignore[no-untyped-call]

    def _check(self) -> None:
        if self._needs_tls and not self._is_secure:
            raise SecureConnRequiredError


class GuardedClient(Client):
    """nats-py's client, over `GuardedTransport`."""

    def __init__(self, hosts: HostRules | None) -> None:
        super().__init__()
        self._hosts = hosts

    async def _connect_to_server(self, s: Srv) -> None:
        transport = GuardedTransport(self._hosts, self._ps)
        self._transport = transport
        s.last_attempt = time.monotonic()
        try:
            await transport.connect(s.uri, DEFAULT_BUFFER_SIZE, self.options["connect_timeout"])
        except Exception:
            # Else it would be tried for ever, in here.
            self._server_pool.clear()
            raise
