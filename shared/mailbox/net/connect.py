"""From a host name to a connected socket, step by step: dns, tcp, tls.

Each failure says its step and carries a stable code. The address that was checked by `allow_host`
is the one connected to: the name is resolved once.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import os
import queue
import selectors
import socket
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from shared.mailbox.failures import Refused, Unreachable
from shared.mailbox.net.transcript import Transcript

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Says whether connections to this address are allowed; called with every resolved one.
AllowHost = Callable[[Address], bool]
#: Seconds between two attempts ("Connection Attempt Delay", RFC 8305 section 5).
STAGGER: Final = 0.25

# OpenSSL's X509_V_ERR_* numbers (x509_vfy.h).
_EXPIRED = {9, 10}  # not yet valid, expired
_WRONG_HOST = {62, 63, 64}
#: X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA to X509_V_ERR_EXTENSIONS_REQUIRE_VERSION_3: what only
#: VERIFY_X509_STRICT looks at.
_NOT_STRICT = range(80, 94)


class Deadline:
    """How much is left of the time for a connection attempt."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, never quite zero: a socket takes zero for "do not wait"."""
        return max(self._end - time.monotonic(), 0.001)

    def expired(self) -> bool:
        return time.monotonic() >= self._end


def resolve(host: str, port: int, deadline: Deadline, allow: AllowHost | None) -> list[Address]:
    """The addresses of `host` that may be connected to, in the order to try them."""
    try:
        found = [ipaddress.ip_address(host.strip("[]"))]
    except ValueError:
        found = _look_up(host, port, deadline)
    if allow is None:
        return found
    allowed = [address for address in found if allow(address)]
    if not allowed:
        raise Refused(
            f"Connections to {host} are not allowed here.",
            step="dns",
            code="host-forbidden",
            hint="The operator decides which hosts and networks may be connected to.",
        )
    return allowed


def _look_up(host: str, port: int, deadline: Deadline) -> list[Address]:
    # getaddrinfo knows no timeout: it runs aside, and is left alone when it takes too long.
    answer: queue.SimpleQueue[list[Address] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.put(list(dict.fromkeys(_address(str(row[4][0])) for row in rows)))
        except Exception as error:  # handed over to the caller
            answer.put(error)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        result = answer.get(timeout=deadline.left())
    except queue.Empty:
        raise Unreachable(
            f"The name {host} was not resolved within {deadline.seconds:g} s.",
            step="dns",
            code="dns-timeout",
            hint="The name server does not answer; try again later or raise the timeout.",
        ) from None
    if isinstance(result, list) and result:
        return result
    cause = result if isinstance(result, Exception) else None
    temporary = isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_AGAIN
    raise Unreachable(
        f"The host {host} could not be looked up: the name server fails at the moment."
        if temporary
        else f"There is no host named {host}.",
        step="dns",
        code="dns-failed" if temporary else "unknown-host",
        hint="" if temporary else "Check the host for a typing error.",
    ) from cause


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])


def connect_tcp(
    host: str, addresses: Sequence[Address], port: int, deadline: Deadline, log: Transcript
) -> socket.socket:
    """Connects to the first address that answers (RFC 8305, "Happy Eyeballs").

    Attempts begin `STAGGER` seconds after each other, or as soon as the one before has failed, the
    families by turns: an address that swallows packets costs a quarter of a second.
    """
    waiting = deque(by_turns(addresses))
    under_way: dict[socket.socket, Address] = {}
    last: OSError | None = None
    next_start = time.monotonic()
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or under_way:
                now = time.monotonic()
                if waiting and (now >= next_start or not under_way):
                    address = waiting.popleft()
                    next_start = now + STAGGER
                    try:
                        sock = _begin(address, port)
                    except OSError as error:
                        last = _failed(log, address, port, error)
                    else:
                        under_way[sock] = address
                        selector.register(sock, selectors.EVENT_WRITE)
                    continue
                pause = min(deadline.left(), next_start - now) if waiting else deadline.left()
                for key, _ in selector.select(max(pause, 0.0)):
                    sock = _socket_of(key)
                    selector.unregister(sock)
                    address = under_way.pop(sock)
                    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not number:
                        return _connected(sock, address, port, log)
                    sock.close()
                    last = _failed(log, address, port, OSError(number, os.strerror(number)))
                    next_start = time.monotonic()
                if deadline.expired():
                    for address in under_way.values():
                        last = _failed(log, address, port, TimeoutError())
                    break
        finally:
            for sock in under_way:
                sock.close()
    raise _not_connected(f"{host} port {port}", last, deadline)


def by_turns(addresses: Sequence[Address]) -> list[Address]:
    """The addresses in their order, with the families by turns (RFC 8305 section 4)."""
    if not addresses:
        return []
    first = [one for one in addresses if one.version == addresses[0].version]
    second = [one for one in addresses if one.version != addresses[0].version]
    pairs = itertools.zip_longest(first, second)
    return [one for pair in pairs for one in pair if one is not None]


def _begin(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect((str(address), port))
    except BlockingIOError:
        pass
    except BaseException:
        sock.close()
        raise
    return sock


def _socket_of(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj


def _connected(sock: socket.socket, address: Address, port: int, log: Transcript) -> socket.socket:
    sock.setblocking(True)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _keep_alive(sock)
    log.note(f"connected to {address} port {port}")
    return sock


def _failed(log: Transcript, address: Address, port: int, error: OSError) -> OSError:
    log.note(f"{address} port {port}: {error.strerror or error or 'no answer in time'}")
    return error


def _not_connected(where: str, last: OSError | None, deadline: Deadline) -> Unreachable:
    if isinstance(last, TimeoutError):
        failure = Unreachable(
            f"{where} did not answer within {deadline.seconds:g} s.",
            step="tcp",
            code="connect-timeout",
            hint="Check host and port; a firewall may drop the connection.",
        )
    elif isinstance(last, ConnectionRefusedError):
        failure = Unreachable(
            f"{where} refuses connections.",
            step="tcp",
            code="connection-refused",
            hint="Check the port: no server listens there.",
        )
    else:
        failure = Unreachable(
            f"{where} could not be reached: {last.strerror or last if last else 'no address'}.",
            step="tcp",
            code="unreachable",
            hint="Check the network between Posthouse and the mail server.",
        )
    failure.__cause__ = last
    return failure


def _keep_alive(sock: socket.socket) -> None:
    """A session kept open notices within four minutes that the other side is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 120), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@lru_cache(maxsize=256)
def _context(verify: bool, ca_digest: bytes, ca_certificate: str | None) -> ssl.SSLContext:
    # Loading the system's authorities takes milliseconds and a megabyte: one context for all.
    context = ssl.create_default_context(cadata=ca_certificate)
    set_strictness(context, given=bool(ca_certificate))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def set_strictness(context: ssl.SSLContext, *, given: bool) -> None:
    """The same checks of certificates on every Python. `given`: the CA was given by hand.

    From 3.13 on, Python's default context refuses certificates that break the letter of RFC 5280
    (VERIFY_X509_STRICT): CAs without key usage, certificates without key identifiers, as many a
    private CA makes them. Authorities of the system are held to it on every version; whoever gives
    a CA by hand knows it, and its certificates are taken as OpenSSL takes them otherwise.
    """
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if given:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    else:
        context.verify_flags |= ssl.VERIFY_X509_STRICT


def tls_context(
    verify: bool, ca_certificate: str | None, client_certificate: str | None = None
) -> ssl.SSLContext:
    """A context that trusts the system's authorities, or only the private one that is given.

    `client_certificate` is shown to servers that ask for one.
    """
    digest = hashlib.sha256((ca_certificate or "").encode()).digest()
    try:
        if client_certificate:
            fresh = _context.__wrapped__(verify, digest, ca_certificate)
            return identified(fresh, client_certificate)
        return _context(verify, digest, ca_certificate)
    except (ssl.SSLError, ValueError) as error:
        raise Refused(
            "The private CA certificate of this connection cannot be read.",
            step="tls",
            code="ca-unreadable",
            hint="Give the CA's certificate in PEM form.",
        ) from error


def identified(context: ssl.SSLContext, client_certificate: str) -> ssl.SSLContext:
    """Loads a client certificate (PEM with its private key) into a context of one's own.

    OpenSSL's binding takes files only: one in memory where the system has that, else one that
    nobody else may read and that is gone at once.
    """
    try:
        if hasattr(os, "memfd_create"):
            number = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
            with open(number, "wb") as file:
                file.write(client_certificate.encode())
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{number}")
        else:
            with tempfile.NamedTemporaryFile() as kept:
                kept.write(client_certificate.encode())
                kept.flush()
                context.load_cert_chain(kept.name)
    except (ssl.SSLError, ValueError) as error:
        raise Refused(
            "The client certificate of this connection cannot be used.",
            step="tls",
            code="client-certificate-unreadable",
            hint="Give certificate and private key that belong together, in PEM form.",
        ) from error
    return context


def client_certificate_refused(host: str, error: ssl.SSLError, *, given: bool) -> Refused | None:
    """The error where a server ended TLS over the client's certificate, else None.

    The words are OpenSSL's for the alerts of RFC 8446 section 6.2 (certificate_required,
    bad_certificate, unknown_ca, certificate_expired …).
    """
    reason = str(error.reason or "")
    if "ALERT" not in reason or not ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return None
    return Refused(
        f"{host} does not take the client certificate: {reason.replace('_', ' ').lower()}."
        if given
        else f"{host} asks for a client certificate, and this connection has none.",
        step="tls",
        code="client-certificate-refused",
        hint="Those who run the server say which authority must have signed it, and until when it "
        "must be valid.",
    )


_BROKEN_STARTTLS = (
    "The server offers STARTTLS and cannot do it: those who run it must mend its certificate or "
    "key. Until then try TLS on its own port."
)


def start_tls(
    sock: socket.socket,
    host: str,
    context: ssl.SSLContext,
    deadline: Deadline,
    log: Transcript,
    *,
    agreed: bool = False,
    shown: bool = False,
) -> ssl.SSLSocket:
    """TLS over a connected socket, with the server's certificate checked for `host`.

    `agreed`: the server has just said yes to STARTTLS. `shown`: `context` has a client certificate.
    """
    sock.settimeout(deadline.left())
    name = host.strip("[]")
    try:
        wrapped = context.wrap_socket(sock, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        raise _certificate_error(host, error) from error
    except TimeoutError as error:
        raise Unreachable(
            f"{host} did not finish the TLS handshake within {deadline.seconds:g} s.",
            step="tls",
            code="tls-failed",
            hint=_BROKEN_STARTTLS
            if agreed
            else "Perhaps this port does not start with TLS: try STARTTLS, or another port.",
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, ssl.SSLError):
            refused = client_certificate_refused(host, error, given=shown)
            if refused is not None:
                raise refused from error
        plain = isinstance(error, ssl.SSLError) and error.reason in (
            "WRONG_VERSION_NUMBER",
            "RECORD_LAYER_FAILURE",
        )
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise Unreachable(
            f"{host} agreed to STARTTLS, and then TLS failed: {reason}."
            if agreed
            else f"TLS with {host} failed: {reason}.",
            step="tls",
            code="tls-failed",
            hint=_BROKEN_STARTTLS
            if agreed and plain
            else "This port does not start with TLS: try STARTTLS, or another port."
            if plain
            else "The server and Posthouse have no TLS version or cipher in common, or it is down.",
        ) from error
    cipher = wrapped.cipher()
    log.note(f"TLS: {wrapped.version()}, {cipher[0] if cipher else '?'}")
    return wrapped


def _certificate_error(host: str, error: ssl.SSLCertVerificationError) -> Unreachable | Refused:
    reason = error.verify_message.rstrip(".")
    if error.verify_code in _EXPIRED:
        # Heals as soon as the server gets a new one, so this is tried again.
        return Unreachable(
            f"The certificate of {host} is not valid at this time: {reason}.",
            step="tls",
            code="certificate-expired",
            hint="Those who run the server must renew its certificate.",
        )
    if error.verify_code in _WRONG_HOST:
        return Refused(
            f"The certificate of the server is not for {host}: {reason}.",
            step="tls",
            code="certificate-wrong-host",
            hint="Use the host name that the certificate is made for.",
        )
    if error.verify_code in _NOT_STRICT:
        return Refused(
            f"A certificate of {host} breaks the rules for certificates: {reason}.",
            step="tls",
            code="certificate-untrusted",
            hint="The private CA makes certificates without an extension that RFC 5280 requires "
            f"({reason}): renew them with it, or give the CA's certificate in the connection, "
            "which then takes them as they are.",
        )
    return Refused(
        f"The certificate of {host} is not trusted: {reason}.",
        step="tls",
        code="certificate-untrusted",
        hint="If the server has a private CA, give the CA's certificate in the connection.",
    )
