"""Opens the source that the address of a broker says."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from posthouse.broker_address import RABBITMQ_SCHEMES, REDIS_SCHEMES, SCHEMES
from posthouse.source import Source

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")


def open_source(url: str, handler: str, *, prefetch: int, stale_after_s: float) -> Source:
    """Nothing is connected yet. Raises ValueError on an address or a name it cannot use, and
    ImportError, saying what to install, where the broker's library is missing."""
    if not _NAME.fullmatch(handler):
        raise ValueError(f"{handler!r} is no handler's name: a-z, 0-9 and -, at most 64")
    scheme = urlsplit(url).scheme
    if scheme in REDIS_SCHEMES:
        try:
            from posthouse.redis_source import RedisSource
        except ModuleNotFoundError as error:
            raise ImportError("Redis needs: pip install 'posthouse[redis]'") from error
        return RedisSource(url, handler, stale_after_s=stale_after_s)
    if scheme in RABBITMQ_SCHEMES:
        try:
            from posthouse.rabbitmq_source import RabbitmqSource
        except ModuleNotFoundError as error:
            raise ImportError("RabbitMQ needs: pip install 'posthouse[rabbitmq]'") from error
        return RabbitmqSource(url, handler, prefetch=prefetch)
    raise ValueError(f"the address must begin with one of {SCHEMES}")
