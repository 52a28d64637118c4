"""Which mail servers may be contacted: rules over names and addresses.

Without rules Posthouse would lend its place in the network to anyone who may test a connection.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.errors import InvalidInput

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class HostRules:
    """Names (`*.example.org`) and networks (`10.0.0.0/8`) that are allowed or denied.

    What is denied is refused whatever is allowed. Where something is allowed, everything else is
    refused: a host passes by its name or by its address.
    """

    allowed_names: tuple[str, ...] = ()
    allowed_networks: tuple[Network, ...] = ()
    denied_names: tuple[str, ...] = ()
    denied_networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, allowed: Sequence[str], denied: Sequence[str]) -> HostRules:
        """Raises InvalidInput on an entry that is neither a network nor a name."""
        allowed_names, allowed_networks = _split(allowed, "allowed_hosts")
        denied_names, denied_networks = _split(denied, "denied_hosts")
        return cls(allowed_names, allowed_networks, denied_names, denied_networks)

    def at(self, host: str) -> Callable[[Address], bool]:
        """`allows` for one host, as `shared.mailbox.open` asks it."""
        return lambda address: self.allows(host, address)

    def allows(self, host: str, address: Address) -> bool:
        """Whether `host` may be contacted at `address`, one of those that it resolves to."""
        name = host.strip("[]").rstrip(".").lower()
        plain = _plain(address)
        if _matches(name, self.denied_names) or any(plain in n for n in self.denied_networks):
            return False
        if not (self.allowed_names or self.allowed_networks):
            return True
        return _matches(name, self.allowed_names) or any(plain in n for n in self.allowed_networks)


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _split(entries: Sequence[str], setting: str) -> tuple[tuple[str, ...], tuple[Network, ...]]:
    names: list[str] = []
    networks: list[Network] = []
    for entry in entries:
        text = entry.strip().lower()
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            if not text or "/" in text or any(c.isspace() for c in text):
                raise InvalidInput(
                    f"{entry!r} is neither a network (10.0.0.0/8) nor a name (*.example.org).",
                    field=setting,
                ) from None
            names.append(text.rstrip("."))
    return tuple(names), tuple(networks)


def _plain(address: Address) -> Address:
    """An IPv4 address in IPv6 clothes (RFC 4291 section 2.5.5.2) is the IPv4 address."""
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
