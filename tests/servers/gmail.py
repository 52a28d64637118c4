"""Gmail's extensions (X-GM-EXT-1) in front of a real Dovecot.

    with GmailFront(dovecot.imap_port) as gmail:
        gmail.port          # plain text, or TLS where an identity is given

Source: "IMAP extensions", developers.google.com/workspace/gmail/imap/imap-extensions. X-GM-MSGID is
Dovecot's X-GUID as a number of 64 bits: like Gmail's it stays the same when a mail is copied to
another folder, which is what a label is here. All mails are of one thread.
Nothing else is changed on the way.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.mail_server import Identity
from tests.servers.oauth_dovecot import oauth_dovecot_server
from tests.servers.oidc import OidcServer

_LITERAL = re.compile(rb"\{(\d+)\+?\}\r\n\Z")
_GMAILS_ITEMS = b"X-GM-MSGID X-GM-THRID X-GM-LABELS"
#: Of every mail: one of Gmail's own, one with a word that FETCH has too, one in modified UTF-7.
LABELS = rb'\Important "UID 7 (\"old\")" "B&APw-cher"'
THREAD = 1266894439832287888
_GUID = re.compile(rb"X-GUID ([^ ()]+)")


class GmailFront(socketserver.ThreadingTCPServer):
    """Forwards one loopback port to a Dovecot's. Use as a context manager."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, target: int, identity: Identity | None = None) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.port = int(self.server_address[1])
        self._target = target
        self._tls: ssl.SSLContext | None = None
        if identity is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(identity.certificate, identity.key)

    def __enter__(self) -> GmailFront:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """One session, in a thread of its own."""
        with contextlib.suppress(OSError):
            if self._tls is not None:
                request = self._tls.wrap_socket(request, server_side=True)
            with request, socket.create_connection(("127.0.0.1", self._target)) as server:
                for end in (request, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pump(request, server)

    @staticmethod
    def _pump(client: socket.socket, server: socket.socket) -> None:
        """One thread for both ways: an SSL socket is no place for two."""
        ways = {
            client: (_Lines(lambda line: line.replace(_GMAILS_ITEMS, b"X-GUID")), server),
            server: (_Lines(_as_gmail), client),
        }
        while True:
            held = isinstance(client, ssl.SSLSocket) and client.pending() > 0
            ready = [client] if held else select.select([client, server], [], [])[0]
            for source in ready:
                chunk = source.recv(65_536)
                if not chunk:
                    return
                lines, sink = ways[source]
                sink.sendall(lines.feed(chunk))


class _Lines:
    """Rewrites whole lines; literals pass as they are."""

    def __init__(self, rewrite: Callable[[bytes], bytes]) -> None:
        self._rewrite = rewrite
        self._held = b""
        self._literal = 0

    def feed(self, chunk: bytes) -> bytes:
        out = bytearray()
        self._held += chunk
        while self._held:
            if self._literal:
                part, self._held = self._held[: self._literal], self._held[self._literal :]
                self._literal -= len(part)
                out += part
                continue
            line, ending, rest = self._held.partition(b"\r\n")
            if not ending:
                break
            self._held = rest
            literal = _LITERAL.search(line + ending)
            self._literal = int(literal[1]) if literal else 0
            out += self._rewrite(line) + ending
        return bytes(out)


def _as_gmail(line: bytes) -> bytes:
    line = line.replace(b"CAPABILITY IMAP4rev1", b"CAPABILITY IMAP4rev1 X-GM-EXT-1")
    return _GUID.sub(
        lambda found: (
            b"X-GM-THRID %d X-GM-MSGID %d X-GM-LABELS (%s)" % (THREAD, _number(found[1]), LABELS)
        ),
        line,
    )


def _number(guid: bytes) -> int:
    return int.from_bytes(hashlib.sha256(guid).digest()[:8], "big")


@pytest.fixture(scope="session")
def gmail_dovecot() -> Iterator[Dovecot]:
    """What is behind Gmail: its trash has the name that Gmail gives it in German."""
    with Dovecot(storage="sdbox", trash='"[Gmail]/Papierkorb"') as server:
        yield server


@pytest.fixture(scope="session")
def gmail(gmail_dovecot: Dovecot) -> Iterator[GmailFront]:
    """Gmail's extensions in plain text, with passwords."""
    with GmailFront(gmail_dovecot.imap_port) as front:
        yield front


@pytest.fixture(scope="session")
def oauth_gmail(authority: Authority, oidc: OidcServer) -> Iterator[tuple[GmailFront, Dovecot]]:
    """Gmail's extensions over TLS, with access tokens; and the Dovecot behind."""
    with oauth_dovecot_server(authority, oidc, "xoauth2") as server:
        identity = authority.issue("localhost", "127.0.0.1")
        with GmailFront(server.imap_port, identity) as front:
            yield front, server
