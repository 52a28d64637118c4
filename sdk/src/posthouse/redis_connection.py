"""Connections to a Redis or Valkey that may fail over, behind one address or named by Sentinels.

A failover leaves the old connections open: they go on to a server that has become a read-only
replica, and answers to every write that it is one. What says so is not at fault for a moment, it is
the wrong server; whoever connects anew reaches the right one. With Sentinels each new connection
asks them where the primary is.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.backoff
import redis.connection
import redis.exceptions
import redis.retry
import redis.sentinel

from posthouse.broker_address import SentinelAddress, split_sentinels

#: Answers of a server that is (no longer) the one to write to, as the library classes them
#: (MASTERDOWN is a CLUSTERDOWN there).
_WRONG_SERVER = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.BusyLoadingError,
)
#: Those that it does not class: words of their own, and what Redis 6 says out of a script.
_WRONG_SERVER_SAYS = re.compile(r"READONLY|NOREPLICAS|instance state changed")
#: Seconds that one of several Sentinels may take to accept a connection, and to answer.
_ASK_S = 2.0
_lock = threading.Lock()
#: How often each address led to a wrong server: connections made before are not used again.
_turned: defaultdict[tuple[str, int], int] = defaultdict(int)


def is_wrong_server(error: BaseException) -> bool:
    """Whether this answer of a server means that another one has to be asked."""
    return isinstance(error, _WRONG_SERVER) or (
        isinstance(error, redis.exceptions.ResponseError)
        and _WRONG_SERVER_SAYS.search(str(error)) is not None
    )


class _Moving:
    """Connects anew before it asks again, once any connection to its address met a wrong server."""

    host: str
    port: int
    _made_at = 0

    def _connect(self) -> Any:
        """Opens the socket."""
        self._made_at = _turned[self.host, self.port]
        return super()._connect()  # type: ignore[misc]

    def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
        if self._made_at != _turned[self.host, self.port]:
            self.disconnect()  # type: ignore[attr-defined]
        return super().send_packed_command(command, check_health)  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        # The answers of a pipeline that follow are still read: only the next question moves.
        try:
            answer = super().read_response(*args, **options)  # type: ignore[misc]
        except redis.exceptions.RedisError as error:
            self._note(error)
            raise
        self._note(answer)
        return answer

    def _note(self, answer: Any) -> None:
        if isinstance(answer, Exception) and is_wrong_server(answer):
            with _lock:
                if self._made_at == _turned[self.host, self.port]:
                    _turned[self.host, self.port] += 1


class MovingConnection(_Moving, redis.Connection):
    """Over TCP."""


class MovingTlsConnection(_Moving, redis.SSLConnection):
    """Over TLS."""


class SentinelConnection(_Moving, redis.sentinel.SentinelManagedConnection):
    """Over TCP, to the primary that the Sentinels name."""


class SentinelTlsConnection(_Moving, redis.sentinel.SentinelManagedSSLConnection):
    """Over TLS, to the primary that the Sentinels name."""


class _Sentinels(redis.sentinel.Sentinel):
    """Says shortly why there is no primary; the library shows its clients with all options."""

    def discover_master(self, service_name: str) -> Any:
        """Host and port. Raises MasterNotFoundError, or AuthenticationError of a Sentinel."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except redis.sentinel.MasterNotFoundError:
            why = ""
        try:
            self.sentinels[0].ping()
        except redis.exceptions.AuthenticationError:
            raise
        except redis.exceptions.RedisError as error:
            why = f": {error}"
        raise redis.sentinel.MasterNotFoundError(
            f"no Sentinel names a primary of {service_name!r}{why}"
        )


def open_moving_client(url: str, **options: Any) -> Any:
    """`redis.Redis.from_url` with such connections. Raises ValueError as that does."""
    sentinels = split_sentinels(url)
    if sentinels is not None:
        return _open_by_sentinels(sentinels, options)
    scheme = urlsplit(url).scheme
    kind = MovingTlsConnection if scheme == "rediss" else MovingConnection
    return redis.Redis.from_url(url, connection_class=kind, **options)


def _open_by_sentinels(address: SentinelAddress, options: dict[str, Any]) -> Any:
    given = redis.connection.parse_url(address.server_url)  # type: ignore[no-untyped-call]
    del given["host"]
    is_tls = given.pop("connection_class", None) is not None
    # What is said of the way to Redis (TLS, its authorities) is so on the way to the Sentinels.
    way = {name: value for name, value in given.items() if name.startswith("ssl_")}
    # The next one is asked, and whoever wanted to connect tries again: the library's own ten tries
    # at each would take half a minute.
    timeouts = {
        "socket_connect_timeout": _ASK_S,
        "socket_timeout": _ASK_S,
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    }
    manager = _Sentinels(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs={**way, "ssl": is_tls, **timeouts, **address.login}
    )
    kind = SentinelTlsConnection if is_tls else SentinelConnection
    pool = redis.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]
        address.service, manager, connection_class=kind, **{**options, **given}
    )
    return redis.Redis.from_pool(pool)
