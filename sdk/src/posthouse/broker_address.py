"""Addresses of brokers: which kind one is of, and what an address of Sentinels says.

`redis+sentinel://user:password@host:26379,host:26379,host:26379/SERVICE/DATABASE` (rediss+sentinel
for TLS, to the Sentinels too): user and password are Redis' own; the query may have
`sentinel_username` and `sentinel_password`. There is no standard for it; this is the form that
most programs take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
REDIS_SCHEMES: Final = frozenset({"redis", "rediss", *_SENTINEL_SCHEMES})
RABBITMQ_SCHEMES: Final = frozenset({"amqp", "amqps"})
#: What an address may begin with, for people.
SCHEMES: Final = "redis:// rediss:// redis+sentinel:// rediss+sentinel:// amqp:// amqps://"
_PORT: Final = 26379


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """`hosts` are asked where the primary of `service` is. `server_url` is an address of Redis with
    all but the right host; `login` is what the Sentinels themselves ask for."""

    hosts: tuple[tuple[str, int], ...]
    service: str
    database: int
    server_url: str
    login: dict[str, str]


def split_sentinels(url: str) -> SentinelAddress | None:
    """None where the address names a broker itself. Raises ValueError, without the address."""
    parts = urlsplit(url)
    scheme = _SENTINEL_SCHEMES.get(parts.scheme)
    if scheme is None:
        return None
    login, _, places = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not places or (database and not database.isdigit()):
        raise ValueError("an address of Sentinels ends with /SERVICE or /SERVICE/DATABASE")
    query = dict(parse_qsl(parts.query))
    own = {
        name: query.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in query
    }
    rest = f"?{urlencode(query)}" if query else ""
    who = f"{login}@" if login else ""
    return SentinelAddress(
        tuple(_host(place) for place in places.split(",")),
        unquote(service),
        int(database or 0),
        f"{scheme}://{who}sentinel/{database or 0}{rest}",
        own,
    )


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("an address of Sentinels has an empty host")
    return parts.hostname, parts.port or _PORT
