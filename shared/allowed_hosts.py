"""Which mail servers may be contacted: rules over names and addresses.

Without rules Posthouse would lend its place in the network to anyone who may test a connection.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.errors import InvalidInput
from shared.settings import INSTANCE_SECRETS, Settings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Networks that are not of the internet: this machine, "this host", private use (RFC 1918, RFC
#: 4193), shared address space (RFC 6598), protocols (RFC 6890), benchmarks (RFC 2544), what was
#: reserved and is used inside of some clouds (RFC 1112), groups of hosts, SRv6 (RFC 9602).
PRIVATE: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/3",
        "::/127",
        "5f00::/16",
        "fc00::/7",
        "fec0::/10",
        "ff00::/8",
    )
)
#: IPv6 networks whose last four octets are an IPv4 address: IPv4-compatible (RFC 4291 section
#: 2.5.5.1), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
_LAST_FOUR_OCTETS: Final = tuple(
    ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
#: NAT64 within one network: its translators choose a prefix of 48, 56, 64 or 96 bits (RFC 8215).
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
#: The middle of an interface identifier that ends in an IPv4 address (ISATAP, RFC 5214).
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


@dataclass(frozen=True, slots=True)
class HostRules:
    """Names (`*.example.org`) and networks (`10.0.0.0/8`) that are allowed or denied.

    What is denied is refused whatever is allowed. Where something is allowed, everything else is
    refused: a host passes by its name or by its address. Where nothing is, `private` says whether
    the networks that are not of the internet are open.
    """

    allowed_names: tuple[str, ...] = ()
    allowed_networks: tuple[Network, ...] = ()
    denied_names: tuple[str, ...] = ()
    denied_networks: tuple[Network, ...] = ()
    private: bool = True

    @classmethod
    def parse(
        cls, allowed: Sequence[str], denied: Sequence[str], *, private: bool = True
    ) -> HostRules:
        """Raises InvalidInput on an entry that is neither a network nor a name."""
        allowed_names, allowed_networks = _split(allowed, "allowed_hosts")
        denied_names, denied_networks = _split(denied, "denied_hosts")
        return cls(allowed_names, allowed_networks, denied_names, denied_networks, private)

    @classmethod
    def of(cls, settings: Settings) -> HostRules:
        """What a service is set to; nobody opens the addresses of instances' secrets."""
        denied = (*INSTANCE_SECRETS, *settings.denied_hosts)
        return cls.parse(settings.allowed_hosts, denied, private=settings.private_networks)

    def at(self, host: str) -> Callable[[Address], bool]:
        """`allows` for one host, as `shared.mailbox.open` asks it."""
        return lambda address: self.allows(host, address)

    def allows(self, host: str, address: Address) -> bool:
        """Whether `host` may be contacted at `address`, one of those that it resolves to."""
        name = host.strip("[]").rstrip(".").lower()
        if self.denies(name, address):
            return False
        if not (self.allowed_names or self.allowed_networks):
            return self.private or not _within(address, PRIVATE)
        return _matches(name, self.allowed_names) or _only_within(address, self.allowed_networks)

    def denies(self, host: str, address: Address) -> bool:
        """Whether `host` is refused at `address` whatever else is allowed."""
        name = host.strip("[]").rstrip(".").lower()
        return _matches(name, self.denied_names) or _within(address, self.denied_networks)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether it may lead there, by any reading of the address."""
    return any(form in network for form in _forms(address) for network in networks)


def _only_within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether it leads nowhere else: named as it is, or by everything that it may lead to."""
    itself, *inner = _forms(address)
    if any(itself in network for network in networks):
        return True
    return bool(inner) and all(any(one in network for network in networks) for one in inner)


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


def _forms(address: Address) -> tuple[Address, ...]:
    """The address, and each IPv4 address that an IPv6 one leads to (mapped, NAT64 …)."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    whole = int(address)
    inner = [one for one in (address.ipv4_mapped, address.sixtofour) if one is not None]
    inner += address.teredo or ()  # the server that is asked for a way, and who is reached
    numbers: list[int] = []
    if any(address in network for network in _LAST_FOUR_OCTETS):
        numbers.append(whole)
    if address in _LOCAL_NAT64:
        # Octet 8 is left out wherever the prefix ends (RFC 6052 section 2.2).
        before, behind = whole >> 64, whole & (1 << 56) - 1
        joined = before << 56 | behind
        numbers += [whole, *(joined >> 120 - prefix - 32 for prefix in (48, 56, 64))]
    if whole >> 32 & 0xFFFF_FFFF in _ISATAP:
        numbers.append(whole)
    return (address, *inner, *(ipaddress.IPv4Address(one & 0xFFFF_FFFF) for one in numbers))
