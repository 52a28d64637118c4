"""From a host name to a connected socket, step by step: dns, tcp. TLS is in `tls`.

Each failure says its step and carries a stable code. The address that was checked by `allow_host`
is the one connected to: the name is resolved once.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from shared.mailbox import interrupting
from shared.mailbox.failures import Refused, Unreachable
from shared.mailbox.net.transcript import Transcript

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Says whether connections to this address are allowed; called with every resolved one.
AllowHost = Callable[[Address], bool]
#: Seconds between two attempts ("Connection Attempt Delay", RFC 8305 section 5).
STAGGER: Final = 0.25


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

    def resolve() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.put(list(dict.fromkeys(_address(str(row[4][0])) for row in rows)))
        except Exception as error:  # handed over to the caller
            answer.put(error)

    threading.Thread(target=resolve, name=f"resolve {host}", daemon=True).start()
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
) -> tuple[socket.socket, Address]:
    """Connects to the first address that answers (RFC 8305, "Happy Eyeballs"), and says which. The
    socket itself does not know it any more once the server has reset the connection.

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
                        sock = _start_connecting(address, port)
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
                        return _connected(sock, address, port, log), address
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


def _start_connecting(address: Address, port: int) -> socket.socket:
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
    interrupting.watch(sock)
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
