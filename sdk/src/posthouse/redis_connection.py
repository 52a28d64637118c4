"""Connections to a Redis or Valkey that may fail over behind one address.

A failover leaves the old connections open: they go on to a server that has become a read-only
replica, and answers to every write that it is one. What says so is not at fault for a moment, it is
the wrong server; whoever connects anew reaches the right one.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.exceptions

#: What a server says that is (no longer) the one to write to, in the forms of Redis 6 to 8 and of
#: Valkey; within scripts the words come later in the text.
_WRONG_SERVER = re.compile(
    r"READONLY|MASTERDOWN|CLUSTERDOWN|LOADING|NOREPLICAS|instance state changed|"
    r"can't write against a read only replica"
)
_lock = threading.Lock()
#: How often each address led to a wrong server: connections made before are not used again.
_turned: defaultdict[tuple[str, int], int] = defaultdict(int)


def is_wrong_server(error: BaseException) -> bool:
    """Whether this answer of a server means that another one has to be asked."""
    kinds = (
        redis.exceptions.ReadOnlyError,
        redis.exceptions.MasterDownError,
        redis.exceptions.ClusterDownError,
        redis.exceptions.BusyLoadingError,
    )
    return isinstance(error, kinds) or (
        isinstance(error, redis.exceptions.ResponseError)
        and _WRONG_SERVER.search(str(error)) is not None
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


def open_moving_client(url: str, **options: Any) -> Any:
    """`redis.Redis.from_url` with such connections. Raises ValueError as that does."""
    scheme = urlsplit(url).scheme
    kind = MovingTlsConnection if scheme == "rediss" else MovingConnection
    return redis.Redis.from_url(url, connection_class=kind, **options)
