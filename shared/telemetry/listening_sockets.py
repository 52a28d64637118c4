"""Sockets that services listen on: IPv4, IPv6, or both at once."""

from __future__ import annotations

import socket


def listening_socket(host: str, port: int, *, backlog: int = 128) -> socket.socket:
    """Listens on `host`; `::` and an empty host stand for every address of both families, and for
    those of IPv4 where the machine has no IPv6. `port` 0 takes any free one. Raises OSError."""
    if host in ("", "::"):
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog
            )
        host = "0.0.0.0"  # noqa: S104 (asked for)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog)
