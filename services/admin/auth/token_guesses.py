"""Few wrong tokens a minute: who guesses is slowed down where tokens are looked up."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict, deque
from typing import Final, TypeVar

from shared.errors import TryAgain

WRONG_TOKENS: Final = 30
WINDOW_SECONDS: Final = 60.0
_REMEMBERED: Final = 10_000

K = TypeVar("K")
V = TypeVar("V")


class TooManyAttempts(TryAgain):
    """Logins under this name, or logins and tokens from this network or device, are refused for a
    while."""

    code = "too-many-attempts"


class TokenGuesses:
    """Slows down who guesses tokens: after `WRONG_TOKENS` wrong ones within a minute an address is
    refused, but for tokens that were accepted before. Counted per process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def refuses(self, address: str, digest: bytes) -> bool:
        """Whether a token with this SHA-256 digest is not even looked up."""
        with self._lock:
            times = self._wrong.get(network_of(address))
            if digest in self._good or not times:
                return False
            while times and times[0] < time.monotonic() - WINDOW_SECONDS:
                times.popleft()
            return len(times) >= WRONG_TOKENS

    def refuse(self, address: str, digest: bytes) -> None:
        """Raises TooManyAttempts where a token with this digest is not even looked up."""
        if self.refuses(address, digest):
            raise TooManyAttempts(
                "Too many wrong tokens from this address.",
                hint="Wait a minute, then try again with a valid one.",
                retry_after=WINDOW_SECONDS,
            )

    def note(self, address: str, digest: bytes, *, wrong: bool) -> None:
        """What became of a token that was looked up."""
        with self._lock:
            if not wrong:
                _remember(self._good, digest, None)
                return
            self._good.pop(digest, None)
            network = network_of(address)
            times = self._wrong.get(network) or deque(maxlen=WRONG_TOKENS)
            times.append(time.monotonic())
            _remember(self._wrong, network, times)


def network_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that an IPv6 host chooses from."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


def _remember(memory: OrderedDict[K, V], key: K, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
